/* standing -- see standing.h. */
#define _GNU_SOURCE /* sigabbrev_np, memrchr */
#include "launcher/standing.h"

#include "launcher/json_put.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double standing_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- from the ranks ---- */

/* Of "step 12, backward of torc_matmul at train.c:41, 0.3 s ago" the middle: the step and the age
 * are numbers of their own here. */
static void note_doing(standing_rank *to, const text *seen)
{
    const char *start = seen->bytes, *end = start + seen->used;
    const char *first = seen->used ? memchr(start, ',', seen->used) : NULL;
    const char *last = seen->used ? memrchr(start, ',', seen->used) : NULL;
    if (!first || last <= first || first + 2 >= end)
        return;
    snprintf(to->doing, sizeof to->doing, "%.*s", (int)(last - first - 2), first + 2);
}

static void note_end(standing_rank *to, const rank *r)
{
    const char *name = sigabbrev_np(r->end.signal);
    to->over = 1;
    if (r->state == RANK_LOST)
        snprintf(to->doing, sizeof to->doing, "lost");
    else if (r->end.signal)
        snprintf(to->doing, sizeof to->doing, "ended by signal %d (%s%s)", r->end.signal,
                 name ? "SIG" : "", name ? name : "no name");
    else
        snprintf(to->doing, sizeof to->doing, "ended with exit code %d", r->end.code);
}

static void note_rank(standing_rank *to, const rank *r)
{
    const figures *f = &r->figures;
    *to = (standing_rank){.pid = r->pid,
                          .step = r->step,
                          .rate = f->rate,
                          .waiting = f->waiting,
                          .tensors = f->tensors,
                          .resident = f->resident,
                          .age = NAN};
    memcpy(to->host, r->host, sizeof to->host);
    memcpy(to->loss, f->loss, sizeof to->loss);
    if (r->state == RANK_HERE) {
        to->age = fmax(0, torc_seconds() - r->alive);
        note_doing(to, &r->seen);
    } else if (r->state == RANK_AWAITED)
        snprintf(to->doing, sizeof to->doing, "not started yet");
    else
        note_end(to, r);
}

void standing_note(standing *s, const ranks *all)
{
    s->of = base_grow(s->of, (size_t)all->n, sizeof *s->of);
    s->n = all->n;
    s->failed = all->first_failure;
    for (int r = 0; r < all->n; r++)
        note_rank(&s->of[r], &all->of[r]);
}

/* ---- to JSON ---- */

#define PUT_TEXT(name, size) json_put_string(out, #name, s->name);
#define PUT_WHOLE(name) json_put_int(out, #name, s->name);
#define PUT_NUMBER(name) json_put_number(out, #name, s->name);

static void write_rank(const standing_rank *s, text *out)
{
    json_put_open(out, NULL, '{');
    STANDING_RANK(PUT_TEXT, PUT_WHOLE, PUT_NUMBER)
    json_put_close(out, '}');
}

void standing_write(const standing *s, text *out)
{
    json_put_open(out, NULL, '{');
    STANDING_RUN(PUT_TEXT, PUT_WHOLE, PUT_NUMBER)
    json_put_open(out, "ranks", '[');
    for (int r = 0; r < s->n; r++)
        write_rank(&s->of[r], out);
    json_put_close(out, ']');
    json_put_close(out, '}');
    text_add(out, "\n", 1);
}

/* ---- from JSON ---- */

static bool missing(const char *name)
{
    fail(TORC_ERR_FORMAT, "\"%s\" is missing, or of another kind", name);
    return false;
}

static bool take_text(const json_t *from, const char *name, char *to, size_t size)
{
    const char *value = json_string_value(json_object_get(from, name));
    if (!value)
        return missing(name);
    snprintf(to, size, "%s", value);
    return true;
}

static bool take_whole(const json_t *from, const char *name, int64_t *to)
{
    const json_t *value = json_object_get(from, name);
    *to = json_integer_value(value);
    return json_is_integer(value) || missing(name);
}

static bool take_number(const json_t *from, const char *name, double *to)
{
    const json_t *value = json_object_get(from, name);
    *to = json_is_null(value) ? NAN : json_number_value(value);
    return json_is_null(value) || json_is_number(value) || missing(name);
}

#define TAKE_TEXT(name, size) fine = fine && take_text(from, #name, s->name, size);
#define TAKE_WHOLE(name) fine = fine && take_whole(from, #name, &s->name);
#define TAKE_NUMBER(name) fine = fine && take_number(from, #name, &s->name);

static bool take_rank(const json_t *from, standing_rank *s)
{
    bool fine = true;
    STANDING_RANK(TAKE_TEXT, TAKE_WHOLE, TAKE_NUMBER)
    return fine;
}

static bool take(const json_t *from, standing *s)
{
    const json_t *list = json_object_get(from, "ranks");
    bool fine = json_is_array(list) || missing("ranks");
    STANDING_RUN(TAKE_TEXT, TAKE_WHOLE, TAKE_NUMBER)
    s->n = fine ? (int)json_array_size(list) : 0;
    s->of = base_alloc((size_t)s->n, sizeof *s->of);
    for (int r = 0; r < s->n; r++)
        fine = fine && take_rank(json_array_get(list, (size_t)r), &s->of[r]);
    return fine;
}

bool standing_read(standing *s, const char *bytes, size_t n)
{
    json_error_t error;
    json_t *all = json_loadb(bytes, n, 0, &error);
    *s = (standing){0};
    if (!all)
        fail(TORC_ERR_FORMAT, "line %d: %s", error.line, error.text);
    bool fine = all && take(all, s);
    json_decref(all);
    if (!fine)
        standing_free(s);
    return fine;
}

void standing_free(standing *s)
{
    free(s->of);
    *s = (standing){0};
}
