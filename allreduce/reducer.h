/*
 * reducer -- sends the buckets while backward still runs, and makes their sum the mean over the
 * global batch.
 *
 *     backward   layer 4      layer 3      layer 2      layer 1     end
 *     ready      . . B0 full  . . B1 full  . . . .      B2 full     .
 *     moving     [--- B0 ---]  [----- B1 -----]        [-- B2 --]
 *                                                                  wait
 *
 * A bucket starts when all its gradients are final and its predecessors have started, so every rank
 * issues the same reductions in the same order. Between two ops of backward the hook polls, which
 * adds this rank's slices and moves the bytes.
 *
 * The mean. Rank r's gradients arrive multiplied by w_r, the samples behind its loss (the hook's
 * begin() asks for that), and the sum over ranks is divided by W = sum of w_r, on the same pass
 * that stores it. The weights travel first, when backward begins. Ranks with uneven shares, or
 * none, so give the exact mean over the global batch. Over c backward calls (all but the last under
 * TORC_NO_SYNC) the result is c times the mean over all their samples, the sum that one process
 * would have for batches of equal size.
 *
 * Running statistics (of batch norm) become the mean over the ranks at the end; they travel last.
 *
 * Virtual ranks. With V leaves (tree.h) each backward call is one leaf, on the micro-shard that the
 * loader handed out; all but a rank's last are added up in this rank's own buffers, and the last
 * one sends. In between `hook.partial` tells the optimizer that there is nothing to step on.
 */
#ifndef TORC_REDUCER_H
#define TORC_REDUCER_H

#include "allreduce/bucket.h"
#include "allreduce/reduction.h"

typedef struct reducer_options {
    size_t first_bytes, bytes; /* of buckets */
    int leaves;                /* 0: one a rank */
    bool compress;
    bool shard;      /* shard.h */
    tensor **buffer; /* of the module, as running statistics; becomes the reducer's */
    int buffers;
} reducer_options;

typedef struct reducer {
    tape_hook hook; /* first: a hook is its reducer */
    comm *c;
    bucket_plan plan;
    reducer_options how;
    bool no_sync;      /* this backward only accumulates */
    bool synchronised; /* the gradients hold a mean already (as far as nobody cleared them) */
    bool sends;        /* this backward ends with the mean */
    double weight;     /* of this rank, over the backward calls since the last synchronisation */
    int calls;
    double scale;            /* of the sums; NaN until the weights have come */
    double statistics_scale; /* 1 / leaves */
    double squares;          /* of the buckets that are finished */
    int launched, finished;  /* buckets, in this backward */
    reduction weights, statistics, active[TEAM_ACTIVE];
    bool weights_done, statistics_sent;
    tree_stack stack; /* of this rank's leaves so far; none: nothing collected */
    int leaf, merges; /* the leaf under way; how often it meets a sibling */
    reduction single; /* outside of backward, by this name */
    const char *waits_for;
    bool gathered;                 /* sharded: the gradients are the whole mean */
    bool collecting;               /* a forward pass has been made since the last mean */
    char *before;                  /* the buffers as they were then */
    int *ready_order, ready_count; /* recorded in the first synchronised backward */
    bool *is_ready;
    bool rebuilt;
    void (*synchronised_step)(void *context, torc_site at); /* told of every mean */
    void *context;
    torc_site at; /* of the backward under way */
    double began; /* seconds */
    torc_ddp_stats stats;
} reducer;

/* Attaches to the parameters in `plan`, which becomes the reducer's. */
reducer *reducer_new(torc_site at, comm *c, bucket_plan plan, reducer_options how);
void reducer_free(reducer *r);
/* One reduction more, waited for. */
void reducer_reduce(reducer *r, torc_site at, reduction_what what);

#endif
