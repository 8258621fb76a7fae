/*
 * collective -- what comm.c and collective.c share: the communicator, and the two calls that every
 * collective is made of.
 *
 * Words
 *   span       where bytes lie and how many there are
 *   exchange   every rank sends a span to every other rank and receives one from it; some may be
 *              empty. The only thing in this room that waits.
 *   arrival    what a rank tells all others when it enters a collective: the collective's number,
 *              kind, size and name
 *   piece      what is longer is cut into pieces, one after the other
 *   part       what one rank takes care of within a piece
 *
 *     rank 0   arrival --.  .-- exchange ---.  .-- exchange --.
 *     rank 1   arrival ---><--- exchange ----><--- exchange ---><-- next piece ...
 *     rank 2   arrival --'  '-- exchange ---'  '-- exchange --'
 */
#ifndef COMM_COLLECTIVE_H
#define COMM_COLLECTIVE_H

#include "comm/backend.h"
#include "comm/comm.h"
#include "comm/watch.h"

/* A piece bounds the scratch, keeps in the cache what is folded, and makes the deadline one for
 * 4 MiB however long the buffer is. */
#define COMM_PIECE_BYTES ((size_t)4 << 20)
/* Up to this many bytes over all ranks, whole buffers in one exchange beat parts in two. */
#define COMM_SMALL_BYTES ((size_t)64 << 10)

#define COMM_KINDS(X) \
    X(BARRIER, "barrier") \
    X(BROADCAST, "broadcast") \
    X(ALLGATHER, "allgather") \
    X(ALLREDUCE, "allreduce") \
    X(REDUCE_SCATTER, "reduce-scatter")
#define COMM_KIND_ID(id, text) COMM_##id,
typedef enum comm_kind { COMM_KINDS(COMM_KIND_ID) COMM_KIND_COUNT } comm_kind;

/* The dtypes that can be reduced. */
#define COMM_REDUCIBLE(X) \
    X(TORC_F32, float, "f32") \
    X(TORC_F64, double, "f64") \
    X(TORC_I64, int64_t, "i64") \
    X(TORC_I32, int32_t, "i32")

/* Compared byte by byte between ranks: no padding, and zero where a field has no meaning. */
typedef struct comm_arrival {
    uint64_t number, count; /* count: bytes, or elements where there is a dtype */
    int32_t kind, root, dtype, op;
    char name[48];
} comm_arrival;

typedef struct comm_span {
    void *at;
    size_t bytes;
} comm_span;

typedef struct comm_peer {
    char host[72], kernel[48]; /* kernel: the boot id, different on every running system */
    uint64_t shared_memory;    /* device number of /dev/shm */
    int32_t pid, status_fd;    /* core/status.h */
    comm_cores_set cores;
} comm_peer;

struct comm {
    const comm_backend *backend;
    void *state;
    int rank, size, local_rank, local_size, cores;
    int hosts, *host_of;          /* host_of[rank]: its number */
    double timeout, long_timeout; /* seconds; the second where a rank is in a scope */
    comm_peer *peers;
    watches *watches;
    uint64_t transfers; /* started, by comm_number_transfer() */

    comm_arrival mine, *heard; /* heard[r]: the last that rank r has told */
    comm_span *out, *in;       /* of the next exchange, by rank */
    void **pending; /* of the exchange under way: from rank r at r, to rank r at size + r */
    char *scratch;  /* a piece, and an element a rank: parts are not all equal */
    /* COMM_PIECE_BYTES and COMM_SMALL_BYTES, the same on every rank; tests make them smaller, so
     * that short buffers are cut too. piece: at least 8 bytes a rank; small: at most a piece. */
    size_t piece, small;
    double quiet;  /* COMM_QUIET; tests make it shorter */
    bool arriving; /* what the exchange under way brings is arrivals */
    bool broken;
};

/* comm_open() over a given backend. */
torc_status comm_open_over(const comm_backend *backend, comm **out);
/* Enters a collective: returns when every rank has, and all mean the same one. */
torc_status comm_arrive(comm *c, comm_arrival a, const char *name);
/* For example: collective 7, allreduce "loss" (sum of 1 x f32) */
comm_words comm_arrival_in_words(const comm_arrival *a);
/* Sends out[r] to every other rank r and receives in[r], then empties both lists. A rank's span to
 * itself is the caller's business. After a failure transfers may still be under way, into these
 * very buffers: the communicator is broken and serves no more. */
torc_status comm_exchange(comm *c);

#endif
