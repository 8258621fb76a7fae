/*
 * attention_plain -- attention without tensor cores, in the type of the operands: for f64, for wide
 * heads, and for a scale that is not above 0.
 *
 *     a warp: one row, up to 256 columns      lanes    0   1   2  ..  31
 *                                             s_j      a product of two rows is summed over all
 *                                                      lanes, 32 of them in turn; then lane i has
 *                                                      that with the i-th row of the other side
 *                                             sum_c    columns c, c + 32, .. of the result
 *
 * Wider rows take more warps, each of which computes all scores again. The equations are those of
 * attention.cu and attention_grad.cu.
 */
#include "core/cuda/attention.h"

enum { THREADS = 128, EACH_LANE = 8, SLICE = EACH_LANE * WARP };

typedef struct rows_at {
    const void *at;
    row_strides stride;
} rows_at;

static rows_at rows_of(const tensor *t)
{
    return {tensor_data(t), row_strides_of(t)};
}

/* What a warp is to compute. */
typedef struct task {
    int head;
    int64_t row, column;
} task;

static int64_t slices_of(const heads &h)
{
    return max_i64(1, part_count(h.width, SLICE)); /* a head without columns still has an lse */
}

static int64_t blocks_of(const heads &h, int64_t rows)
{
    return grid_of(h.count * rows * slices_of(h) * WARP, THREADS);
}

__device__ static inline task task_of(int64_t i, int64_t rows, int64_t slices)
{
    return {(int)(i / slices / rows), i / slices % rows, i % slices * SLICE};
}

/* for (i = this warp; i < n; i += all warps) */
#define EACH_WARP(i, n) \
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP; i < (n); \
         i += (int64_t)gridDim.x * THREADS / WARP)

__device__ static inline int lane_here()
{
    return (int)threadIdx.x % WARP;
}

template <class E>
__device__ static inline const E *row_of(const rows_at &r, const heads &h, int head, int64_t row)
{
    return (const E *)r.at + head_place(r.stride, h, head) + row * r.stride.row;
}

/* To all lanes. */
template <class E>
__device__ static inline compute<E> row_product(const E *a, const E *b, int64_t width)
{
    compute<E> sum = 0;
    for (int64_t e = lane_here(); e < width; e += WARP)
        sum += widen(a[e]) * widen(b[e]);
    return warp_sum(sum);
}

/* sum [columns of this lane] += x row */
template <class E>
__device__ static inline void add_row(compute<E> sum[EACH_LANE], compute<E> x, const E *row,
                                      int64_t column, int64_t width)
{
    for (int c = 0; c < EACH_LANE; c++)
        if (column + lane_here() + c * WARP < width)
            sum[c] += x * widen(row[column + lane_here() + c * WARP]);
}

template <class G, class T>
__device__ static inline void give_row_as(const target &to, int64_t place, const T sum[EACH_LANE],
                                          T scale, int64_t n)
{
    G *at = (G *)to.at + place + lane_here();
    for (int c = 0; c < EACH_LANE; c++)
        if (lane_here() + c * WARP < n)
            give(to, at + c * WARP, sum[c] * scale);
}

/* A task's columns of its row of a result. */
template <class T>
__device__ static inline void give_row(const target &to, const heads &h, const task &t,
                                       const T sum[EACH_LANE], T scale)
{
    int64_t place = head_place(to.stride, h, t.head) + t.row * to.stride.row + t.column;
    int64_t n = h.width - t.column;
    if (!to.at)
        return;
    if (to.dtype == TORC_BF16)
        give_row_as<bf16>(to, place, sum, scale, n);
    else if (to.dtype == TORC_F16)
        give_row_as<f16>(to, place, sum, scale, n);
    else if (to.dtype == TORC_F32)
        give_row_as<float>(to, place, sum, scale, n);
    else
        give_row_as<double>(to, place, sum, scale, n);
}

/* ---- forward ---- */

typedef struct plain {
    heads h;
    int64_t slices;
    rows_at q, k, v;
    target out;
    void *lse;
} plain;

/* Maximum, sum of e^(s - m) and sum of e^(s - m) v of the keys so far. */
template <class E> struct progress {
    compute<E> m, l, sum[EACH_LANE];
};

/* Keys first .. first + n, up to 32. */
template <class E>
__device__ static inline void see_keys(progress<E> &so_far, const plain &p, const task &t,
                                       int64_t first, int n)
{
    using T = compute<E>;
    const heads &h = p.h;
    const E *q = row_of<E>(p.q, h, t.head, t.row);
    T score = -INFINITY;
    for (int i = 0; i < n; i++) {
        T s = row_product(q, row_of<E>(p.k, h, t.head, first + i), h.width) * (T)h.scale;
        score = i == lane_here() ? s : score;
    }
    T m = fmax(so_far.m, warp_max(score)), shift = isfinite(m) ? m : 0; /* inf - inf is no number */
    T factor = exp(so_far.m - shift), power = exp(score - shift);
    so_far.m = m;
    so_far.l = so_far.l * factor + warp_sum(power);
    for (int c = 0; c < EACH_LANE; c++)
        so_far.sum[c] *= factor;
    for (int i = 0; i < n; i++)
        add_row(so_far.sum, __shfl_sync(~0u, power, i), row_of<E>(p.v, h, t.head, first + i),
                t.column, h.width);
}

