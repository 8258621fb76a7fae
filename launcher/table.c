/* table -- see table.h. */
#define _GNU_SOURCE /* qsort_r */
#include "launcher/table.h"

#include "launcher/say.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 72, DOING_LEAST = 16 };
static const double worrying_age = 3; /* seconds: a beat a second, late by two */

/* ---- numbers as people read them ---- */

static void put_count(char cell[CELL], int64_t n)
{
    snprintf(cell, CELL, n < 0 ? "-" : "%lld", (long long)n);
}

/* 0.0312, 1.25, 12.3, 4711 */
static void put_rate(char cell[CELL], double rate)
{
    if (isnan(rate))
        strcpy(cell, "-");
    else
        snprintf(cell, CELL, rate < 99.95 ? "%.3g" : "%.0f", rate);
}

static void put_share(char cell[CELL], double share)
{
    if (isnan(share))
        strcpy(cell, "-");
    else
        snprintf(cell, CELL, "%.1f%%", 100 * share);
}

static void put_bytes(char cell[CELL], int64_t n)
{
    static const char units[] = " kMGTPE";
    double value = (double)n;
    int unit = 0;
    for (; value >= 999.5; value /= 1000)
        unit++;
    if (n < 0)
        strcpy(cell, "-");
    else
        snprintf(cell, CELL, "%.3g%.*s", value, unit > 0, &units[unit]);
}

static void put_age(char cell[CELL], double seconds)
{
    if (isnan(seconds))
        strcpy(cell, "-");
    else if (seconds < 100)
        snprintf(cell, CELL, seconds < 9.95 ? "%.1fs" : "%.0fs", seconds);
    else
        snprintf(cell, CELL, seconds < 6000 ? "%.0fm" : "%.0fh",
                 seconds / (seconds < 6000 ? 60 : 3600));
}

/* ---- columns ---- */

/* The title, the place in the order in which columns go (0: never), and what fills the cell of rank
 * `r`. */
#define COLUMNS(X) \
    X("rank", 0, put_count(cell, r)) \
    X("host", 3, snprintf(cell, CELL, "%s", s->host[0] ? s->host : "-")) \
    X("step", 0, put_count(cell, s->step)) \
    X("steps/s", 6, put_rate(cell, s->rate)) \
    X("loss", 5, snprintf(cell, CELL, "%s", s->loss)) \
    X("comm", 4, put_share(cell, s->waiting)) \
    X("tensors", 1, put_bytes(cell, s->tensors)) \
    X("rss", 2, put_bytes(cell, s->resident)) \
    X("beat", 7, put_age(cell, s->age))

#define COLUMN_TITLE(title, place, fill) title,
#define COLUMN_PLACE(title, place, fill) place,
static const char *const titles[] = {COLUMNS(COLUMN_TITLE)};
static const int places[] = {COLUMNS(COLUMN_PLACE)};
enum { COUNT = ARRAY_LENGTH(places), HOST = 1 /* the one that stands to the left */ };

typedef char cells[COUNT][CELL];

static void fill_cells(cells all, const standing_rank *s, int r)
{
    char *cell = all[0];
#define COLUMN_FILL(title, place, fill) \
    fill; \
    cell += CELL;
    COLUMNS(COLUMN_FILL)
}

/* ---- lines ---- */

/* Names come from users: what is no character of one column must not reach a terminal. A byte that
 * goes on with an UTF-8 character takes no column of its own. */
static void add_line(text *out, const text *line, int width)
{
    int columns = 0;
    for (size_t i = 0; i < line->used; i++) {
        unsigned char c = (unsigned char)line->bytes[i];
        columns += (c & 0xc0) != 0x80;
        if (width > 0 && columns > width)
            break;
        text_add(out, c < 0x20 || c == 0x7f ? "?" : (char *)&c, 1);
    }
    text_add(out, "\n", 1);
}

static void add_row(text *out, cells all, const int *width, const char *doing, int limit)
{
    text line = {0};
    for (int i = 0; i < COUNT; i++)
        if (width[i])
            text_format(&line, i == HOST ? "%-*s  " : "%*s  ", width[i], all[i]);
    text_format(&line, "%s", doing);
    while (line.used > 0 && line.bytes[line.used - 1] == ' ')
        line.used--;
    add_line(out, &line, limit);
    text_free(&line);
}

/* ---- what fits ---- */

