/*
 * profile_costs -- COST_name for each row of kernels.def: the arguments to pass on, and the work in
 * flops and bytes; for products also whether they are of bf16 or f16, which have a speed of their
 * own.
 *
 * Flops are those of the formula. Products and convolutions count 2 for a multiplication and the
 * addition behind it, 1 for adding a bias. Elsewhere an element counts as many as its formula has
 * operations, an exp() as one: those kernels wait for memory, and their bytes say how far they are
 * from it. Bytes are those that must move at least: each input read once, each result written once,
 * and read before if it is added to. What stays in a cache moves faster than memory can.
 */
#ifndef TORC_PROFILE_COSTS_H
#define TORC_PROFILE_COSTS_H

#include "core/kernels.h"

#define N(t) tensor_numel(t)

/* Of the elements that are there: a dimension of stride 0 repeats them. NULL has none. */
static inline int64_t size_of(const tensor *t)
{
    int64_t n = t ? (int64_t)tensor_item_size(t) : 0;
    for (int i = 0; t && i < t->ndim; i++)
        n *= t->stride[i] == 0 && t->shape[i] > 0 ? 1 : t->shape[i];
    return n;
}

static inline int64_t sizes_of(int count, const tensor *const *t)
{
    int64_t n = 0;
    for (int i = 0; i < count; i++)
        n += size_of(t[i]);
    return n;
}

static inline int64_t sink_size(sink s)
{
    return size_of(s.t) * (s.add ? 2 : 1);
}

static inline int64_t written(const tensor *t, bool add)
{
    return size_of(t) * (add ? 2 : 1);
}

static inline int64_t last_dim(const tensor *t)
{
    return t->ndim > 0 ? t->shape[t->ndim - 1] : 1;
}

/* 2 M N K of every product, and what is added to the result. */
static inline int64_t product_flops(const tensor *out, const tensor *a, const tensor *bias,
                                    bool add)
{
    return N(out) * (2 * last_dim(a) + (bias ? 1 : 0) + (add ? 1 : 0));
}

/* Multiplications and additions for every output: of its channel's weights, C / groups k k. */
static inline int64_t conv_flops(const tensor *out, const tensor *x, window how)
{
    return N(out) * 2 * (x->shape[1] / how.groups) * how.kernel * how.kernel;
}

/* The same from the weight [O, C / groups, k, k], where x is what is computed. */
static inline int64_t conv_input_flops(const tensor *g, const tensor *w)
{
    return w->shape[0] > 0 ? N(g) * 2 * (N(w) / w->shape[0]) : 0;
}

/* Pairs of a row and a column that it sees, times the numbers in a row of q. */
static inline int64_t attention_products(const tensor *q, const tensor *k, bool causal)
{
    int64_t rows = q->shape[2], columns = k->shape[2], pairs = rows * columns;
    if (causal) /* row i sees columns 0 .. i + columns - rows */
        for (int64_t i = 0; i < rows; i++)
            pairs -= min_i64(columns, max_i64(0, rows - 1 - i));
    return q->shape[0] * q->shape[1] * pairs * q->shape[3];
}

static inline int64_t stretched(const stretch *s, int64_t n)
{
    int64_t elements = 0;
    for (int64_t i = 0; i < n; i++)
        elements += s[i].n;
    return elements;
}

static inline int64_t with_momentum(const stretch *s, int64_t n)
{
    return n > 0 && s->m ? 5 : 3;
}

static inline int64_t folded(const fold_order *order, bool additions)
{
    int64_t count = 0;
    for (int i = 0; i < order->length; i++)
        count += (order->step[i] == FOLD_ADD) == additions;
    return count;
}

static inline bool is_low(const tensor *t)
{
    return dtype_is_low(t->dtype);
}

/* ---- (arguments), flops, bytes[, low] ---- */

#define COST_fill (out, value), 0, size_of(out)
#define COST_copy (out, x), 0, size_of(out) + size_of(x)
#define COST_uniform (out, key, counter, low, high), 0, size_of(out)
#define COST_normal (out, key, counter, mean, std), 0, size_of(out)
#define COST_all_finite (x), 0, size_of(x)
#define COST_elementwise \
    (op, out, inputs, in, p, q, add), N(out), written(out, add) + sizes_of(inputs, in)
#define COST_where \
    (out, condition, a, b), 0, size_of(out) + size_of(condition) + size_of(a) + size_of(b)
#define COST_dropout (out, x, p, key, counter), N(x), sink_size(out) + size_of(x)
#define COST_reduce (op, out, x, scale, add), N(x), written(out, add) + size_of(x)
#define COST_argmax (out, x, dim), 0, size_of(out) + size_of(x)
/* maximum, difference, exp, sum, quotient */
#define COST_softmax (out, x, log), 5 * N(x), size_of(out) + size_of(x)
#define COST_softmax_grad (dx, y, g, log), 4 * N(y), sink_size(dx) + size_of(y) + size_of(g)
#define COST_logsumexp (out, x), 4 * N(x), size_of(out) + size_of(x)
#define COST_check_index (index, limit, ignore), 0, size_of(index)
/* a table may be wider than its rows */
#define COST_embedding \
    (out, table, index), 0, \
        size_of(out) + N(out) * (int64_t)tensor_item_size(table) + size_of(index)
#define COST_embedding_grad \
    (dtable, g, index), N(g), \
        size_of(g) + 2 * N(g) * (int64_t)tensor_item_size(dtable.t) + size_of(index) + \
            (dtable.add ? 0 : size_of(dtable.t))