template <class E> __global__ void attention_rows(plain p)
{
    using T = compute<E>;
    EACH_WARP(i, p.h.count * p.h.rows * p.slices)
    {
        task t = task_of(i, p.h.rows, p.slices);
        progress<E> so_far = {(T)-INFINITY, 0, {}};
        int64_t end = visible(p.h, t.row);
        for (int64_t j = 0; j < end; j += WARP)
            see_keys(so_far, p, t, j, (int)(end - j < WARP ? end - j : WARP));
        bool none = so_far.l == 0;
        give_row(p.out, p.h, t, so_far.sum, none ? (T)0 : 1 / so_far.l);
        if (t.column == 0 && lane_here() == 0)
            ((T *)p.lse)[t.head * p.h.rows + t.row] = (none ? 0 : so_far.m) + log(so_far.l);
    }
}

void attention_plain(tensor *out, tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                     const heads *h)
{
    plain p = {*h,         slices_of(*h),         rows_of(q),      rows_of(k),
               rows_of(v), target_of(out, false), tensor_data(lse)};
    BY_FLOAT(q->dtype, LAUNCH(attention_rows<E>, blocks_of(*h, h->rows), THREADS, p));
}

/* ---- backward ---- */

/* One of the two passes: a row of one side, against those of the other that see it or are seen.
 *
 *     OF_KEYS    own k, v    other q, g     products: dk = scale ds^T q     powers: dv = p^T g
 *     else       own q, g    other k, v     products: dq = scale ds k */
typedef struct plain_grad {
    heads h;
    int64_t slices;
    rows_at own[2], other[2];
    target products, powers;
    const void *states;
} plain_grad;

template <class E> struct grad_sums {
    compute<E> products[EACH_LANE], powers[EACH_LANE];
};

/* Rows first .. first + n of the other side, up to 32. */
template <class E, bool OF_KEYS>
__device__ static inline void see_rows(grad_sums<E> &sums, const plain_grad &p, const task &t,
                                       int64_t first, int n)
{
    using T = compute<E>;
    const heads &h = p.h;
    T score = 0, dp = 0;
    for (int i = 0; i < n; i++) {
        T x[2];
        for (int k = 0; k < 2; k++)
            x[k] = row_product(row_of<E>(p.own[k], h, t.head, t.row),
                               row_of<E>(p.other[k], h, t.head, first + i), h.width);
        score = i == lane_here() ? x[0] : score;
        dp = i == lane_here() ? x[1] : dp;
    }
    int64_t query = OF_KEYS ? first + (lane_here() < n ? lane_here() : 0) : t.row;
    query_state<T> state = ((const query_state<T> *)p.states)[t.head * h.rows + query];
    T power = exp(score * (T)h.scale - state.shift), ds = power * (dp - state.delta);
    for (int i = 0; i < n; i++) {
        add_row(sums.products, __shfl_sync(~0u, ds, i), row_of<E>(p.other[0], h, t.head, first + i),
                t.column, h.width);
        if (OF_KEYS)
            add_row(sums.powers, __shfl_sync(~0u, power, i),
                    row_of<E>(p.other[1], h, t.head, first + i), t.column, h.width);
    }
}

template <class E, bool OF_KEYS> __global__ void attention_grad_rows(plain_grad p)
{
    using T = compute<E>;
    const heads &h = p.h;
    int64_t rows = OF_KEYS ? h.columns : h.rows;
    EACH_WARP(i, h.count * rows * p.slices)
    {
        task t = task_of(i, rows, p.slices);
        grad_sums<E> sums = {};
        int64_t end = OF_KEYS ? h.rows : visible(h, t.row);
        for (int64_t j = OF_KEYS ? first_to_see(h, t.row) : 0; j < end; j += WARP)
            see_rows<E, OF_KEYS>(sums, p, t, j, (int)(end - j < WARP ? end - j : WARP));
        give_row(p.products, h, t, sums.products, (T)h.scale);
        if (OF_KEYS)
            give_row(p.powers, h, t, sums.powers, (T)1);
    }
}

void attention_grad_plain(sink dq, sink dk, sink dv, const void *states, const tensor *g,
                          const tensor *q, const tensor *k, const tensor *v, const heads *h)
{
    plain_grad p = {};
    p.h = *h;
    p.slices = slices_of(*h);
    p.states = states;
    rows_at queries[] = {rows_of(q), rows_of(g)}, keys[] = {rows_of(k), rows_of(v)};
    for (int i = 0; i < 2; i++) {
        p.own[i] = queries[i];
        p.other[i] = keys[i];
    }
    p.products = target_of(dq.t, dq.add);
    if (dq.t)
        BY_FLOAT(q->dtype,
                 LAUNCH((attention_grad_rows<E, false>), blocks_of(*h, h->rows), THREADS, p));
    for (int i = 0; i < 2; i++) {
        p.own[i] = keys[i];
        p.other[i] = queries[i];
    }
    p.products = target_of(dk.t, dk.add);
    p.powers = target_of(dv.t, dv.add);
    if (dk.t || dv.t)
        BY_FLOAT(q->dtype,
                 LAUNCH((attention_grad_rows<E, true>), blocks_of(*h, h->columns), THREADS, p));
}
