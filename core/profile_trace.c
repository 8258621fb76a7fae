/*
 * profile_trace -- this rank's spans in the Trace Event Format (Google, "Trace Event Format",
 * 2016), which chrome://tracing and Perfetto open: a process a rank, a thread a lane.
 *
 *     ,{"ph":"X","pid":1,"tid":1000,"ts":12.345,"dur":6.789,"name":"torc_linear","args":{...}}
 *
 * In a lane spans are within each other or apart. Those beside the trainer (buckets under way, the
 * batches of several loaders) may overlap: each goes to the first of its lane's rows that is free.
 */
#include "core/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1000 /* of a lane: numbers of threads are lane * ROWS + row */, LONGEST = 1024 };

typedef struct lane_rows {
    double *end; /* of the last span in each row */
    int rows;
} lane_rows;

typedef struct writer {
    int rank;
    double shift, origin;
    profile_put put;
    void *context;
    char *text;
    size_t used;
    lane_rows lane[PROFILE_LANE_COUNT];
} writer;

const char *profile_lane_name(profile_lane lane)
{
#define LANE_NAME(id, name) name,
    static const char *const names[] = {PROFILE_LANES(LANE_NAME)};
    return names[lane];
}

/* ---- text ---- */

static void flush(writer *w)
{
    if (w->used)
        w->put(w->context, w->text, w->used);
    w->used = 0;
}

PRINTF_LIKE(2, 3) static void print(writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    w->used += (size_t)vsnprintf(w->text + w->used, LONGEST, format, args);
    va_end(args);
    if (w->used > PROFILE_PIECE - LONGEST)
        flush(w);
}

/* The name of a file may hold anything but a slash: what JSON forbids in a string is left out. */
static const char *file_name(const char *path, char *name, size_t size)
{
    size_t n = 0;
    for (const char *c = base_file_name(path); *c && n + 1 < size; c++)
        if ((unsigned char)*c >= ' ' && *c != '"' && *c != '\\')
            name[n++] = *c;
    name[n] = 0;
    return name;
}

/* ---- events ---- */

static void name_thread(writer *w, int lane, int row)
{
    char number[16] = "";
    if (row > 0)
        snprintf(number, sizeof number, " %d", row + 1);
    print(w,
          ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\","
          "\"args\":{\"name\":\"%s%s\"}}",
          w->rank, lane * ROWS + row, profile_lane_name((profile_lane)lane), number);
    print(w,
          ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_sort_index\","
          "\"args\":{\"sort_index\":%d}}",
          w->rank, lane * ROWS + row, lane * ROWS + row);
}

static int row_of(writer *w, const profile_record *r)
{
    lane_rows *l = &w->lane[r->lane];
    int row = 0;
    while (row < l->rows && l->end[row] > r->begin && !profile_is_trainers(r->lane))
        row++;
    if (row == l->rows) {
        l->end = base_grow(l->end, (size_t)++l->rows, sizeof *l->end);
        name_thread(w, (int)r->lane, row);
    }
    l->end[row] = r->end;
    return row;
}

static void print_args(writer *w, const profile_record *r)
{
    char name[256];
    print(w, ",\"args\":{");
    if (r->lane == PROFILE_STREAM)
        print(w, "\"op\":\"%s\",", r->name);
    if (r->at.file)
        print(w, "\"at\":\"%s:%d\"", file_name(r->at.file, name, sizeof name), r->at.line);
    else
        print(w, "\"number\":%d", r->at.line);
    if (r->flops || r->bytes)
        print(w, ",\"flops\":%lld,\"bytes\":%lld", (long long)r->flops, (long long)r->bytes);
    print(w, "}}");
}

/* In whole nanoseconds, so that a span's end is not past the begin of the next by rounding. */
static void print_span(writer *w, const profile_record *r)
{
    int64_t begin = llround(1e9 * (r->begin + w->shift - w->origin));
    int64_t end = llround(1e9 * (r->end + w->shift - w->origin));
    int row = row_of(w, r);
    print(w, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"%s\"",
          w->rank, (int)r->lane * ROWS + row, 1e-3 * (double)begin, 1e-3 * (double)(end - begin),
          r->lane == PROFILE_STREAM ? profile_kernel_name(r->kernel) : r->name);
    print_args(w, r);
}

/* A frame before what is nested in it. */
static int by_begin(const void *a, const void *b)
{
    const profile_record *x = *(const profile_record *const *)a;
    const profile_record *y = *(const profile_record *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end);
}

void profile_write_events(int rank, const char *host, double shift, double origin, profile_put put,
                          void *context)
{
    writer w = {.rank = rank, .shift = shift, .origin = origin, .put = put, .context = context};
    char name[256];
    int64_t count;
    const profile_record **all = profile_records(&count);
    w.text = base_alloc(PROFILE_PIECE, 1);
    qsort(all, (size_t)count, sizeof *all, by_begin);
    print(&w,
          ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\","
          "\"args\":{\"name\":\"rank %d on %s\"}}",
          rank, rank, file_name(host, name, sizeof name));
    print(&w,
          ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\","
          "\"args\":{\"sort_index\":%d}}",
          rank, rank);
    for (int64_t i = 0; i < count; i++)
        print_span(&w, all[i]);
    flush(&w);
    for (int i = 0; i < PROFILE_LANE_COUNT; i++)
        free(w.lane[i].end);
    free(w.text);
    free(all);
}
