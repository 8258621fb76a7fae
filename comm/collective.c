/*
 * collective -- barrier, broadcast, allgather, allreduce and reduce-scatter, out of exchanges.
 *
 *     barrier          arrivals
 *     allgather        arrivals, everybody's bytes to everybody
 *     reduce-scatter   arrivals, part r to rank r, which folds what it gets in rank order
 *     allreduce        the same, then everybody's folded part to everybody
 *     broadcast        arrivals, part r from the root to rank r, then everybody's part to everybody
 *
 * The arrivals find out, before any byte is overwritten, that two ranks are not in the same
 * collective; and because each rank hears from each other one, a deadline that passes can tell who
 * is missing and where it was last: what MPI's own collectives cannot say. The price is messages
 * that grow with the square of the ranks (4,032 small ones for 64), and these collectives carry
 * what happens once a step or once a run. Gradients travel in allreduce/, over the point-to-point
 * calls. No rank sends more than twice its data.
 */
#include "comm/collective.h"

#include <math.h>
#include <string.h>

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- collectives that move bytes ---- */

torc_status comm_barrier(comm *c, const char *name)
{
    return comm_arrive(c, (comm_arrival){.kind = COMM_BARRIER}, name);
}

/* Part r of n nearly equal ones, the first of them longer by one element. */
static comm_span part(char *at, size_t count, size_t width, int r, int n)
{
    size_t each = count / (size_t)n, longer = count % (size_t)n, index = (size_t)r;
    size_t first = index * each + min_size(index, longer);
    return (comm_span){at + first * width, (each + (index < longer)) * width};
}

/* Everybody gives its part of a buffer and gets the others'. `except`: a rank that has them all,
 * or -1. */
static torc_status spread_parts(comm *c, char *at, size_t count, size_t width, int except)
{
    for (int r = 0; r < c->size; r++) {
        if (r != except)
            c->out[r] = part(at, count, width, c->rank, c->size);
        if (c->rank != except)
            c->in[r] = part(at, count, width, r, c->size);
    }
    return comm_exchange(c);
}

static torc_status broadcast_piece(comm *c, char *at, size_t bytes, int root)
{
    bool whole = bytes * (size_t)c->size <= c->small;
    for (int r = 0; c->rank == root && r < c->size; r++)
        c->out[r] = whole ? (comm_span){at, bytes} : part(at, bytes, 1, r, c->size);
    c->in[root] = whole ? (comm_span){at, bytes} : part(at, bytes, 1, c->rank, c->size);
    PASS(comm_exchange(c));
    return whole ? TORC_OK : spread_parts(c, at, bytes, 1, root);
}

torc_status comm_broadcast(comm *c, void *buffer, size_t bytes, int root, const char *name)
{
    comm_arrival a = {.kind = COMM_BROADCAST, .count = bytes, .root = root};
    PASS(comm_arrive(c, a, name));
    for (size_t at = 0, n; at < bytes; at += n) {
        n = min_size(bytes - at, c->piece);
        PASS(broadcast_piece(c, (char *)buffer + at, n, root));
    }
    return TORC_OK;
}

torc_status comm_allgather(comm *c, const void *mine, void *all, size_t bytes, const char *name)
{
    PASS(comm_arrive(c, (comm_arrival){.kind = COMM_ALLGATHER, .count = bytes}, name));
    for (size_t at = 0, n; at < bytes; at += n) {
        n = min_size(bytes - at, c->piece);
        for (int r = 0; r < c->size; r++) {
            c->out[r] = (comm_span){(char *)mine + at, n};
            c->in[r] = (comm_span){(char *)all + (size_t)r * bytes + at, n};
        }
        memmove(c->in[c->rank].at, c->out[c->rank].at, n);
        PASS(comm_exchange(c));
    }
    return TORC_OK;
}

/* ---- collectives that compute ----
 *
 * Every rank gets the same bits: the value of an element is always ((x0 + x1) + x2) + ... in rank
 * order, whatever the count, the pieces and the parts. Either one rank computes it and the others
 * get its bytes, or (small buffers) each rank runs the same instructions over the same bytes. MPI
 * promises neither: recursive doubling, for one, adds in another order on each rank. */

