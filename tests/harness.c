/*
 * harness -- see harness.h.
 *
 *     runner (CUnit) -- fork --> case                              TEST, TEST_DIES
 *                    -- fork --> mpirun --> the same program, --here NAME, on every rank TEST_RANKS
 */
#include "tests/harness.h"

#include <CUnit/CUnit.h>
#include <CUnit/TestRun.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SKIPPED 77
#define NOTE "note: " /* how a line begins that is shown in any case */
#define PAST_DEADLINE (-1)
#define OUTPUT_LIMIT (64 * 1024)

static test_case *cases;
static int failures, skipped;
static char self[PATH_MAX], temporary[PATH_MAX];

void test_register(test_case *c)
{
    test_case **end = &cases;
    while (*end)
        end = &(*end)->next;
    *end = c;
}

/* ---- what a body calls ---- */

void test_check(bool ok, const char *file, int line, const char *format, ...)
{
    if (ok)
        return;
    failures++;
    if (failures > 20) /* the first ones tell; thousands only hide them */
        return;
    va_list args;
    va_start(args, format);
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "\n    %s:%d: %s", file, line, text);
}

void test_skip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "skipped: ");
    vfprintf(stderr, format, args);
    va_end(args);
    fflush(NULL);
    _exit(SKIPPED);
}

void test_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "\n" NOTE);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}

bool test_near(double a, double b, double tolerance)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    return a == b || fabs(a - b) <= tolerance * (1 + fabs(b));
}

bool test_same_text(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

const char *test_path(const char *name)
{
    static char paths[8][PATH_MAX + 64];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", temporary, name);
    return path;
}

/* ---- children with a deadline ---- */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double case_seconds(void)
{
    const char *text = getenv("TEST_SECONDS");
    return text ? atof(text) : 60;
}

/* Takes what the child writes until it closes its end or the deadline passes; false then. */
static bool collect(int from, double deadline, char *output, size_t size)
{
    size_t n = 0;
    char rest[4096];
    for (;;) {
        struct pollfd p = {.fd = from, .events = POLLIN};
        double left = deadline - seconds_now();
        if (left <= 0 || poll(&p, 1, (int)(left * 1000) + 1) == 0)
            return output[n] = 0, false;
        ssize_t got =
            n + 1 < size ? read(from, output + n, size - 1 - n) : read(from, rest, sizeof rest);
        if (got <= 0)
            return output[n] = 0, true;
        if (n + 1 < size)
            n += (size_t)got;
    }
}

/* Waits for the child's end until the deadline, then kills its whole group. Returns an exit code,
 * or 128 + signal. */
static int reap(pid_t child, bool in_time, double deadline)
{
    int status = 0;
    while (in_time && waitpid(child, &status, WNOHANG) == 0) {
        in_time = seconds_now() < deadline;
        usleep(1000);
    }
    kill(-child, SIGKILL); /* and whoever it left behind */
    if (!in_time) {
        waitpid(child, &status, 0);
        return PAST_DEADLINE;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t fork_with_pipe(int *from)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        return 0;
    }
    setpgid(child, child);
    close(ends[1]);
    *from = ends[0];
    return child;
}

int test_command(double seconds, char *output, size_t size, const char *format, ...)
{
    char command[8192];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    int from = -1;
    pid_t child = fork_with_pipe(&from);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    double deadline = seconds_now() + seconds;
    bool in_time = collect(from, deadline, output, size);
    close(from);
    int code = reap(child, in_time, deadline);
    return code == PAST_DEADLINE ? 124 : code;
}

/* ---- one case ---- */

static int run_here(const test_case *c)
{
    c->body();
    fflush(NULL);
    return failures ? 1 : 0;
}

static _Noreturn void run_ranks(const test_case *c)
{
    char ranks[16];
    snprintf(ranks, sizeof ranks, "%d", c->ranks);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    setenv("OMPI_MCA_pml", "ob1", 1);
    execlp("mpirun", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, self, "--here",
           c->name, (char *)NULL);
    perror("mpirun");
    _exit(127);
}

static void remove_temporary(void)
{
    char out[256];
    test_command(20, out, sizeof out, "rm -rf '%s'", temporary);
}

/* The ranks of one case share the directory that the runner made. */
static void make_temporary(void)
{
    const char *given = getenv("TEST_TEMPORARY");
    snprintf(temporary, sizeof temporary, "%s", given ? given : "/tmp/torc-test-XXXXXX");
    if (!given && !mkdtemp(temporary))
        perror("mkdtemp");
    setenv("TEST_TEMPORARY", temporary, 1);
}

static const char *verdict(const test_case *c, int code, const char *output)
{
    static char text[256];
    if (code == SKIPPED)
        return NULL;
    if (code == PAST_DEADLINE)
        snprintf(text, sizeof text, "still running after %g s", case_seconds());
    else if (code != c->exit_code)
        snprintf(text, sizeof text, "exit code %d, expected %d", code, c->exit_code);
    else if (c->says && !strstr(output, c->says))
        snprintf(text, sizeof text, "did not say \"%s\"", c->says);
    else
        return NULL;
    return text;
}

static void show_notes(const test_case *c, const char *output)
{
    for (const char *at = output; (at = strstr(at, "\n" NOTE)); at++) {
        const char *text = at + strlen("\n" NOTE);
        fprintf(stderr, "  %s: %.*s\n", c->name, (int)strcspn(text, "\n"), text);
    }
}

static void run_current(void)
{
    const test_case *c = cases;
    while (c && strcmp(c->name, CU_get_current_test()->pName))
        c = c->next;
    static char output[OUTPUT_LIMIT];
    int from = -1;
    make_temporary();
    pid_t child = fork_with_pipe(&from);
    if (child == 0) {
        if (c->ranks)
            run_ranks(c);
        _exit(run_here(c));
    }
    double deadline = seconds_now() + case_seconds();
    bool in_time = collect(from, deadline, output, sizeof output);
    close(from);
    int code = reap(child, in_time, deadline);
    remove_temporary();
    unsetenv("TEST_TEMPORARY");
    const char *wrong = verdict(c, code, output);
    skipped += code == SKIPPED;
    if (!wrong)
        show_notes(c, output);
    if (wrong || code == SKIPPED)
        fprintf(stderr, "\n  %s: %s%s\n", c->name, wrong ? wrong : "", output);
    CU_assertImplementation(!wrong, __LINE__, wrong ? wrong : "", c->name, "", CU_FALSE);
}

int main(int argc, char **argv)
{
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    if (argc == 3 && !strcmp(argv[1], "--here")) {
        make_temporary();
        for (const test_case *c = cases; c; c = c->next)
            if (!strcmp(c->name, argv[2]))
                return run_here(c);
        fprintf(stderr, "no case %s\n", argv[2]);
        return 2;
    }
    const char *name = strrchr(self, '/') + 1;
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite(name, NULL, NULL);
    for (const test_case *c = cases; c; c = c->next)
        if (argc < 2 || strstr(c->name, argv[1]))
            CU_add_test(suite, c->name, run_current);
    double start = seconds_now();
    CU_run_all_tests();
    int failed = (int)CU_get_number_of_tests_failed(), run = (int)CU_get_number_of_tests_run();
    printf("%-24s %d passed, %d failed, %d skipped (%.1f s)\n", name, run - failed - skipped,
           failed, skipped, seconds_now() - start);
    CU_cleanup_registry();
    return failed || run == 0;
}
