/*
 * walk -- the elements of several tensors of one shape as a few long runs, cut into blocks.
 *
 *     coalescing   neighbouring dimensions that are one run of memory for every tensor become one:
 *                  [N, C, H, W] contiguous is a single run of N C H W, and so is any dense order of
 *                  dimensions that all tensors share (NHWC), since dimensions are sorted by the
 *                  first tensor's strides
 *     position     0 .. numel - 1 in the order of the walk, the last dimension fastest
 *     run          the last dimension
 *     block        positions that are handled at once: small enough for a few blocks to stay in L1
 *
 *         [N, 768] + [768]     | run 0 | run 1 | run 2 |      blocks lie within runs if these are
 *         [N, 10] + [10]       |-|-|-|-|-|-|-|-|-|-|-|-|      long, else they span many
 *
 * All bounds depend on shapes and strides alone.
 */
#ifndef TORC_WALK_H
#define TORC_WALK_H

#include "core/part.h"
#include "core/tensor.h"

#define WALK_OPERANDS 5
#define WALK_LONG_RUN 256

typedef struct operand {
    char *data; /* at position 0 */
    torc_dtype dtype;
    size_t item;                   /* bytes */
    int64_t stride[TORC_MAX_DIMS]; /* 0 where it repeats */
    bool constant;                 /* one element for all positions */
    bool dense;                    /* position i is at data + i * item */
} operand;

typedef struct walk {
    int ndim; /* at least 1 */
    int64_t shape[TORC_MAX_DIMS];
    int64_t numel;
    int operands;
    operand operand[WALK_OPERANDS];
    int64_t run, block;
    int64_t blocks_per_run; /* 0: blocks span runs */
    int64_t blocks;
} walk;

typedef enum walk_order {
    WALK_FASTEST, /* dimensions sorted by the first tensor's strides, negative ones reversed */
    WALK_ROW_MAJOR
} walk_order;

/* The first tensor gives the shape; where another has size 1 it repeats. A tensor that is NULL is
 * a constant 0 of the first one's dtype. Blocks are not cut yet. */
walk walk_of(walk_order order, int n, const tensor *const *t);
/* Cuts into blocks of `block` positions. */
void walk_cut(walk *w, int64_t block);
/* The dimensions d of w with keep[d], as a walk of its own, coalesced again; none make a walk of
 * one position. */
walk walk_select(const walk *w, const bool *keep);

part walk_block(const walk *w, int64_t index);
/* Of position i from an operand's data, in elements. */
int64_t walk_offset(const walk *w, int k, int64_t i);

static inline char *walk_at(const walk *w, int k, int64_t i)
{
    return w->operand[k].data + walk_offset(w, k, i) * (int64_t)w->operand[k].item;
}

/* Whether a block's elements of operand k lie side by side. */
static inline bool walk_direct(const walk *w, int k)
{
    const operand *o = &w->operand[k];
    return o->dense || (o->stride[w->ndim - 1] == 1 && w->blocks_per_run);
}

#endif
