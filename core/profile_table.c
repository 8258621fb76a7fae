/*
 * profile_table -- spans added up: a row for every op and line of the program, forward and backward
 * apart.
 *
 * The floor of a row is the time that its work would take at one of the machine's two roofs
 * (profile_limits.c), the later one: flops over the fastest product of their dtype, or bytes over
 * the memory's rate. Below 1 x floor is what found its numbers in a cache.
 *
 * On a GPU the time of a row is that of its kernels there, and all that is said of it is of that;
 * the host's own time, in which it asks for them, stands beside it.
 */
#include "core/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct row {
    profile_record sum; /* which one it is, and its flops and bytes; without a name: free */
    int64_t calls;
    int64_t low;    /* of the flops: those of bf16 and f16 products */
    double seconds; /* of the trainer, less what is nested */
    double device;  /* of its kernels, where they run behind the host */
} row;

struct profile_table {
    row *row; /* by hash */
    size_t rows, places;
    double begin, end; /* of what the trainer did */
    double first_step, last_step;
    int64_t steps;
    bool settled, on_device;
    double lane[PROFILE_LANE_COUNT]; /* seconds, less what is nested */
};

/* ---- adding up ---- */

static bool same(const profile_record *a, const profile_record *b)
{
    return a->name == b->name && a->at.line == b->at.line && a->at.file == b->at.file &&
           a->lane == b->lane;
}

/* Names and files are literals: their addresses tell them apart. */
static row *place_of(const profile_table *t, const profile_record *r)
{
    uint64_t h = (uint64_t)(uintptr_t)r->name * 0x9E3779B97F4A7C15u;
    h = (h ^ (uint64_t)r->at.line ^ ((uint64_t)r->lane << 32)) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 32) & (t->places - 1);
    while (t->row[i].sum.name && !same(&t->row[i].sum, r))
        i = (i + 1) & (t->places - 1);
    return &t->row[i];
}

static void grow(profile_table *t)
{
    row *old = t->row;
    size_t places = t->places;
    t->places = places ? 2 * places : 256;
    t->row = base_alloc(t->places, sizeof *t->row);
    for (size_t i = 0; i < places; i++)
        if (old[i].sum.name)
            *place_of(t, &old[i].sum) = old[i];
    free(old);
}

/* Of a kernel, too, which may be told before its op. */
static row *row_of(profile_table *t, const profile_record *r)
{
    if (2 * t->rows >= t->places)
        grow(t);
    row *w = place_of(t, r);
    if (!w->sum.name) {
        t->rows++;
        w->sum = *r;
        w->sum.flops = w->sum.bytes = 0;
    }
    return w;
}

static void add_to_row(profile_table *t, const profile_record *r, double seconds)
{
    row *w = row_of(t, r);
    w->calls++;
    w->sum.flops += r->flops;
    w->sum.bytes += r->bytes;
    w->low += r->low ? r->flops : 0;
    w->seconds += seconds;
}

/* Its flops and bytes are in its op's record already. A step ends where its last kernel does. */
static void add_kernel(profile_table *t, const profile_record *r)
{
    profile_record op = *r;
    op.lane = r->of;
    row_of(t, &op)->device += r->end - r->begin;
    t->lane[PROFILE_STREAM] += r->end - r->begin;
    t->end = r->end > t->end ? r->end : t->end;
    t->on_device = true;
    if (t->steps > 0 && profile_is_step(&op) && r->end > t->last_step)
        t->last_step = r->end;
}

profile_table *profile_table_new(bool settled)
{
    profile_table *t = base_alloc(1, sizeof *t);
    t->settled = settled;
    grow(t);
    return t;
}

/* What is told of the time before `now` goes. */
static void forget(profile_table *t, double now)
{
    memset(t->row, 0, t->places * sizeof *t->row);
    memset(t->lane, 0, sizeof t->lane);
    t->rows = 0;
    t->begin = now;
}

static void count_step(profile_table *t, const profile_record *r)
{
    if (!profile_is_step(r))
        return;
    t->last_step = r->end > t->last_step ? r->end : t->last_step;
    if (t->steps++ > 0)
        return;
    t->first_step = r->end;
    if (t->settled)
        forget(t, r->end);
}

void profile_table_add(profile_table *t, const profile_record *r, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (r[i].lane == PROFILE_STREAM) {
            add_kernel(t, &r[i]);
            continue;
        }
        double seconds = r[i].end - r[i].begin - (double)r[i].nested;
        add_to_row(t, &r[i], seconds);
        t->lane[r[i].lane] += seconds;
        if (!profile_is_trainers(r[i].lane))
            continue;
        if (t->begin == 0 || r[i].begin < t->begin)
            t->begin = r[i].begin;
        t->end = r[i].end > t->end ? r[i].end : t->end;
        count_step(t, &r[i]);
    }
}

void profile_table_free(profile_table *t)
{
    if (!t)
        return;
    free(t->row);
    free(t);
}

/* ---- printing ---- */

/* What a row is about: a GPU's time, where it has some, else the host's. */
static double time_of(const row *w)
{
    return w->device > 0 ? w->device : w->seconds;
}

/* Those with a GPU's time first. */
static int by_time(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if ((x->device > 0) != (y->device > 0))
        return y->device > 0 ? 1 : -1;
    return (time_of(x) < time_of(y)) - (time_of(x) > time_of(y));
}

/* The rows without the free places between them. */
static row *sorted(const profile_table *t)
{
    row *all = base_alloc(t->rows + 1, sizeof *all);
    size_t n = 0;
    for (size_t i = 0; i < t->places; i++)
        if (t->row[i].sum.name)
            all[n++] = t->row[i];
    qsort(all, n, sizeof *all, by_time);
    return all;
}

