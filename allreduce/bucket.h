/*
 * bucket -- which parameter lives in which bucket, and where its gradient is.
 *
 * A bucket is one stretch of memory whose pieces are the gradients of several parameters; each
 * parameter's gradient is a view of it, so nothing is copied in or out. Buckets travel in the order
 * of their numbers.
 *
 *     parameters   0.weight  0.bias  2.weight  2.bias           in order of registration
 *     buckets      [ 2.bias 2.weight | weight, calls ] [ 0.bias 0.weight ]      reverse order: as
 * backward finishes them
 *
 * The first bucket also carries two numbers: the weight of this rank's samples and the number of
 * its backward calls. It is small, so that the wire is busy early.
 */
#ifndef TORC_BUCKET_H
#define TORC_BUCKET_H

#include "core/tape.h"

#define BUCKET_EXTRAS 2 /* numbers that travel with the first bucket */

typedef struct bucket {
    torc_dtype dtype; /* f32 or f64, of all its gradients */
    storage *memory;
    int64_t count;  /* elements that travel */
    int64_t extras; /* where the extras start; -1 in all buckets but the first */
    int first, end; /* its places in the plan's order: order[first .. end - 1] */
    int awaited;    /* gradients still to become final in this backward */
    void *carried; /* what was synchronised before and is kept out of the next sum; NULL: nothing */
} bucket;

typedef struct bucket_plan {
    int parameters, buckets;
    tensor **parameter; /* that require a gradient, in order of registration; owned by the module */
    const char **name;
    int *order;      /* order[place] = number of a parameter */
    int *bucket_of;  /* by number of a parameter */
    int64_t *offset; /* of its gradient, in elements */
    bucket *bucket;
} bucket_plan;

/* Lays parameters[order[0]], parameters[order[1]], ... into buckets of at most `bytes` (a larger
 * parameter gets one of its own), the first of at most `first_bytes`, and moves their gradients
 * there, values kept. `order` is copied. */
void bucket_plan_lay(bucket_plan *p, const int *order, size_t first_bytes, size_t bytes);
/* A plan without buckets for these parameters; names and tensors are shared with the caller. */
void bucket_plan_open(bucket_plan *p, int parameters, tensor *const *parameter,
                      const char *const *name);
void bucket_plan_free(bucket_plan *p);

void *bucket_data(const bucket *b);
/* Prints the plan: bucket, bytes, parameters. */
void bucket_plan_print(const bucket_plan *p);

#endif