/* Those that need a look come first: over or quiet, then behind, and among equals the one that the
 * others wait for, which itself waits least. */
static int by_need(const void *a, const void *b, void *of)
{
    const standing_rank *all = of, *x = &all[*(const int *)a], *y = &all[*(const int *)b];
    double ages[] = {x->age > worrying_age ? x->age : 0, y->age > worrying_age ? y->age : 0};
    if (x->over != y->over)
        return x->over ? -1 : 1;
    if (ages[0] != ages[1])
        return ages[0] > ages[1] ? -1 : 1;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    if (x->waiting < y->waiting || x->waiting > y->waiting)
        return x->waiting < y->waiting ? -1 : 1;
    return *(const int *)a - *(const int *)b;
}

/* The ranks to be shown, in order; the caller's to free(). */
static int *choose_ranks(const standing *s, int room, int *shown)
{
    int *order = base_alloc((size_t)s->n, sizeof *order);
    for (int r = 0; r < s->n; r++)
        order[r] = r;
    *shown = s->n;
    if (room >= s->n)
        return order;
    *shown = (int)max_i64(0, room - 1); /* and the line that tells how many are not */
    qsort_r(order, (size_t)s->n, sizeof *order, by_need, s->of);
    return order;
}

static void measure(const standing *s, const int *order, int shown, int *width)
{
    cells all;
    for (int i = 0; i < COUNT; i++)
        width[i] = (int)strlen(titles[i]);
    for (int k = 0; k < shown; k++) {
        fill_cells(all, &s->of[order[k]], order[k]);
        for (int i = 0; i < COUNT; i++)
            width[i] = (int)max_i64(width[i], (int64_t)strlen(all[i]));
    }
}

static void drop_columns(int *width, int limit)
{
    for (int place = 1; place <= COUNT; place++) {
        int used = 0;
        for (int i = 0; i < COUNT; i++)
            used += width[i] ? width[i] + 2 : 0;
        if (used + DOING_LEAST <= limit)
            return;
        for (int i = 0; i < COUNT; i++)
            if (places[i] == place)
                width[i] = 0;
    }
}

/* ---- the table ---- */

static void add_time(text *out, double seconds)
{
    long long s = (long long)fmax(0, seconds);
    text_format(out, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

void table_head(const standing *s, double now, text *out)
{
    bool over = s->code >= 0;
    text_format(out, "%s on %s: attempt %lld, %d rank%s, ", s->run, s->host, (long long)s->attempt,
                s->n, s->n == 1 ? "" : "s");
    if (!isnan(s->again_at))
        text_format(out, "restarting in %.0f s, ", fmax(0, s->again_at - now));
    text_format(out, "%lld restart%s left, %s ", (long long)s->restarts_left,
                s->restarts_left == 1 ? "" : "s", over ? "ran for" : "started");
    add_time(out, (over ? s->written : now) - s->started);
    text_format(out, over ? "" : " ago");
}

void table_draw(const standing *s, int width, int height, double now, text *out)
{
    cells all;
    int widths[COUNT], shown, room = height > 0 ? height - 2 : s->n;
    int *order = choose_ranks(s, room, &shown);
    text head = {0};
    table_head(s, now, &head);
    add_line(out, &head, width);
    text_free(&head);
    measure(s, order, shown, widths);
    if (width > 0)
        drop_columns(widths, width);
    for (int i = 0; i < COUNT; i++)
        strcpy(all[i], titles[i]);
    add_row(out, all, widths, "doing", width);
    for (int k = 0; k < shown; k++) {
        const standing_rank *one = &s->of[order[k]];
        fill_cells(all, one, order[k]);
        add_row(out, all, widths, one->doing, width);
    }
    if (shown < s->n)
        text_format(out, "%d more\n", s->n - shown);
    free(order);
}

void table_end(const standing *s, text *out)
{
    long long code = s->code;
    text_format(out, "the run is over: ");
    if (code == 0)
        text_format(out, "all ranks finished");
    else if (code == EXIT_AGAIN)
        text_format(out, "its ranks have saved their work and want to go on (exit code %lld)",
                    code);
    else
        text_format(out, "exit code %lld", code);
    if (code != 0 && code != EXIT_AGAIN && s->failed >= 0 && s->failed < s->n)
        text_format(out, "; rank %lld on host %s failed first", (long long)s->failed,
                    s->of[s->failed].host);
}
