/*
 * ring -- see ring.h.
 *
 * The work of a rank is two streams of operations, numbered step x segments + segment: sends to the
 * right, receives from the left. Receive k of a step must be in (and added) before the same segment
 * is sent on in the next step; that is the only coupling, so the streams run as far ahead as
 * RING_IN_FLIGHT allows.
 */
#include "allreduce/ring.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES (256 * 1024)
#define SMALL_SEGMENT_BYTES 64

typedef struct piece {
    size_t first, count; /* elements */
} piece;

static int ranks(const ring *r)
{
    return comm_size(r->c);
}

/* Segment `segment` of chunk `chunk`. */
static piece piece_of(const ring *r, int chunk, int64_t segment)
{
    size_t n = (size_t)ranks(r), c = (size_t)chunk, k = (size_t)segment, all = (size_t)r->segments;
    size_t from = r->count / n * c + (r->count % n) * c / n;
    size_t to = r->count / n * (c + 1) + (r->count % n) * (c + 1) / n;
    size_t first = from + (to - from) * k / all, end = from + (to - from) * (k + 1) / all;
    return (piece){first, end - first};
}

/* What operation `op` sends: in step s of the reduce-scatter chunk rank - s, of the allgather rank
 * + 1 - s. */
static piece sent_by(const ring *r, int64_t op)
{
    int n = ranks(r), step = (int)(op / r->segments);
    int chunk = step < n - 1 ? comm_rank(r->c) - step : comm_rank(r->c) + 1 - (step - (n - 1));
    return piece_of(r, ((chunk % n) + n) % n, op % r->segments);
}

/* It receives what the left neighbour sends in the same operation. */
static piece received_by(const ring *r, int64_t op)
{
    int n = ranks(r), step = (int)(op / r->segments);
    int chunk = step < n - 1 ? comm_rank(r->c) - 1 - step : comm_rank(r->c) - (step - (n - 1));
    return piece_of(r, ((chunk % n) + n) % n, op % r->segments);
}

static bool adds(const ring *r, int64_t op)
{
    return op < r->operations / 2;
}

static char *address(const ring *r, piece p)
{
    return r->data + p.first * r->item;
}

static char *arrival(const ring *r, int64_t op)
{
    return r->arriving + (size_t)(op % RING_IN_FLIGHT) * r->segment_bytes;
}

static void make_room(ring *r)
{
    size_t need = RING_IN_FLIGHT * r->segment_bytes;
    if (need <= r->arriving_bytes)
        return;
    free(r->arriving);
    r->arriving = base_alloc(need, 1);
    r->arriving_bytes = need;
}

void ring_start(ring *r, comm *c, void *data, size_t count, torc_dtype dtype, int tag)
{
    char *arriving = r->arriving;
    size_t arriving_bytes = r->arriving_bytes, n = (size_t)comm_size(c);
    *r = (ring){.c = c, .data = data, .count = count, .dtype = dtype, .tag = tag};
    r->item = torc_dtype_size(dtype);
    r->arriving = arriving;
    r->arriving_bytes = arriving_bytes;
    size_t limit = base_limit(SEGMENT_BYTES, SMALL_SEGMENT_BYTES);
    size_t chunk_bytes = (count / n + 1) * r->item;
    r->segments = (int64_t)((chunk_bytes + limit - 1) / limit);
    r->segment_bytes = (chunk_bytes / (size_t)r->segments + 2 * r->item + 63) / 64 * 64;
    r->operations = count ? 2 * (int64_t)(n - 1) * r->segments : 0;
    make_room(r);
}

/* ---- arithmetic: plain loops, that the compiler makes vectors of ---- */

static void add_f32(float *restrict sum, const float *restrict part, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += part[i];
}

static void add_f64(double *restrict sum, const double *restrict part, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += part[i];
}

static void add_arrived(const ring *r, int64_t op)
{
    piece p = received_by(r, op);
    if (r->dtype == TORC_F64)
        add_f64((double *)address(r, p), (const double *)arrival(r, op), p.count);
    else
        add_f32((float *)address(r, p), (const float *)arrival(r, op), p.count);
}

/* ---- moving ---- */

/* A piece goes on once it has been received; the first chunk is this rank's own. */
static bool may_send(const ring *r)
{
    return r->sends < r->operations && r->sends - r->sends_done < RING_IN_FLIGHT &&
           (r->sends < r->segments || r->receives_done > r->sends - r->segments);
}

/* An arrival that is to be added waits in a buffer of its own; one of the allgather goes straight
 * into its place, which must no longer be on its way out from the reduce-scatter. */
static bool may_receive(const ring *r)
{
    int64_t op = r->receives;
    return op < r->operations && op - r->receives_done < RING_IN_FLIGHT &&
           (adds(r, op) || r->sends_done > op - r->operations / 2);
}

static torc_status start_send(ring *r)
{
    piece p = sent_by(r, r->sends);
    int right = (comm_rank(r->c) + 1) % ranks(r);
    comm_request *q = &r->sending[r->sends++ % RING_IN_FLIGHT];
    return comm_send(r->c, address(r, p), p.count * r->item, right, r->tag, q);
}

static torc_status start_receive(ring *r)
{
    piece p = received_by(r, r->receives);
    char *to = adds(r, r->receives) ? arrival(r, r->receives) : address(r, p);
    int left = (comm_rank(r->c) + ranks(r) - 1) % ranks(r);
    comm_request *q = &r->receiving[r->receives++ % RING_IN_FLIGHT];
    return comm_receive(r->c, to, p.count * r->item, left, r->tag, q);
}

static torc_status finish_sends(ring *r, bool *moved)
{
    for (bool done = true; done && r->sends_done < r->sends;) {
        torc_status s = comm_test(r->c, &r->sending[r->sends_done % RING_IN_FLIGHT], &done);
        if (s != TORC_OK)
            return s;
        r->sends_done += done;
        *moved = *moved || done;
    }
    return TORC_OK;
}

static torc_status finish_receives(ring *r, bool *moved)
{
    for (bool done = true; done && r->receives_done < r->receives;) {
        torc_status s = comm_test(r->c, &r->receiving[r->receives_done % RING_IN_FLIGHT], &done);
        if (s != TORC_OK)
            return s;
        if (done && adds(r, r->receives_done))
            add_arrived(r, r->receives_done);
        r->receives_done += done;
        *moved = *moved || done;
    }
    return TORC_OK;
}

torc_status ring_poll(ring *r, bool *done)
{
    torc_status s = TORC_OK;
    for (bool moved = true; moved && s == TORC_OK;) {
        moved = false;
        while (s == TORC_OK && may_receive(r))
            s = start_receive(r);
        while (s == TORC_OK && may_send(r))
            s = start_send(r);
        if (s == TORC_OK)
            s = finish_receives(r, &moved);
        if (s == TORC_OK)
            s = finish_sends(r, &moved);
    }
    *done = r->sends_done == r->operations && r->receives_done == r->operations;
    return s;
}

void ring_free(ring *r)
{
    free(r->arriving);
    *r = (ring){0};
}
