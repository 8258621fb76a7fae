/*
 * profile -- the stack of frames and the memory of records; see profile.h.
 *
 * Records lie in chunks. Where a trace is wanted chunks are added until there are MOST_CHUNKS;
 * where only the table is, one chunk is added up into its rows whenever it is full, and used again:
 * a job of a week needs no more than one of a minute.
 *
 * The frames and the chunks are the trainer's, the thread that started it all: it takes no lock.
 * What another thread tells waits in a list with one, until the trainer next changes chunks.
 */
#include "core/profile.h"

#include "core/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4096 /* records: 256 KiB */, MOST_CHUNKS = 1024, DEPTH = 64 };

typedef struct chunk {
    struct chunk *next;
    int64_t used;
    profile_record record[CHUNK];
} chunk;

typedef struct frame {
    profile_record r; /* .end is that of its last kernel */
    int64_t kernel;   /* the first one of a stream that may be its own */
    bool op;          /* of forward: another op may take its place */
    bool worked;      /* some kernel has run */
} frame;

static struct {
    chunk *first, *last;
    int64_t chunks, lost;
    bool keeps, prints;
    bool stream, stepped; /* kernels run behind the host; one step is over */
    profile_table *table;
    frame stack[DEPTH];
    int depth;
} profile;

static struct {
    pthread_mutex_t lock;
    profile_record *record;
    int64_t count, room;
} others = {.lock = PTHREAD_MUTEX_INITIALIZER};

atomic_bool profile_on;
static _Thread_local bool is_trainer;

/* ---- records ---- */

static chunk *chunk_new(void)
{
    chunk *c = base_alloc(1, sizeof *c);
    if (profile.last)
        profile.last->next = c;
    else
        profile.first = c;
    profile.last = c;
    profile.chunks++;
    return c;
}

/* The chunk is full, or recording ends. */
static void add_up(chunk *c)
{
    if (profile.prints)
        profile_table_add(profile.table, c->record, c->used);
}

static chunk *next_chunk(void)
{
    chunk *c = profile.last;
    add_up(c);
    if (profile.keeps && profile.chunks < MOST_CHUNKS)
        return chunk_new();
    profile.lost += profile.keeps ? c->used : 0;
    c->used = 0;
    return c;
}

static void take_from_others(void);

static void record(const profile_record *r)
{
    if (profile.last->used == CHUNK) {
        next_chunk();
        take_from_others();
    }
    profile.last->record[profile.last->used++] = *r;
}

static void record_of_other(const profile_record *r)
{
    pthread_mutex_lock(&others.lock);
    if (others.count == others.room) {
        others.room = others.room ? 2 * others.room : 64;
        others.record = base_grow(others.record, (size_t)others.room, sizeof *r);
    }
    others.record[others.count++] = *r;
    pthread_mutex_unlock(&others.lock);
}

/* The whole list; the caller's to free(). */
static profile_record *told_by_others(int64_t *count)
{
    pthread_mutex_lock(&others.lock);
    profile_record *told = others.record;
    *count = others.count;
    others.record = NULL;
    others.count = others.room = 0;
    pthread_mutex_unlock(&others.lock);
    return told;
}

/* Recording what is in the list may fill a chunk; then there is nothing to take but this. */
static void take_from_others(void)
{
    static bool taking;
    if (taking)
        return;
    taking = true;
    int64_t count;
    profile_record *taken = told_by_others(&count);
    for (int64_t i = 0; i < count; i++)
        record(&taken[i]);
    free(taken);
    taking = false;
}

const profile_record **profile_records(int64_t *count)
{
    int64_t n = 0;
    for (chunk *c = profile.first; c; c = c->next)
        n += c->used;
    const profile_record **all = base_alloc((size_t)n, sizeof *all);
    *count = 0;
    for (chunk *c = profile.first; c; c = c->next)
        for (int64_t i = 0; i < c->used; i++)
            all[(*count)++] = &c->record[i];
    return all;
}

/* ---- frames ---- */

static frame *top(void)
{
    return profile.depth > 0 ? &profile.stack[profile.depth - 1] : NULL;
}

static void push(profile_lane lane, torc_site at, const char *name, bool op)
{
    if (profile.depth == DEPTH)
        bug("%d spans within each other at %s", DEPTH, name);
    profile.stack[profile.depth++] =
        (frame){.r = {.begin = torc_seconds(), .at = at, .name = name, .lane = (uint8_t)lane},
                .kernel = profile_stream_next(),
                .op = op};
}

/* What was told by a span of the trainer's lanes is no longer to be told by the one around it. */
static void tell_outer(const profile_record *r)
{
    if (top() && profile_is_trainers(r->lane))
        top()->r.nested += (float)(r->end - r->begin);
}

/* Who waits breathes, and so may move gradients with kernels of their own: these take nothing. */
static void take_from_stream(bool all)
{
    static bool taking;
    if (!profile.stream || taking)
        return;
    taking = true;
    for (profile_record r; profile_stream_read(all, &r);)
        record(&r);
    taking = false;
}

/* After the first step the stream is waited for: what is forgotten then, and what the time of a
 * step is counted from, is the same on both sides. */