#define SUM(a, b) ((a) + (b))
#define MAX(a, b) ((a) > (b) || isnan((double)(a)) ? (a) : (b)) /* a NaN on any rank stays */
#define MIN(a, b) ((a) < (b) || isnan((double)(a)) ? (a) : (b))

#define FOLD(name, type, combine) \
    static void name(void *into, const void *from, size_t count) \
    { \
        type *a = into; \
        const type *b = from; \
        for (size_t i = 0; i < count; i++) \
            a[i] = combine(a[i], b[i]); \
    }
#define FOLDS(id, type, text) \
    FOLD(sum_##id, type, SUM) \
    FOLD(max_##id, type, MAX) \
    FOLD(min_##id, type, MIN)
COMM_REDUCIBLE(FOLDS)

typedef struct reduction {
    size_t width; /* bytes of an element */
    void (*fold)(void *into, const void *from, size_t count);
} reduction;

static reduction reduction_of(torc_dtype dtype, comm_op op)
{
#define ROW(id, type, text) \
    [id] = { \
        [COMM_SUM] = {sizeof(type), sum_##id}, \
        [COMM_MAX] = {sizeof(type), max_##id}, \
        [COMM_MIN] = {sizeof(type), min_##id}, \
    },
    static const reduction table[TORC_DTYPES][COMM_MIN + 1] = {COMM_REDUCIBLE(ROW)};
#undef ROW
    reduction f = table[dtype][op];
    if (!f.fold)
        bug("a reduction of dtype %d, which no rank can compute", (int)dtype);
    return f;
}

/* Sends c->out[r], filled by the caller, to rank r, and folds the spans that come for this rank,
 * its own among them, in rank order. */
static torc_status fold_parts(comm *c, reduction f, void *into)
{
    size_t bytes = c->out[c->rank].bytes;
    for (int r = 0; r < c->size; r++)
        c->in[r] = (comm_span){c->scratch + (size_t)r * bytes, bytes};
    if (bytes)
        memcpy(c->in[c->rank].at, c->out[c->rank].at, bytes);
    PASS(comm_exchange(c));
    if (bytes)
        memcpy(into, c->scratch, bytes);
    for (int r = 1; r < c->size; r++)
        f.fold(into, c->scratch + (size_t)r * bytes, bytes / f.width);
    return TORC_OK;
}

static torc_status allreduce_piece(comm *c, char *at, size_t count, reduction f)
{
    bool whole = count * f.width * (size_t)c->size <= c->small;
    for (int r = 0; r < c->size; r++)
        c->out[r] = whole ? (comm_span){at, count * f.width} : part(at, count, f.width, r, c->size);
    PASS(fold_parts(c, f, c->out[c->rank].at));
    return whole ? TORC_OK : spread_parts(c, at, count, f.width, -1);
}

torc_status comm_allreduce(comm *c, void *buffer, size_t count, torc_dtype dtype, comm_op op,
                           const char *name)
{
    reduction f = reduction_of(dtype, op);
    comm_arrival a = {.kind = COMM_ALLREDUCE, .count = count, .dtype = dtype, .op = op};
    PASS(comm_arrive(c, a, name));
    for (size_t at = 0, n; at < count && c->size > 1; at += n) {
        n = min_size(count - at, c->piece / f.width);
        PASS(allreduce_piece(c, (char *)buffer + at * f.width, n, f));
    }
    return TORC_OK;
}

torc_status comm_reduce_scatter(comm *c, const void *buffer, void *mine, size_t count,
                                torc_dtype dtype, comm_op op, const char *name)
{
    reduction f = reduction_of(dtype, op);
    comm_arrival a = {.kind = COMM_REDUCE_SCATTER, .count = count, .dtype = dtype, .op = op};
    PASS(comm_arrive(c, a, name));
    size_t most = c->piece / f.width / (size_t)c->size;
    for (size_t at = 0, n; at < count; at += n) {
        n = min_size(count - at, most);
        for (int r = 0; r < c->size; r++) {
            char *from = (char *)buffer + ((size_t)r * count + at) * f.width;
            c->out[r] = (comm_span){from, n * f.width};
        }
        PASS(fold_parts(c, f, (char *)mine + at * f.width));
    }
    return TORC_OK;
}
