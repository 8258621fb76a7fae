/*
 * bucket -- which parameter lives in which bucket, and where its gradient is.
 *
 * A bucket is a stretch of the team's buffer whose pieces are the gradients of several parameters;
 * each parameter's gradient is a view of it, so nothing is copied in or out, and the other ranks of
 * the host read it where it was born. Buckets travel in the order of their numbers.
 *
 *     parameters   0.weight  0.bias  2.weight  2.bias           in order of registration
 *     buffer       [weights | 2.bias 2.weight | 0.bias 0.weight | running statistics]
 *                    -1         bucket 0          bucket 1          -2
 *
 * Gradients lie in reverse order, as backward finishes them. The first bucket is small, so that the
 * others are busy early. What stands before and after the buckets is the reducer's (reducer.h).
 *
 * How large they are: on a CPU a bucket should still be in the cache when it is added up, which is
 * 1 MiB. Between GPUs a collective costs some tens of microseconds before the first byte moves, for
 * every rank on the way round; 25 MiB take many times that, and still leave a model's backward
 * several buckets to hide behind. The first has 1 MiB, so that the network starts with the first
 * layers that are done. Both are what PyTorch's DDP came to (Li et al. 2020, section 5).
 *
 * Where the optimizer is divided over GPUs (shard.h) a bucket is as many equal parts as there are
 * ranks, and filled up with zeros for that.
 */
#ifndef TORC_BUCKET_H
#define TORC_BUCKET_H

#include "allreduce/team.h"
#include "comm/nccl.h"
#include "core/tape.h"

#define BUCKET_HEAD 64 /* bytes before the first bucket */

/* How a bucket becomes a sum. The third is left out where sums must follow one tree. */
typedef enum bucket_way {
    BUCKET_IN_TEAM, /* where it was born: on a CPU */
    BUCKET_STAGED,  /* a GPU's, copied into the team's memory and back (staging.h) */
    BUCKET_ON_GPUS  /* a GPU's, summed by NCCL */
} bucket_way;

typedef struct bucket {
    torc_dtype dtype;    /* f32 or f64, of all its gradients */
    size_t offset;       /* bytes from the start of the buffer */
    int64_t count;       /* elements that travel */
    int first, end;      /* its places in the plan's order: order[first .. end - 1] */
    _Atomic int awaited; /* gradients still to become final in this backward */
    char name[96];       /* "gradient bucket 2 of 5 (0.weight .. 2.bias)" */
    void *carried; /* what was synchronised before and is kept out of the next sum; NULL: nothing */
} bucket;

typedef struct bucket_plan {
    int parameters, buckets;
    tensor **parameter; /* that require a gradient, in order of registration; owned by the module */
    const char **name;
    int *order;     /* order[place] = number of a parameter */
    int *bucket_of; /* by number of a parameter */
    size_t *offset; /* of its gradient, in bytes from the start of the buffer */
    bucket *bucket;
    int spare;      /* buffers more for the caller, set by it, as `way` is (team.h) */
    size_t tail;    /* bytes to leave behind the last bucket, set by the caller */
    size_t tail_at; /* where they are */
    team *t;
    bucket_way way;
    int parts, part; /* of each bucket, as many as ranks, and this rank's; 0: it is not divided */
    comm_gpus *gpus; /* BUCKET_ON_GPUS: what sums; NULL: there is one rank */
    storage *memory; /* where gradients are: the team's buffer, or memory of the GPU */
} bucket_plan;

/* Lays parameters[order[0]], parameters[order[1]], ... into buckets that are full when they have
 * `bytes` or more, the first when it has `first_bytes`, so that a small parameter joins the large
 * one before it; opens a team for them (every rank calls it alike), and moves their gradients there
 * one by one, values kept: those that are already in a team leave its memory to the system as they
 * go, so no other rank may read them any more. `order` is copied. */
torc_status bucket_plan_lay(bucket_plan *p, comm *c, int leaves, const int *order,
                            size_t first_bytes, size_t bytes);
/* How large a full bucket is, and the first one, where nobody says. */
void bucket_usual_bytes(bucket_way way, size_t *first_bytes, size_t *bytes);
/* A plan without buckets for these parameters; names and tensors are shared with the caller. */
void bucket_plan_open(bucket_plan *p, int parameters, tensor *const *parameter,
                      const char *const *name);
void bucket_plan_free(bucket_plan *p);
/* No gradient of the first `buckets` holds a value, for this rank or another: the memory that they
 * lie in goes back to the system, and comes again with the next ones. Returns its bytes; 0 where it
 * cannot. */
size_t bucket_plan_vacate(const bucket_plan *p, int buckets);

/* Where the bucket starts in a buffer of this rank, in the team's memory. */
void *bucket_data(const bucket_plan *p, const bucket *b, int buffer);
size_t bucket_bytes(const bucket *b);
/* Of this rank's part: where it starts in the bucket, and how many it has; both in elements. */
void bucket_part(const bucket_plan *p, const bucket *b, int64_t *first, int64_t *count);
/* Prints the plan: bucket, bytes, parameters. */
void bucket_plan_print(const bucket_plan *p);

#endif
