/*
 * console -- what the terminal shows of the ranks' output.
 *
 *     stdout   rank 0's as it comes; of others whole lines, where --console-ranks asks for them
 *     stderr   everyone's:  [n0:2] text   and, where several say the same within a moment,
 *                           [n0:0-3,n1:4] text
 *
 * Words
 *   held   a line on stderr that waits for the same line of other ranks. Lines are held in the
 *          order in which they came and leave in it. A rank joins a held line only where it has
 *          said nothing since, so that no rank's lines change places.
 */
#ifndef LAUNCHER_CONSOLE_H
#define LAUNCHER_CONSOLE_H

#include "launcher/ranks.h"

typedef struct held_line {
    text line;
    int *ranks; /* [count], in the order in which they said it */
    int count;
    double until; /* torc_seconds() */
} held_line;

typedef struct console {
    const ranks *ranks;
    bool *shown; /* [ranks] whose stdout is */
    text *rest;  /* [ranks] of their stdout: a line that is not ended yet */
    bool raw;    /* one rank is shown, without prefix: every byte as it comes */
    bool prefix;
    text out, err; /* to be written now */
    held_line *held;
    int held_count;
} console;

/* `list` is "0,4-7", "all", or NULL for rank 0. False with a sentence in torc_last_error(). */
bool console_start(console *c, const ranks *all, const char *list, bool prefix);
void console_stdout(console *c, int rank, const char *bytes, size_t n, bool newline);
void console_stderr(console *c, int rank, const char *line, size_t n);
/* Moves held lines whose time has come to .err, or all of them. */
void console_release(console *c, bool all);
double console_next(const console *c); /* when that is due; infinite: nothing is held */
void console_write(console *c);        /* .out to stdout and .err to stderr */
/* The lines that never ended, and then all of it. */
void console_end(console *c);

#endif
