/*
 * launcher_helpers -- running the torcrun that was just built, from a shell command.
 *
 * TORC_BIN names its folder; `make test` sets it. Programs are lines of shell: a rank that fails is
 * one that looks at its number.
 */
#ifndef TESTS_LAUNCHER_HELPERS_H
#define TESTS_LAUNCHER_HELPERS_H

#include "tests/harness.h"

#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RANK "$OMPI_COMM_WORLD_RANK"
/* Waits until two ranks have written a line each to the file `up`. */
#define UNTIL_UP "until [ -e up ] && [ $(wc -l < up) -ge 2 ]; do sleep 0.02; done; "

static char output[65536]; /* of the last run(), stdout and stderr together */

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs a shell command with torcrun, which shows the stdout of all ranks, and the case's own
 * programs before all others, in PATH. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    const char *folder = getenv("TORC_BIN");
    if (!folder)
        test_skip("TORC_BIN does not say where torcrun is");
    char command[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return test_command(
        40, output, sizeof output,
        "export NAP=30.%d TORC_CONSOLE_RANKS=all PATH='%s':'%s':\"$PATH\"; cd '%s'; %s",
        (int)getpid(), test_path("."), folder, test_path("."), command);
}

/* The processes whose command line begins with `start` and has `piece` in it. (A zombie has none.
 * ps and pgrep are not in every Debian.) */
static inline int count_processes(const char *start, const char *piece)
{
    int n = 0;
    glob_t found;
    if (glob("/proc/[0-9]*/cmdline", 0, NULL, &found) != 0)
        return -1;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char line[4096];
        FILE *f = fopen(found.gl_pathv[i], "r"); /* it may have gone since */
        size_t length = f ? fread(line, 1, sizeof line - 1, f) : 0;
        if (f)
            fclose(f);
        for (size_t k = 0; k < length; k++)
            line[k] = line[k] ? line[k] : ' ';
        line[length] = 0;
        n += !strncmp(line, start, strlen(start)) && strstr(line, piece);
    }
    globfree(&found);
    return n;
}

/* `sleep $NAP` is a sleep that no other case has, run beside this one or before: how many of them
 * are left says what a job left behind. */
static inline int count_naps(void)
{
    char nap[32];
    snprintf(nap, sizeof nap, "30.%d ", (int)getpid());
    return count_processes("sleep ", nap);
}

/* A program of the case's own: `text` is all of the file. */
static inline void write_program(const char *name, const char *text)
{
    FILE *f = fopen(test_path(name), "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
    CHECK_INT(chmod(test_path(name), 0755), 0);
}

static inline int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

#define CHECK_SAYS(piece) \
    test_check(strstr(output, piece), __FILE__, __LINE__, "\"%s\" is not in\n%s", piece, output)
#define CHECK_SAYS_NOT(piece) \
    test_check(!strstr(output, piece), __FILE__, __LINE__, "\"%s\" is in\n%s", piece, output)

#endif
