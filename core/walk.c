/*
 * walk -- see walk.h.
 *
 * A shape becomes a walk in four steps:
 *
 *     [2, 3, 1, 5] x strides    without dimensions of size 1     [2, 3, 5]
 *                               no negative strides              walked from the other end
 *                               sorted by stride                 [2, 5, 3], say
 *                               coalesced                        [2, 15]
 */
#include "core/walk.h"

/* ---- the dimensions ---- */

static void swap_dims(walk *w, int a, int b)
{
    int64_t size = w->shape[a];
    w->shape[a] = w->shape[b];
    w->shape[b] = size;
    for (int k = 0; k < w->operands; k++) {
        int64_t *stride = w->operand[k].stride, kept = stride[a];
        stride[a] = stride[b];
        stride[b] = kept;
    }
}

/* Largest stride of the first operand outermost. A dimension it repeats along comes before all
 * others, so that the innermost one really moves. Insertion keeps equals in their order. */
static void sort_dims(walk *w)
{
    const int64_t *stride = w->operand[0].stride;
    for (int i = 1; i < w->ndim; i++)
        for (int d = i; d > 0 && stride[d - 1] != 0; d--)
            if (stride[d] == 0 || stride[d] > stride[d - 1])
                swap_dims(w, d - 1, d);
            else
                break;
}

/* The elements of a dimension may be visited backwards, if they are so in every operand. */
static void reverse_negative(walk *w)
{
    for (int d = 0; d < w->ndim; d++) {
        if (w->operand[0].stride[d] >= 0)
            continue;
        for (int k = 0; k < w->operands; k++) {
            operand *o = &w->operand[k];
            o->data += o->stride[d] * (w->shape[d] - 1) * (int64_t)o->item;
            o->stride[d] = -o->stride[d];
        }
    }
}

/* Whether stepping along d continues where a whole turn of d + 1 ends, in every operand. */
static bool one_run(const walk *w, int outer, int inner)
{
    for (int k = 0; k < w->operands; k++) {
        const int64_t *stride = w->operand[k].stride;
        if (stride[outer] != stride[inner] * w->shape[inner])
            return false;
    }
    return true;
}

static void copy_dim(walk *w, int to, int from)
{
    w->shape[to] = w->shape[from];
    for (int k = 0; k < w->operands; k++)
        w->operand[k].stride[to] = w->operand[k].stride[from];
}

/* Merges neighbours; of two that become one, the inner one's stride is the stride of both. */
static void coalesce(walk *w)
{
    int last = 0;
    for (int d = 1; d < w->ndim; d++)
        if (one_run(w, last, d)) {
            int64_t outer = w->shape[last];
            copy_dim(w, last, d);
            w->shape[last] *= outer;
        } else {
            copy_dim(w, ++last, d);
        }
    w->ndim = last + 1;
}

/* ---- what follows from them ---- */

/* Fills in what the blocks will ask for: the run, and which operands are constant or dense. */
static void describe(walk *w)
{
    if (w->ndim == 0) { /* one position, as a dimension of 1 */
        w->ndim = 1;
        w->shape[0] = 1;
        for (int k = 0; k < w->operands; k++)
            w->operand[k].stride[0] = 1;
    }
    w->run = w->shape[w->ndim - 1];
    for (int k = 0; k < w->operands; k++) {
        operand *o = &w->operand[k];
        o->constant = o->dense = true;
        int64_t expected = 1;
        for (int d = w->ndim - 1; d >= 0; d--) {
            o->constant = o->constant && o->stride[d] == 0;
            o->dense = o->dense && o->stride[d] == expected;
            expected *= w->shape[d];
        }
    }
}

static operand operand_of(const tensor *t, const tensor *shaped)
{
    static double zero; /* its bits are 0 in every dtype; only ever read */
    operand o = {.data = (char *)&zero, .dtype = shaped->dtype};
    if (t) {
        o.data = tensor_data(t);
        o.dtype = t->dtype;
    }
    o.item = torc_dtype_size(o.dtype);
    return o;
}

walk walk_of(walk_order order, int n, const tensor *const *t)
{
    walk w = {.operands = n, .numel = 1};
    for (int k = 0; k < n; k++)
        w.operand[k] = operand_of(t[k], t[0]);
    for (int d = 0; d < t[0]->ndim; d++) {
        w.numel *= t[0]->shape[d];
        if (t[0]->shape[d] == 1)
            continue;
        for (int k = 0; k < n; k++)
            w.operand[k].stride[w.ndim] = t[k] && t[k]->shape[d] != 1 ? t[k]->stride[d] : 0;
        w.shape[w.ndim++] = t[0]->shape[d];
    }
    if (w.numel == 0) /* no element, no address: nothing below would be looked at */
        w.ndim = 0;
    if (order == WALK_FASTEST) {
        reverse_negative(&w);
        sort_dims(&w);
    }
    if (w.ndim)
        coalesce(&w);
    describe(&w);
    return w;
}

walk walk_select(const walk *w, const bool *keep)
{
    walk s = *w;
    s.ndim = 0;
    s.numel = 1;
    for (int d = 0; d < w->ndim; d++)
        if (keep[d]) {
            s.numel *= w->shape[d];
            copy_dim(&s, s.ndim, d);
            s.ndim++;
        }
    if (s.ndim)
        coalesce(&s);
    describe(&s);
    return s;
}

/* ---- positions ---- */

/* A block that ends with its run wastes what it could still hold, and one that spans runs cannot be
 * used in place where an operand jumps between them: long runs take the first, short ones the
 * second. */
void walk_cut(walk *w, int64_t block)
{
    w->block = block;
    bool within = w->ndim == 1 || w->run >= WALK_LONG_RUN;
    w->blocks_per_run = within ? part_count(w->run, block) : 0;
    w->blocks =
        within ? w->numel / max_i64(w->run, 1) * w->blocks_per_run : part_count(w->numel, block);
}

part walk_block(const walk *w, int64_t index)
{
    if (!w->blocks_per_run)
        return part_of(w->numel, w->block, index);
    part p = part_of(w->run, w->block, index % w->blocks_per_run);
    p.first += index / w->blocks_per_run * w->run;
    return p;
}

/* A division a dimension, so for whole blocks and rows, not for elements. */
int64_t walk_offset(const walk *w, int k, int64_t i)
{
    const int64_t *stride = w->operand[k].stride;
    int64_t offset = 0;
    for (int d = w->ndim - 1; d > 0; d--) {
        offset += i % w->shape[d] * stride[d];
        i /= w->shape[d];
    }
    return offset + i * stride[0];
}
