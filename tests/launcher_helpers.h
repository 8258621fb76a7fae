/*
 * launcher_helpers -- running the torcrun that was just built, from a shell command.
 *
 * TORC_BIN names its folder; `make test` sets it. Programs are lines of shell: a rank that fails is
 * one that looks at its number.
 */
#ifndef TESTS_LAUNCHER_HELPERS_H
#define TESTS_LAUNCHER_HELPERS_H

#include "tests/harness.h"

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

/* Runs a shell command with torcrun, and the case's own programs before all others, in PATH. */
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
    return test_command(40, output, sizeof output,
                        "export NAP=30.%d PATH='%s':'%s':\"$PATH\"; cd '%s'; %s", (int)getpid(),
                        test_path("."), folder, test_path("."), command);
}

/* `sleep $NAP` is a sleep that no other case has, run beside this one or before: how many of them
 * are left says what a job left behind. */
static inline int count_naps(void)
{
    run("pgrep -xa sleep | grep -c \" $NAP$\"");
    return atoi(output);
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
