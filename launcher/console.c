/* console -- see console.h. */
#include "launcher/console.h"

#include "launcher/say.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double hold_seconds = 0.05;
enum { HELD_MOST = 256 };

/* ---- whose stdout ---- */

static bool read_list(console *c, const char *list)
{
    const char *at = list;
    for (;; at++) {
        int from, to, end = 0, n = c->ranks->n;
        if (sscanf(at, "%6d%n-%6d%n", &from, &end, &to, &end) == 1)
            to = from;
        at += end;
        if (end == 0 || (*at && *at != ',') || from < 0 || to < from || to >= n) {
            fail(TORC_ERR_IO,
                 "--console-ranks takes ranks from 0 to %d like 0,4-7, or all, not "
                 "\"%s\"",
                 n - 1, list);
            return false;
        }
        for (int r = from; r <= to; r++)
            c->shown[r] = true;
        if (!*at)
            return true;
    }
}

bool console_start(console *c, const ranks *all, const char *list, bool prefix)
{
    size_t n = (size_t)all->n;
    *c = (console){.ranks = all, .prefix = prefix};
    c->shown = base_alloc(n, sizeof *c->shown);
    c->rest = base_alloc(n, sizeof *c->rest);
    bool everyone = list && !strcmp(list, "all");
    if (everyone)
        memset(c->shown, true, n * sizeof *c->shown);
    else if (!read_list(c, list ? list : "0"))
        return false;
    int shown = 0;
    for (int r = 0; r < all->n; r++)
        shown += c->shown[r];
    c->raw = shown == 1 && !prefix;
    return true;
}

void console_stdout(console *c, int r, const char *bytes, size_t n, bool newline)
{
    if (!c->shown[r])
        return;
    text *to = c->raw ? &c->out : &c->rest[r];
    text_add(to, bytes, n);
    if (newline)
        text_add(to, "\n", 1);
    if (c->raw || !newline)
        return;
    if (c->prefix)
        text_format(&c->out, "[%s:%d] ", c->ranks->of[r].host, r);
    text_add(&c->out, to->bytes, to->used);
    to->used = 0;
}

/* ---- stderr ---- */

static bool said_by(const held_line *h, int r)
{
    for (int i = 0; i < h->count; i++)
        if (h->ranks[i] == r)
            return true;
    return false;
}

/* The held line that this rank may join; NULL: none. */
static held_line *find(console *c, int r, const char *line, size_t n)
{
    for (int i = c->held_count - 1; i >= 0; i--) {
        held_line *h = &c->held[i];
        if (said_by(h, r))
            return NULL;
        if (h->line.used == n && (n == 0 || !memcmp(h->line.bytes, line, n)))
            return h;
    }
    return NULL;
}

void console_stderr(console *c, int r, const char *line, size_t n)
{
    held_line *h = find(c, r, line, n);
    if (!h) {
        c->held = base_grow(c->held, (size_t)c->held_count + 1, sizeof *c->held);
        h = &c->held[c->held_count++];
        *h = (held_line){.until = torc_seconds() + hold_seconds};
        text_add(&h->line, line, n);
    }
    h->ranks = base_grow(h->ranks, (size_t)h->count + 1, sizeof *h->ranks);
    h->ranks[h->count++] = r;
    if (c->ranks->n == 1 || c->held_count > HELD_MOST)
        console_release(c, true);
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* "[n0:0-3,n1:4] text" */
static void show(console *c, held_line *h)
{
    qsort(h->ranks, (size_t)h->count, sizeof *h->ranks, by_number);
    for (int i = 0, last; i < h->count; i = last + 1) {
        int r = h->ranks[i];
        const char *host = c->ranks->of[r].host;
        bool same = i > 0 && !strcmp(host, c->ranks->of[h->ranks[i - 1]].host);
        for (last = i; last + 1 < h->count && h->ranks[last + 1] == h->ranks[last] + 1 &&
                       !strcmp(host, c->ranks->of[h->ranks[last + 1]].host);)
            last++;
        text_format(&c->err, "%s%s%s%d", i ? "," : "[", same ? "" : host, same ? "" : ":", r);
        if (last > i)
            text_format(&c->err, "-%d", h->ranks[last]);
    }
    text_format(&c->err, "] ");
    text_add(&c->err, h->line.bytes, h->line.used);
    text_add(&c->err, "\n", 1);
    text_free(&h->line);
    free(h->ranks);
}

void console_release(console *c, bool all)
{
    double now = torc_seconds();
    int gone = 0;
    while (gone < c->held_count && (all || c->held[gone].until <= now))
        show(c, &c->held[gone++]);
    if (gone > 0)
        memmove(c->held, c->held + gone, (size_t)(c->held_count - gone) * sizeof *c->held);
    c->held_count -= gone;
}

double console_next(const console *c)
{
    return c->held_count > 0 ? c->held[0].until : INFINITY;
}

/* ---- out ---- */

void console_write(console *c)
{
    say_bytes(STDOUT_FILENO, c->out.bytes, c->out.used);
    say_bytes(STDERR_FILENO, c->err.bytes, c->err.used);
    c->out.used = c->err.used = 0;
}

void console_end(console *c)
{
    for (int r = 0; r < c->ranks->n; r++) {
        if (c->rest[r].used > 0)
            console_stdout(c, r, "", 0, true);
        text_free(&c->rest[r]);
    }
    console_release(c, true);
    console_write(c);
    text_free(&c->out);
    text_free(&c->err);
    free(c->held);
    free(c->shown);
    free(c->rest);
}
