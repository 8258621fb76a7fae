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

static struct {
    pending ring[RING];
    int64_t first, next; /* pending are first .. next - 1 */
    int64_t anchor;      /* the end of this one */
    double moment, last; /* of the anchor; of the last end that was told */
} stream;

static int stamp_of(int64_t i, bool end)
{
    return FIRST + 2 * (int)(i % RING) + end;
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

bool profile_stream_start(void)
{
    if (!device_current()->stamp)
        return false;
    stream.first = stream.next = 1;
    stream.anchor = 0;
    device_current()->stamp(stamp_of(0, true));
    profile_wait_for(stamp_of(0, true));
    stream.moment = stream.last = torc_seconds();
    return true;
}

int64_t profile_stream_next(void)
{
    return stream.next;
}

void profile_stream_begins(const profile_record *frame, int kernel)
{
    pending *p = &stream.ring[stream.next % RING];
    *p = (pending){.r = {.begin = torc_seconds(),
                         .at = frame->at,
                         .name = frame->name,
                         .lane = PROFILE_STREAM,
                         .of = frame->lane,
                         .kernel = (uint8_t)kernel}};
    device_current()->stamp(stamp_of(stream.next, false));
}

void profile_stream_ends(int64_t flops, int64_t bytes, bool low)
{
    profile_record *r = &stream.ring[stream.next % RING].r;
    r->flops = flops;
    r->bytes = bytes;
    r->low = low;
    device_current()->stamp(stamp_of(stream.next++, true));
}

void profile_stream_name(int64_t first, const profile_record *frame)
{
    for (int64_t i = max_i64(first, stream.first); i < stream.next; i++) {
        pending *p = &stream.ring[i % RING];
        if (p->named)
            continue;
        p->named = true;
        p->r.at = frame->at;
        p->r.name = frame->name;
        p->r.of = frame->lane;
    }
}

/* From the host's moment of asking, in r->begin, to both moments of the kernel. */
static void tell_moments(profile_record *r, int64_t i)
{
    const device *d = device_current();
    double asked = r->begin, now = torc_seconds();
    double begin = stream.moment + d->between(stamp_of(stream.anchor, true), stamp_of(i, false));
    double end = begin + d->between(stamp_of(i, false), stamp_of(i, true));
    double shift = begin < asked ? asked - begin : end > now ? now - end : 0;
    stream.moment += shift;
    r->begin = begin + shift > stream.last ? begin + shift : stream.last;
    r->end = end + shift > r->begin ? end + shift : r->begin;
    stream.last = r->end;
}

bool profile_stream_read(bool all, profile_record *r)
{
    int64_t i = stream.first;
    bool full = stream.next - stream.anchor >= RING - SPARE;
    if (i == stream.next || (!all && !full && stream.next - i < LAZY))
        return false;
    if (all || full)
        profile_wait_for(stamp_of(i, true));
    else if (!device_current()->is_past(stamp_of(i, true)))
        return false;
    stream.first++;
    *r = stream.ring[i % RING].r;
    tell_moments(r, i);
    if (i - stream.anchor >= KEPT || r->end - stream.moment > ANCHORED) {
        stream.moment = r->end;
        stream.anchor = i;
    }
    return true;
}
