/* text -- see text.h. */
#include "launcher/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_room(text *t, size_t n)
{
    if (t->room - t->used >= n)
        return;
    t->room = 2 * t->room + n;
    t->bytes = base_grow(t->bytes, t->room, 1);
}

void text_add(text *t, const char *bytes, size_t n)
{
    if (n == 0)
        return;
    make_room(t, n);
    memcpy(t->bytes + t->used, bytes, n);
    t->used += n;
}

void text_format_list(text *t, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    make_room(t, (size_t)n + 1); /* vsnprintf ends it with a 0, which is not counted as used */
    vsnprintf(t->bytes + t->used, (size_t)n + 1, format, args);
    t->used += (size_t)n;
}

void text_format(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_format_list(t, format, args);
    va_end(args);
}

void text_free(text *t)
{
    free(t->bytes);
    *t = (text){0};
}

/* ---- quoting ---- */

void text_quote(text *t, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_@%+=:,./-";
    if (*word && strspn(word, plain) == strlen(word)) {
        text_format(t, "%s", word);
        return;
    }
    text_format(t, "'");
    for (const char *c = word; *c; c++)
        if (*c == '\'') /* close, a quote of its own, open again */
            text_format(t, "'\\''");
        else
            text_add(t, c, 1);
    text_format(t, "'");
}

/* ---- lines ---- */

void text_lines(text *rest, const char *bytes, size_t n, size_t limit, line_taker *take,
                void *context)
{
    text_add(rest, bytes, n);
    size_t at = 0;
    for (bool more = rest->used > 0; more;) {
        const char *line = rest->bytes + at;
        size_t left = rest->used - at;
        const char *end = memchr(line, '\n', left);
        size_t length = end ? (size_t)(end - line) : left;
        bool whole = end && length <= limit;
        if (!whole && length <= limit)
            break;
        if (!whole)
            length = limit;
        more = take(context, line, length);
        at += length + (whole ? 1 : 0);
        more = more && at < rest->used;
    }
    if (at > 0)
        memmove(rest->bytes, rest->bytes + at, rest->used - at);
    rest->used -= at;
}
