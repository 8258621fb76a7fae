/*
 * profile -- where the time of a step goes: a record a span of it, a table of them (torc.h:
 * TORC_PROFILE), and a picture (TORC_TRACE).
 *
 *     forward     [ linear ][ relu ]                                         one lane a line,
 *     backward                      [ torc_backward [ relu ][ linear ] ]     one clock for all
 *     moving [.] waiting                                       [ bucket 1 ]
 *     under way                                         [ bucket 1            ]
 *     GPU stream       [ linear  ][ relu ]      [ relu ][    linear     ]
 *     GPU, beside                                              [ bucket 1  ]
 *
 * Words
 *   lane     what kind of thing was done; spans of a lane follow each other, or one is in another
 *   span     from here to there: an op of forward, a node of backward, a wait
 *   frame    a span under way, on a stack; kernels add their work to the one on top
 *   nested   the part of a span that is told by another, within it
 *
 * Forward. An op looks up its tensors first (tensor_of), and records its node last (tape_record),
 * so the two ends of its span are where all ops pass anyway. What a user computes between two ops
 * is in none. An op that records no node, as torc_item(), ends with its last kernel.
 *
 * A GPU. It computes behind the host, whose spans are then the time it takes to ask for kernels.
 * Kernels have spans of their own in a lane of their own, by stamps in the stream; the table adds
 * them to the rows of the ops they belong to. Stamps stand between all kernels: what would send
 * many of them at once (CUDA graphs) is off while recording is on.
 *
 * Off, a call from here is the test of one flag. On, it reads the clock and fills 64 bytes: nothing
 * is formatted, looked up or sent before the end. Frames and kernels are those of the thread that
 * trains, the one that started the profile; others may tell spans beside it (FILL, TRAVEL).
 */
#ifndef TORC_PROFILE_H
#define TORC_PROFILE_H

#include "core/base.h"

#include <stdatomic.h>
#include <string.h>

/* Id, name. In those up to PROFILE_WAIT the trainer's time goes, each moment of it in one once what
 * is nested is taken off. In the others things happen beside it, several at a time. */
#define PROFILE_LANES(X) \
    X(FORWARD, "forward") \
    X(BACKWARD, "backward") \
    X(OPTIMIZER, "optimizer") \
    X(LOADER, "loader") \
    X(MOVE, "moving buckets") \
    X(WAIT, "waiting for ranks") \
    X(FILL, "filling batches") \
    X(TRAVEL, "buckets under way") \
    X(STREAM, "GPU stream") \
    X(BESIDE, "GPU, beside")
#define PROFILE_LANE_ID(id, name) PROFILE_##id,
typedef enum profile_lane { PROFILE_LANES(PROFILE_LANE_ID) PROFILE_LANE_COUNT } profile_lane;

static inline bool profile_is_trainers(profile_lane lane)
{
    return lane <= PROFILE_WAIT;
}

typedef struct profile_record {
    double begin, end;    /* torc_seconds() */
    torc_site at;         /* the user's; file NULL: none, and line tells which bucket */
    const char *name;     /* lives for ever, as at.file does */
    int64_t flops, bytes; /* of its kernels */
    float nested;         /* seconds */
    uint8_t lane;
    uint8_t of, kernel; /* of a span of STREAM: its op's lane, and which kernel it is */
    bool low;           /* the flops are those of products of bf16 or f16 */
} profile_record;
_Static_assert(sizeof(profile_record) == 64, "a span is one cache line");

/* The optimizer's whole step, as it is told. */
static inline bool profile_is_step(const profile_record *r)
{
    return r->lane == PROFILE_OPTIMIZER && !strcmp(r->name, "torc_step");
}

/* ---- where things happen: one line each; nothing when off ---- */

extern atomic_bool profile_on;

static inline bool profile_is_on(void)
{
    return __builtin_expect(atomic_load_explicit(&profile_on, memory_order_relaxed), 0);
}

void profiling_op_begins(torc_site at, const char *op);
void profiling_op_ends(torc_site at, const char *op);
void profiling_enter(profile_lane lane, torc_site at, const char *name);
void profiling_leave(void);
void profiling_span(profile_lane lane, torc_site at, const char *name, double begin, double end);

/* An op of forward. The second begin of an op that is under way is none. */
static inline void profile_op_begins(torc_site at, const char *op)
{
    if (profile_is_on())
        profiling_op_begins(at, op);
}

static inline void profile_op_ends(torc_site at, const char *op)
{
    if (profile_is_on())
        profiling_op_ends(at, op);
}

