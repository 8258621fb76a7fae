/*
 * profile_stream -- when the kernels of a GPU ran, told behind time.
 *
 *     host      |stamp k1 stamp|stamp k2 stamp|stamp k3 stamp| ...         goes on at once
 *     GPU             [    k1    ]      [ k2 ]   [      k3       ]
 *     pending   | k1 | k2 | k3 | ..   a ring: read, oldest first, when their second stamp is past
 *
 * A stamp has no moment of its own, only a distance to another. The first is the anchor: the host
 * waits for it, and so knows its moment. Later some kernel's end takes its place now and then,
 * because distances are floats, and because the ring uses stamps again.
 *
 * What goes on in the stream beside the kernels', buckets between GPUs or on their way to the host,
 * has a ring of its own, and the same anchor.
 *
 * The two clocks drift apart by some microseconds a second. A kernel neither begins before the host
 * asks for it nor ends after the host has seen that it is past: where it would, the anchor moves.
 */
#include "core/device.h"
#include "core/profile.h"
#include "core/status.h"

enum {
    RING = 4096,     /* kernels; more than a GPU lets the host run ahead */
    LAZY = 64,       /* so many wait before one is read */
    SPARE = 64,      /* of the ring: for kernels that are asked for while one waits for room */
    KEPT = RING / 2, /* an anchor is replaced after so many kernels, */
    FIRST = 2        /* stamp of the ring: 0 and 1 are those of profile_limits.c */
};
#define ANCHORED 0.5 /* or so many seconds */

typedef struct pending {
    profile_record r; /* begin: when the host asked for it */
    bool named;       /* after the op that it belongs to, whose name may be known only at its end */
} pending;

/* Of one stream. Its stamps are two a place, from `stamps` on. */
typedef struct ring {
    pending of[RING];
    int64_t first, next; /* pending are first .. next - 1 */
    double last;         /* the last end that was told */
    int stamps;
    bool beside;
} ring;

static ring kernels_ring = {.stamps = FIRST},
            beside_ring = {.stamps = FIRST + 2 * RING, .beside = true};

static struct {
    int64_t kernel; /* the end of this one */
    double moment;
} anchor;

static int stamp_of(const ring *s, int64_t i, bool end)
{
    return s->stamps + 2 * (int)(i % RING) + end;
}

static void stamp(const ring *s, bool end)
{
    device_current()->stamp(stamp_of(s, s->next, end), s->beside);
}

/* Looks, and breathes in between, as whoever waits for a GPU. */
void profile_wait_for(int stamp)
{
    double seconds = base_setting_number("TORC_LONG_TIMEOUT", 1800, 0.001, 1e9);
    for (wait w = wait_start(seconds); !device_current()->is_past(stamp);) {
        base_breathe();
        const status *s = status_here();
        if (!wait_once(&w))
            die_at((torc_site){s->file, s->line}, s->op, "the %s did not end in %g s",
                   device_current()->name, seconds);
    }
}

static void start_ring(ring *s)
{
    s->first = s->next = 1;
    s->last = anchor.moment;
}

bool profile_stream_start(void)
{
    int first = stamp_of(&kernels_ring, 0, true);
    if (!device_current()->stamp)
        return false;
    device_current()->stamp(first, false);
    profile_wait_for(first);
    anchor.kernel = 0;
    anchor.moment = torc_seconds();
    start_ring(&kernels_ring);
    start_ring(&beside_ring);
    return true;
}

int64_t profile_stream_next(void)
{
    return kernels_ring.next;
}

static void begin(ring *s, profile_record r)
{
    r.begin = torc_seconds();
    s->of[s->next % RING] = (pending){.r = r, .named = s->beside};
    stamp(s, false);
}

static void end(ring *s, int64_t flops, int64_t bytes, bool low)
{
    profile_record *r = &s->of[s->next % RING].r;
    r->flops = flops;
    r->bytes = bytes;
    r->low = low;
    stamp(s, true);
    s->next++;
}

void profile_stream_begins(const profile_record *frame, int kernel)
{
    begin(&kernels_ring, (profile_record){.at = frame->at,
                                          .name = frame->name,
                                          .lane = PROFILE_STREAM,
                                          .of = frame->lane,
                                          .kernel = (uint8_t)kernel});
}

void profile_stream_ends(int64_t flops, int64_t bytes, bool low)
{
    end(&kernels_ring, flops, bytes, low);
}

void profile_stream_beside(torc_site which, const char *name)
{
    begin(&beside_ring, (profile_record){.at = which, .name = name, .lane = PROFILE_BESIDE});
}

void profile_stream_beside_ends(int64_t bytes)
{
    end(&beside_ring, 0, bytes, false);
}

void profile_stream_name(int64_t first, const profile_record *frame)
{
    ring *s = &kernels_ring;
    for (int64_t i = max_i64(first, s->first); i < s->next; i++) {
        pending *p = &s->of[i % RING];
        if (p->named)
            continue;
        p->named = true;
        p->r.at = frame->at;
        p->r.name = frame->name;
        p->r.of = frame->lane;
    }
}

/* From the host's moment of asking, in r->begin, to both moments on the GPU. */
static void tell_moments(ring *s, profile_record *r, int64_t i)
{
    const device *d = device_current();
    int from = stamp_of(&kernels_ring, anchor.kernel, true);
    double asked = r->begin, now = torc_seconds();
    double begin = anchor.moment + d->between(from, stamp_of(s, i, false));
    double end = begin + d->between(stamp_of(s, i, false), stamp_of(s, i, true));
    double shift = begin < asked ? asked - begin : end > now ? now - end : 0;
    anchor.moment += shift;
    r->begin = begin + shift > s->last ? begin + shift : s->last;
    r->end = end + shift > r->begin ? end + shift : r->begin;
    s->last = r->end;
}

/* Takes the oldest off the ring, if it has ended; `must`: waits for it. */
static bool take(ring *s, bool must, profile_record *r)
{
    int64_t i = s->first;
    if (i == s->next || (!must && s->next - i < LAZY))
        return false;
    if (must)
        profile_wait_for(stamp_of(s, i, true));
    else if (!device_current()->is_past(stamp_of(s, i, true)))
        return false;
    s->first++;
    *r = s->of[i % RING].r;
    tell_moments(s, r, i);
    return true;
}

bool profile_stream_read(bool all, profile_record *r)
{
    ring *s = &kernels_ring;
    int64_t i = s->first;
    if (take(s, all || s->next - anchor.kernel >= RING - SPARE, r)) {
        if (i - anchor.kernel >= KEPT || r->end - anchor.moment > ANCHORED) {
            anchor.moment = r->end;
            anchor.kernel = i;
        }
        return true;
    }
    s = &beside_ring;
    return take(s, all || s->next - s->first >= RING - SPARE, r);
}