#define COST_gather (out, x, dim, index), 0, 2 * size_of(out) + size_of(index)
#define COST_gather_grad \
    (dx, g, dim, index), N(g), 3 * size_of(g) + size_of(index) + (dx.add ? 0 : size_of(dx.t))
#define COST_matmul \
    (out, a, b, bias, add), product_flops(out, a, bias, add), \
        written(out, add) + size_of(a) + size_of(b) + size_of(bias), is_low(a)
#define COST_linear \
    (out, pre, x, w, bias, act), product_flops(out, x, bias, false) + (act < 0 ? 0 : N(out)), \
        size_of(out) + size_of(pre) + size_of(x) + size_of(w) + size_of(bias), is_low(x)
#define COST_activation_grad \
    (dpre, dbias, act, kept, g), (act < 0 ? 1 : 2) * N(g), \
        size_of(dpre) + sink_size(dbias) + (act < 0 ? 0 : size_of(kept)) + size_of(g)
#define COST_conv2d \
    (out, pre, x, w, bias, how, act), \
        conv_flops(out, x, how) + (bias ? N(out) : 0) + (act < 0 ? 0 : N(out)), \
        size_of(out) + size_of(pre) + size_of(x) + size_of(w) + size_of(bias), is_low(x)
#define COST_conv2d_grad_input \
    (dx, g, w, how), conv_input_flops(g, w), sink_size(dx) + size_of(g) + size_of(w), is_low(g)
#define COST_conv2d_grad_weight \
    (dw, dbias, g, x, how), (dw.t ? conv_flops(g, x, how) : 0) + (dbias.t ? N(g) : 0), \
        sink_size(dw) + sink_size(dbias) + size_of(g) + size_of(x), is_low(g)
#define COST_max_pool2d \
    (out, at, x, how), N(out) * how.kernel *how.kernel, size_of(out) + size_of(at) + size_of(x)
#define COST_max_pool2d_grad (dx, g, at, how), N(g), sink_size(dx) + size_of(g) + size_of(at)
#define COST_avg_pool2d (out, x, how), N(out) * how.kernel *how.kernel, size_of(out) + size_of(x)
#define COST_avg_pool2d_grad (dx, g, how), N(g) * how.kernel *how.kernel, sink_size(dx) + size_of(g)
/* the mean 1, the variance 3, difference, factor, weight, bias */
#define COST_layer_norm \
    (out, mean, rstd, sum, x, residual, w, b, eps), (residual ? 9 : 8) * N(x), \
        size_of(out) + size_of(sum) + size_of(x) + size_of(residual)
#define COST_layer_norm_grad \
    (dx, dw, db, g, x, w, mean, rstd), 14 * N(x), sink_size(dx) + size_of(g) + size_of(x)
#define COST_channel_stats (mean, var, x), 4 * N(x), size_of(x)
#define COST_channel_norm (out, x, mean, var, w, b, eps), 2 * N(x), size_of(out) + size_of(x)
/* the two sums read g and x once, their use once more */
#define COST_channel_norm_grad \
    (dx, dw, db, g, x, mean, var, w, eps, batch), 8 * N(x), \
        sink_size(dx) + 2 * (size_of(g) + size_of(x))
#define COST_channel_sums (sums, g, x, mean), 4 * N(x), size_of(g) + size_of(x)
#define COST_channel_norm_grad_from \
    (dx, dw, db, g, x, mean, var, w, eps, own, all, count), 4 * N(x), \
        sink_size(dx) + size_of(g) + size_of(x)
#define COST_count_targets (target, ignore), 0, size_of(target)
#define COST_cross_entropy \
    (loss, lse, logits, target, counted, ignore, smoothing), 4 * N(logits), \
        size_of(logits) + size_of(target) + size_of(lse)
#define COST_cross_entropy_grad \
    (dx, g, lse, logits, target, counted, ignore, smoothing), 4 * N(logits), \
        sink_size(dx) + size_of(logits) + size_of(target)
/* q k and its product with v; the gradient makes q k anew and four products more */
#define COST_attention \
    (out, lse, q, k, v, scale, causal), 4 * attention_products(q, k, causal), \
        size_of(out) + size_of(q) + size_of(k) + size_of(v)
#define COST_attention_grad \
    (dq, dk, dv, g, out, lse, q, k, v, scale, causal), 10 * attention_products(q, k, causal), \
        sink_size(dq) + sink_size(dk) + sink_size(dv) + size_of(g) + size_of(out) + size_of(q) + \
            size_of(k) + size_of(v)
#define COST_sum_squares (sum, s, n), 2 * stretched(s, n), 4 * stretched(s, n)
#define COST_clip (c, max_norm, scale), 0, 0
#define COST_unscale (c, scale), 0, 0
#define COST_rescale (scale, rule), 0, 0
#define COST_scale (s, n, c), stretched(s, n), 8 * stretched(s, n)
#define COST_sgd (s, n, step, c), 4 * stretched(s, n), 4 * with_momentum(s, n) * stretched(s, n)
/* parameter and both moments are read and written, the gradient is read */
#define COST_adam (s, n, step, c), 14 * stretched(s, n), 28 * stretched(s, n)
#define COST_fold \
    (order, in, out, outs, n, dtype, scale, squares), n *folded(order, true), \
        n *(int64_t)torc_dtype_size(dtype) * (folded(order, false) + outs)

#endif
