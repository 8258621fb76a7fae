/*
 * text -- a buffer of bytes that grows, and whole lines out of a stream of pieces.
 */
#ifndef LAUNCHER_TEXT_H
#define LAUNCHER_TEXT_H

#include "core/base.h"

/* Starts as {0}. Not a C string: nothing ends it, and a byte 0 is a byte like any other. */
typedef struct text {
    char *bytes;
    size_t used, room;
} text;

void text_add(text *t, const char *bytes, size_t n);
void text_format(text *t, const char *format, ...) PRINTF_LIKE(2, 3);
void text_format_list(text *t, const char *format, va_list args) PRINTF_LIKE(2, 0);
void text_free(text *t); /* back to {0} */

/* Adds a word as a shell would have to be given it: as it is, or in single quotes. */
void text_quote(text *t, const char *word);

/* Adds bytes to what is left of earlier ones and hands every whole line, without its newline, to
 * `take`. What has no newline yet stays in `rest`; a line longer than `limit` is handed over in
 * pieces, so that a program that never ends its line cannot take all memory. `take` is not asked
 * again once it says false. */
typedef bool line_taker(void *context, const char *line, size_t length);
void text_lines(text *rest, const char *bytes, size_t n, size_t limit, line_taker *take,
                void *context);

#endif