static double end_of_step(double end)
{
    if (!profile.stream || profile.stepped)
        return end;
    profile.stepped = true;
    take_from_stream(true);
    return torc_seconds();
}

static void pop(double end)
{
    frame *f = &profile.stack[--profile.depth];
    if (profile.stream)
        profile_stream_name(f->kernel, &f->r);
    f->r.end = profile_is_step(&f->r) ? end_of_step(end) : end;
    record(&f->r);
    tell_outer(&f->r);
}

/* An op of forward that another follows, or something else, without a node in between. */
static void end_op(void)
{
    if (top() && top()->op && top()->worked)
        pop(top()->r.end);
    else if (top() && top()->op)
        profile.depth--;
}

void profiling_enter(profile_lane lane, torc_site at, const char *name)
{
    end_op();
    push(lane, at, name, false);
}

/* Recording may have begun inside: then there is nothing to leave. */
void profiling_leave(void)
{
    end_op();
    if (top())
        pop(torc_seconds());
}

void profiling_span(profile_lane lane, torc_site at, const char *name, double begin, double end)
{
    profile_record r = {.begin = begin, .end = end, .at = at, .name = name, .lane = (uint8_t)lane};
    if (!is_trainer) {
        record_of_other(&r);
        return;
    }
    record(&r);
    tell_outer(&r);
}

/* Several may begin before one does something: an op calls another, or checks its input with it.
 * They are one span then, of whoever records its node. Inside of another frame (a node of backward)
 * the work is that frame's. */
void profiling_op_begins(torc_site at, const char *op)
{
    frame *f = top();
    if (f && !f->op)
        return;
    bool same_place = f && f->r.at.line == at.line && f->r.at.file == at.file;
    if (same_place && f->r.name == op)
        return;
    if (same_place && !f->worked) {
        f->r.name = op;
        return;
    }
    end_op();
    push(PROFILE_FORWARD, at, op, true);
}

void profiling_op_ends(torc_site at, const char *op)
{
    frame *f = top();
    if (!f || !f->op)
        return;
    f->r.at = at;
    f->r.name = op;
    pop(torc_seconds());
}

/* ---- kernels ---- */

/* One that nobody announced, as those that fill a new tensor, is an op of its own. One of another
 * thread belongs to no frame. */
void profile_kernel_begins(int kernel)
{
    if (!is_trainer)
        return;
    if (!top())
        push(PROFILE_FORWARD, (torc_site){NULL, 0}, "(other)", true);
    if (!profile.stream)
        return;
    take_from_stream(false);
    profile_stream_begins(&top()->r, kernel);
}

void profile_kernel_ends(int64_t flops, int64_t bytes, bool low)
{
    frame *f = is_trainer ? top() : NULL;
    if (!f)
        return;
    if (profile.stream)
        profile_stream_ends(flops, bytes, low);
    f->worked = true;
    f->r.flops += flops;
    f->r.bytes += bytes;
    f->r.low = f->r.low || low;
    if (f->op)
        f->r.end = torc_seconds();
}

void profiling_beside_begins(torc_site which, const char *name)
{
    if (!is_trainer || !profile.stream)
        return;
    take_from_stream(false);
    profile_stream_beside(which, name);
}

void profiling_beside_ends(int64_t bytes)
{
    if (is_trainer && profile.stream)
        profile_stream_beside_ends(bytes);
}

/* ---- beginning and end ---- */

const char *profile_trace_path(void)
{
    const char *path = getenv("TORC_TRACE");
    return path && *path ? path : NULL;
}

void profile_forget(void)
{
    for (chunk *c = profile.first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    int64_t count;
    free(told_by_others(&count));
    profile_table_free(profile.table);
    profile.first = profile.last = NULL;
    profile.table = NULL;
    profile.chunks = profile.lost = 0;
    profile.depth = 0;
}

static void start(bool prints, bool settled)
{
    profile_forget();
    if (prints) {
        profile_measure();
        profile.table = profile_table_new(settled);
    }
    profile.prints = prints;
    profile.stepped = false;
    profile.stream = profile_stream_start();
    profile.keeps = profile_trace_path() != NULL;
    chunk_new();
    is_trainer = true;
    atomic_store(&profile_on, true);
}

void torc_profile_start(torc_site at)
{
    status_op(STATUS_IDLE, at, __func__);
    atomic_store(&profile_on, false);
    start(true, false);
}

void profile_start_if_asked(void)
{
    bool prints = base_setting_number("TORC_PROFILE", 0, 0, 1) != 0;
    if (prints || profile_trace_path())
        start(prints, true);
}

void profile_finish(void)
{
    if (!profile_is_on())
        return;
    end_op();
    atomic_store(&profile_on, false);
    profile.depth = 0;
    take_from_stream(true);
    take_from_others();
    add_up(profile.last);
    if (profile.prints)
        profile_table_print(profile.table);
    if (profile.lost)
        log_line(LOG_WARN, "the trace lacks %lld of the last spans: there were more than %d",
                 (long long)profile.lost, CHUNK * MOST_CHUNKS);
    if (!profile.keeps)
        profile_forget();
}

void torc_profile_stop(torc_site at)
{
    if (!profile_is_on())
        die_at(at, __func__, "nothing is being recorded: torc_profile_start() comes first");
    profile_finish();
}
