/*
 * reducer -- sends the buckets while backward still runs, and makes their sum the mean over the
 * global batch.
 *
 *     backward   layer 4      layer 3      layer 2      layer 1     end
 *     ready      . . B0 full  . . B1 full  . . . .      B2 full     .
 *     the wire       [--- B0 ---]  [----- B1 -----]        [-- B2 --]
 *                                                                  wait, scale
 *
 * A bucket starts when all its gradients are final and its predecessors have started, so every rank
 * issues the same collectives in the same order. Between two ops of backward the hook polls, which
 * moves the bytes.
 *
 * The mean. Rank r's gradients arrive multiplied by w_r, the samples behind its loss (the hook's
 * begin() asks for that), and the sum over ranks is divided by W = sum of w_r, which travels with
 * the first bucket. Ranks with uneven shares, or none, so give the exact mean over the global
 * batch. Over c backward calls (all but the last under TORC_NO_SYNC) the result is c times the mean
 * over all their samples, the sum that one process would have for batches of equal size.
 */
#ifndef TORC_REDUCER_H
#define TORC_REDUCER_H

#include "allreduce/bucket.h"
#include "allreduce/ring.h"

#define REDUCER_ACTIVE 4 /* buckets on the wire at once */

typedef struct reducer {
    tape_hook hook; /* first: a hook is its reducer */
    comm *c;
    bucket_plan plan;
    size_t first_bytes, bytes;
    bool no_sync;      /* this backward only accumulates */
    bool synchronised; /* the gradients hold a mean already (as far as nobody cleared them) */
    double weight;     /* of this rank, over the backward calls since the last synchronisation */
    int calls;
    int launched, finished; /* buckets, in this backward */
    ring rings[REDUCER_ACTIVE];
    int *ready_order, ready_count; /* recorded in the first synchronised backward */
    bool *is_ready;
    bool rebuilt;
    tensor **buffer; /* f32 ones, as the running statistics of batch norm */
    int buffers;
    float *packed; /* all their elements, for one allreduce */
    torc_ddp_stats stats;
} reducer;

/* Attaches to the parameters in `plan`, which becomes the reducer's. */
reducer *reducer_new(comm *c, bucket_plan plan, size_t first_bytes, size_t bytes);
/* From now on these buffers become the mean over the ranks at the end of each synchronised
 * backward, so that the replicas stay equal in them too. The list becomes the reducer's. */
void reducer_average_buffers(reducer *r, tensor **buffer, int count);
void reducer_free(reducer *r);

#endif
