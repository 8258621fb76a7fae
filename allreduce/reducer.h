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
 *
 * With a compressor no bucket is sent: when backward is over, and the weights have come, the user's
 * function makes the mean (compressor.h).
 */
#ifndef TORC_REDUCER_H
#define TORC_REDUCER_H

#include "allreduce/bucket.h"
#include "allreduce/courier.h"
#include "allreduce/reduction.h"

typedef struct reducer_options {
    size_t first_bytes, bytes; /* of buckets; 0: as usual on the way they take */
    int leaves;                /* 0: one a rank */
    bool compress;
    bool shard;                 /* shard.h */
    torc_module *net;           /* what the compressor is called with */
    torc_compressor compressor; /* compressor.h; NULL: none */
    void *compressor_context;
    tensor **buffer; /* of the module, as running statistics; becomes the reducer's */
    int buffers;
} reducer_options;

typedef struct reducer {
    tape_hook hook; /* first: a hook is its reducer */
    comm *c;
    bucket_plan plan;
    reducer_options how;
    courier *courier; /* NULL: this rank moves its buckets between ops */
    torc_ddp_stats stats;
    void (*synchronised_step)(void *context, torc_site at); /* told of every mean */
    void *context;

    /* since the last mean */
    double weight;     /* of this rank, over its backward calls */
    int calls;         /* their number */
    bool no_sync;      /* the next one only accumulates */
    bool synchronised; /* there was none: the gradients hold a mean (as far as nobody cleared) */

    /* of the backward under way */
    torc_site at;
    double began;               /* seconds */
    bool sends;                 /* it ends with the mean */
    double scale;               /* of the sums; NaN until the weights have come */
    double squares;             /* of the buckets that are finished */
    int fetched;                /* buckets that come to the host, or were there (staging.h) */
    int launched, finished;     /* buckets */
    int handed;                 /* of those finished, to optimizers that wait for them */
    int vacated;                /* of those handed, from the first on, used up and without memory */
    double posted[TEAM_ACTIVE]; /* when they were: profile_clock() */
    double waits_since;         /* the same; 0: it does not wait, or nobody wants to know */
    bool weights_done, statistics_sent;
    bool ending; /* backward is over, its sums are waited for */
    reduction weights, active[TEAM_ACTIVE], statistics;
    bool *is_ready;

    /* the order of buckets, found in the first one that sends */
    int *ready_order, ready_count;
    bool rebuilt;

    /* leaf.h */
    tree_stack stack;        /* of this rank's leaves so far; none: nothing collected */
    int64_t shards_taken;    /* of those that loaders have handed out */
    int leaf, merges;        /* the leaf under way; how often it meets a sibling */
    bool collecting;         /* a forward pass has been made since the last mean */
    char *before;            /* the buffers as they were then */
    double statistics_scale; /* 1 / leaves */

    /* outside of backward */
    reduction single;
    const char *waits_for; /* its name */
    bool gathered;         /* shard.h: the gradients are the whole mean */
    int late;              /* shard.h: buckets of parameters, from the first on, not waited for */
    storage *parameters;   /* shard.h: where they are, on GPUs; NULL: not divided over GPUs */
} reducer;

/* Attaches to the parameters in `plan`, which becomes the reducer's. */
reducer *reducer_new(torc_site at, comm *c, bucket_plan plan, reducer_options how);
void reducer_free(reducer *r);
/* The optimizer is divided over the ranks of a host, which share the parameters (shard.h). */
static inline bool reducer_shares_parameters(const reducer *r)
{
    return r->how.shard && r->plan.way == BUCKET_IN_TEAM;
}
/* One reduction more, waited for. */
void reducer_reduce(reducer *r, torc_site at, reduction_what what);

/* ---- reducer_move.c ---- */

/* Everything that can go on does. */
void reducer_move(reducer *r);
/* The next bucket in order holds its mean, by whatever way it came. */
void reducer_finish(reducer *r);
/* Buckets that are finished are given to optimizers that wait for them (tape.h: taker). */
void reducer_hand_over(reducer *r);
/* All its gradients are 0, for nobody has written to them since they were cleared. */
bool reducer_is_cleared(const reducer *r, const bucket *b);
/* Moves one reduction; true: it is over. */
bool reducer_poll(reducer *r, reduction *one);
/* Every gradient of the bucket holds its value before it leaves: those of parameters that took no
 * part, zeros. */
void reducer_settle(const reducer *r, const bucket *b);
/* What stands before the first bucket: the weight of a rank's samples, and its backward calls. */
double *reducer_head(const reducer *r, int buffer);
/* The sum over the ranks shall bring the sum of squares along. It is cut by ranks: with virtual
 * ranks, whose numbers must not depend on them, that is made of the whole gradients instead. */
bool reducer_wants_squares(const reducer *r);

#endif