/* Anything else that begins and ends in one function; it may hold others. */
static inline void profile_enter(profile_lane lane, torc_site at, const char *name)
{
    if (profile_is_on())
        profiling_enter(lane, at, name);
}

static inline void profile_leave(void)
{
    if (profile_is_on())
        profiling_leave();
}

/* What is over already, and began at a moment that profile_clock() gave: 0 when it was off then,
 * and so is nothing now. */
static inline double profile_clock(void)
{
    return profile_is_on() ? torc_seconds() : 0;
}

static inline void profile_span(profile_lane lane, torc_site at, const char *name, double begin,
                                double end)
{
    if (profile_is_on() && begin != 0 && end >= begin)
        profiling_span(lane, at, name, begin, end);
}

/* What a GPU does in the stream beside that of its kernels, with so many bytes: the calls stand
 * where that stream's work is asked for. */
void profiling_beside_begins(torc_site which, const char *name);
void profiling_beside_ends(int64_t bytes);

static inline void profile_beside_begins(torc_site which, const char *name)
{
    if (profile_is_on())
        profiling_beside_begins(which, name);
}

static inline void profile_beside_ends(int64_t bytes)
{
    if (profile_is_on())
        profiling_beside_ends(bytes);
}

/* Where a bucket stands for a line of the user's. */
static inline torc_site profile_bucket(int i)
{
    return (torc_site){NULL, i};
}

struct kernels;
/* The table whose kernels tell the frame on top what they did, and then are those of `plain`. */
const struct kernels *profile_kernels(const struct kernels *plain);
void profile_kernel_begins(int kernel);
void profile_kernel_ends(int64_t flops, int64_t bytes, bool low);

const char *profile_kernel_name(int kernel);

/* ---- the stream of a device that works behind the host: profile_stream.c ---- */

/* False, and nothing else is called, where there is none. */
bool profile_stream_start(void);
void profile_stream_begins(const profile_record *frame, int kernel);
void profile_stream_ends(int64_t flops, int64_t bytes, bool low);
/* The number of the next kernel; and those from `first` on that are nobody's yet are `frame`'s. */
int64_t profile_stream_next(void);
void profile_stream_name(int64_t first, const profile_record *frame);
/* The same beside the kernels. */
void profile_stream_beside(torc_site which, const char *name);
void profile_stream_beside_ends(int64_t bytes);
/* The oldest of either that was not read yet; false: there is none, or none that has ended. all:
 * waits for it. It also waits where there is no room for one more. */
bool profile_stream_read(bool all, profile_record *r);
/* Waits until the device has come by a stamp (core/device.h). */
void profile_wait_for(int stamp);

/* ---- the job's side ---- */

/* What the environment asks for. Nothing when neither variable is set. */
void profile_start_if_asked(void);
/* Ends the recording, if there is one, and prints its table if one was asked for. */
void profile_finish(void);
/* Where TORC_TRACE wants the trace; NULL: nowhere. */
const char *profile_trace_path(void);
/* Lets go of every span. */
void profile_forget(void);

/* ---- what is made of it ---- */

/* All spans that are kept, those of a thread in the order in which they were told: the array is the
 * caller's to free(). */
const profile_record **profile_records(int64_t *count);
const char *profile_lane_name(profile_lane lane);

/* The spans of this rank as JSON objects of the Trace Event Format, each followed by ",\n", handed
 * to `put` in pieces of up to PROFILE_PIECE bytes. Times are shifted by `shift` seconds and count
 * from `origin`. */
enum { PROFILE_PIECE = 1 << 18 };
typedef void (*profile_put)(void *context, const char *text, size_t bytes);
void profile_write_events(int rank, const char *host, double shift, double origin, profile_put put,
                          void *context);

/* The table: rows are added up from spans as they come. With `settled` it forgets, when the first
 * step is over, what was before: a program that gets ready, and a step that finds nothing ready. */
typedef struct profile_table profile_table;
profile_table *profile_table_new(bool settled);
void profile_table_add(profile_table *t, const profile_record *r, int64_t count);
void profile_table_print(profile_table *t);
void profile_table_free(profile_table *t);

/* What this rank's GPU can do, or this machine with all of this rank's threads: measured once, in
 * some 60 ms, on a GPU 300. */
typedef struct profile_limits {
    double flops, bytes; /* a second: f32 products, and reading and writing of memory */
    double low_flops;    /* bf16 or f16 products; 0 where the device has no instructions for them */
} profile_limits;
const profile_limits *profile_measure(void);

#endif
