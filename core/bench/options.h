/*
 * options -- the command line of a benchmark: one table, from which parsing and --help are made.
 */
#ifndef TORC_BENCH_OPTIONS_H
#define TORC_BENCH_OPTIONS_H

#include "core/base.h"

typedef enum option_kind {
    OPTION_FLAG,    /* bool *: no argument */
    OPTION_COUNT,   /* long *: 1 .. 1000000 */
    OPTION_SECONDS, /* double * */
    OPTION_BYTES,   /* size_t *: K, M and G behind the number are powers of 1024 */
    OPTION_TEXT     /* const char ** */
} option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    void *value;
    const char *help;
} option_row;

/* Sets the values of what argv has; a mistake ends the program with code 64 and a line, --help with
 * `purpose` and the table. */
void options_parse(const char *program, const char *purpose, const option_row *rows, int count,
                   int argc, char **argv);
/* The same for what only the program knows to be a mistake. */
PRINTF_LIKE(2, 3) _Noreturn void options_refuse(const char *program, const char *format, ...);

#endif
