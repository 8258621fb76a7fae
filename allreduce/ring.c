/*
 * ring -- allreduce as a ring reduce-scatter and a ring allgather, one after the other, moved by
 * polling (Patarasuk & Yuan 2009; each member sends 2 (n - 1) / n of the bytes, the least
 * possible).
 *
 * Words
 *   chunk     one of n equal parts of the buffer (sizes differ by one element at most); member r
 *             ends up owning the sum of chunk r + 1
 *   segment   a chunk is cut into segments, so that one is added while the next is on the wire
 *   step      every member sends a chunk to its right neighbour and receives one from its left
 *
 *     4 members, what member 1 does
 *     reduce-scatter                              then allgather
 *     step 0   sends chunk 1, adds chunk 0        step 0   sends chunk 2 (whole), receives chunk 1
 *     step 1   sends chunk 0, adds chunk 3        step 1   sends chunk 1, receives chunk 0
 *     step 2   sends chunk 3, adds chunk 2        step 2   sends chunk 0, receives chunk 3
 *
 * Every element is added in one order, around the ring, by one member, and then copied: all get the
 * same bits, and two runs do too.
 *
 * The work of a member is two streams of operations, numbered step x segments + segment: sends to
 * the right, receives from the left. Receive k of a step must be in (and added) before the same
 * segment is sent on in the next step; that is the only coupling, so the streams run as far ahead
 * as WIRE_IN_FLIGHT allows.
 */
#include "allreduce/wire.h"

#define SEGMENT_BYTES WIRE_MESSAGE_BYTES
#define SMALL_SEGMENT_BYTES 64

typedef struct piece {
    size_t first, count; /* elements */
} piece;

/* Segment `segment` of chunk `chunk`. */
static piece piece_of(const wire *w, int chunk, int64_t segment)
{
    size_t n = (size_t)w->group.n, c = (size_t)chunk, k = (size_t)segment,
           all = (size_t)w->segments;
    size_t from = w->count / n * c + (w->count % n) * c / n;
    size_t to = w->count / n * (c + 1) + (w->count % n) * (c + 1) / n;
    size_t first = from + (to - from) * k / all, end = from + (to - from) * (k + 1) / all;
    return (piece){first, end - first};
}

/* What operation `op` sends: in step s of the reduce-scatter chunk rank - s, of the allgather rank
 * + 1 - s. */
static piece sent_by(const wire *w, int64_t op)
{
    int n = w->group.n, step = (int)(op / w->segments);
    int chunk = step < n - 1 ? w->group.me - step : w->group.me + 1 - (step - (n - 1));
    return piece_of(w, ((chunk % n) + n) % n, op % w->segments);
}

/* It receives what the left neighbour sends in the same operation. */
static piece received_by(const wire *w, int64_t op)
{
    int n = w->group.n, step = (int)(op / w->segments);
    int chunk = step < n - 1 ? w->group.me - 1 - step : w->group.me - (step - (n - 1));
    return piece_of(w, ((chunk % n) + n) % n, op % w->segments);
}

static bool adds(const wire *w, int64_t op)
{
    return op < w->operations / 2;
}

static char *address(const wire *w, piece p)
{
    return w->node[0] + p.first * w->item;
}

/* Places for segments that have arrived and are not in theirs yet, then for packed ones that
 * leave. */
static char *arrival(const wire *w, int64_t op)
{
    return w->room + (size_t)(op % WIRE_IN_FLIGHT) * w->segment_bytes;
}

static char *post(const wire *w, int64_t op)
{
    return w->room + (size_t)(WIRE_IN_FLIGHT + op % WIRE_IN_FLIGHT) * w->segment_bytes;
}

static void start(wire *w)
{
    size_t n = (size_t)w->group.n, limit = base_limit(SEGMENT_BYTES, SMALL_SEGMENT_BYTES);
    size_t chunk_bytes = (w->count / n + 1) * w->item;
    w->segments = (int64_t)((chunk_bytes + limit - 1) / limit);
    w->segment_bytes = (chunk_bytes / (size_t)w->segments + 2 * w->item + 63) / 64 * 64;
    w->operations = w->count ? 2 * (int64_t)(n - 1) * w->segments : 0;
    wire_room(w, WIRE_IN_FLIGHT, (w->compress ? 2 : 1) * WIRE_IN_FLIGHT * w->segment_bytes);
}

/* ---- moving ---- */

/* A piece goes on once it has been received; the first chunk is this member's own. */
static bool may_send(const wire *w)
{
    return w->sends < w->operations && w->sends - w->sends_done < WIRE_IN_FLIGHT &&
           (w->sends < w->segments || w->receives_done > w->sends - w->segments);
}

/* What arrives in the allgather must not meet its place while that is still on its way out from the
 * reduce-scatter. */
static bool may_receive(const wire *w)
{
    int64_t op = w->receives;
    return op < w->operations && op - w->receives_done < WIRE_IN_FLIGHT &&
           (adds(w, op) || w->sends_done > op - w->operations / 2);
}

static torc_status start_send(wire *w)
{
    piece p = sent_by(w, w->sends);
    int right = (w->group.me + 1) % w->group.n;
    comm_request *q = &w->sending[w->sends % WIRE_IN_FLIGHT];
    return wire_send(w, address(w, p), post(w, w->sends++), p.count, right, q);
}

/* A segment of the allgather goes straight into its place, unless it has to be unpacked. */
static torc_status start_receive(wire *w)
{
    int64_t op = w->receives++;
    piece p = received_by(w, op);
    int left = (w->group.me + w->group.n - 1) % w->group.n;
    char *to = adds(w, op) || w->compress ? arrival(w, op) : address(w, p);
    return wire_receive(w, to, p.count, left, &w->receiving[op % WIRE_IN_FLIGHT]);
}

static void take(const wire *w, int64_t op)
{
    piece p = received_by(w, op);
    if (adds(w, op))
        wire_add(w, address(w, p), arrival(w, op), p.count);
    else if (w->compress)
        wire_put(w, address(w, p), arrival(w, op), p.count);
}

static torc_status finish_sends(wire *w, bool *moved)
{
    for (bool done = true; done && w->sends_done < w->sends;) {
        comm_request *q = &w->sending[w->sends_done % WIRE_IN_FLIGHT];
        torc_status s = comm_test(w->group.c, q, &done);
        if (s != TORC_OK)
            return s;
        w->sends_done += done;
        *moved = *moved || done;
    }
    return TORC_OK;
}

static torc_status finish_receives(wire *w, bool *moved)
{
    for (bool done = true; done && w->receives_done < w->receives;) {
        comm_request *q = &w->receiving[w->receives_done % WIRE_IN_FLIGHT];
        torc_status s = comm_test(w->group.c, q, &done);
        if (s != TORC_OK)
            return s;
        if (done)
            take(w, w->receives_done);
        w->receives_done += done;
        *moved = *moved || done;
    }
    return TORC_OK;
}

static torc_status poll(wire *w, bool *done)
{
    torc_status s = TORC_OK;
    for (bool moved = true; moved && s == TORC_OK;) {
        moved = false;
        while (s == TORC_OK && may_receive(w))
            s = start_receive(w);
        while (s == TORC_OK && may_send(w))
            s = start_send(w);
        if (s == TORC_OK)
            s = finish_receives(w, &moved);
        if (s == TORC_OK)
            s = finish_sends(w, &moved);
    }
    *done = w->sends_done == w->operations && w->receives_done == w->operations;
    return s;
}

const wire_algorithm wire_ring = {"ring", false, start, poll};