static void where_of(const profile_record *r, char *text, size_t size)
{
    text[0] = 0;
    if (r->at.file)
        snprintf(text, size, "%s", base_site_text(r->at));
    else if (r->lane == PROFILE_TRAVEL || r->lane == PROFILE_WAIT || r->lane == PROFILE_BESIDE)
        snprintf(text, size, "%d", r->at.line);
}

/* A rate, or nothing where there was no such work. */
static void print_rate(FILE *f, int64_t work, double seconds)
{
    if (work > 0 && seconds > 0)
        fprintf(f, "%9.1f", 1e-9 * (double)work / seconds);
    else
        fprintf(f, "%9s", "");
}

static double over(int64_t work, double rate)
{
    return rate > 0 ? (double)work / rate : 0;
}

static void print_floor(FILE *f, const row *w)
{
    const profile_limits *most = profile_measure();
    double compute = over(w->sum.flops - w->low, most->flops) + over(w->low, most->low_flops);
    double move = over(w->sum.bytes, most->bytes);
    double floor = compute > move ? compute : move;
    if (floor > 0 && time_of(w) < 1000 * floor)
        fprintf(f, "%8.1f", time_of(w) / floor);
    else /* hardly any work: its time is that of a call */
        fprintf(f, "%8s", floor > 0 ? ">999" : "");
}

/* On a GPU what has no kernels has a time of the host's alone. */
static void print_row(FILE *f, const profile_table *t, const row *w)
{
    double all = t->end - t->begin;
    bool hosts = t->on_device && w->device == 0;
    char where[64], time[16] = "", share[16] = "beside";
    where_of(&w->sum, where, sizeof where);
    if (hosts)
        strcpy(share, "host");
    else
        snprintf(time, sizeof time, "%.2f", 1e3 * time_of(w));
    if (!hosts && profile_is_trainers(w->sum.lane))
        snprintf(share, sizeof share, "%.1f %%", all > 0 ? 100 * time_of(w) / all : 0);
    fprintf(f, "%-17s %-30.30s %-20.20s %8lld %11s %8s", profile_lane_name(w->sum.lane),
            w->sum.name, where, (long long)w->calls, time, share);
    /* what a wait adds up meanwhile is no measure of it */
    bool works = w->sum.lane != PROFILE_WAIT && !hosts;
    print_rate(f, works ? w->sum.flops : 0, time_of(w));
    print_rate(f, works ? w->sum.bytes : 0, time_of(w));
    if (works)
        print_floor(f, w);
    if (t->on_device)
        fprintf(f, "%*.2f", works ? 12 : 20, 1e3 * w->seconds);
    fprintf(f, "\n");
}

/* The time of a step is that between the ends of the first and of the last. */
static void print_head(FILE *f, const profile_table *t)
{
    const profile_limits *most = profile_measure();
    fprintf(f, "rank %d: %.3f s", base_world()->rank, t->end - t->begin);
    if (t->steps > 1)
        fprintf(f, ", %lld steps of %.3f ms", (long long)t->steps - t->settled,
                1e3 * (t->last_step - t->first_step) / (double)(t->steps - 1));
    fprintf(f, "; this %s: %.1f GF/s in f32 products", t->on_device ? "GPU" : "machine",
            1e-9 * most->flops);
    if (most->low_flops > 0)
        fprintf(f, ", %.1f in bf16", 1e-9 * most->low_flops);
    fprintf(f, ", %.1f GB/s from and to memory\n", 1e-9 * most->bytes);
    fprintf(f, "%-17s %-30s %-20s %8s %11s %8s%9s%9s%8s%s\n", "lane", "op", "where", "calls",
            t->on_device ? "GPU ms" : "ms", "share", "GF/s", "GB/s", "x floor",
            t->on_device ? "     host ms" : "");
}

/* What the trainer spent on communication, on whatever else could not be done meanwhile. */
static void print_tail(FILE *f, const profile_table *t)
{
    double all = t->end - t->begin, told = 0;
    double exposed = t->lane[PROFILE_MOVE] + t->lane[PROFILE_WAIT];
    for (int i = 0; i < PROFILE_LANE_COUNT; i++)
        told += profile_is_trainers((profile_lane)i) ? t->lane[i] : 0;
    if (t->on_device)
        fprintf(f, "the GPU computed: %.2f ms, %.1f %%\n", 1e3 * t->lane[PROFILE_STREAM],
                all > 0 ? 100 * t->lane[PROFILE_STREAM] / all : 0);
    fprintf(f, "outside of torc: %.2f ms, %.1f %%\n", 1e3 * (all - told),
            all > 0 ? 100 * (all - told) / all : 0);
    fprintf(f, "exposed communication: %.2f ms, %.1f %% (waiting %.2f, moving %.2f)\n",
            1e3 * exposed, all > 0 ? 100 * exposed / all : 0, 1e3 * t->lane[PROFILE_WAIT],
            1e3 * t->lane[PROFILE_MOVE]);
}

/* In one write, so that the tables of several ranks stay whole. */
void profile_table_print(profile_table *t)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f || !t || t->rows == 0) {
        if (f)
            fclose(f);
        free(text);
        return;
    }
    row *all = sorted(t);
    print_head(f, t);
    for (size_t i = 0; i < t->rows; i++)
        print_row(f, t, &all[i]);
    print_tail(f, t);
    free(all);
    if (fclose(f) == 0)
        fwrite(text, 1, size, stderr);
    free(text);
}
