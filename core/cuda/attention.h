/*
 * attention -- what the files of attention share on the GPU.
 *
 *     attention.cu         forward   }  on tensor cores: all but f64, D up to 128
 *     attention_grad.cu    backward  }
 *     attention_tile.h     their tiles in shared memory, and products of them
 *     attention_pack.cu    operands in the form that tiles are read from
 *     attention_plain.cu   both ways for the rest: f64, wider heads
 *
 * Words
 *   head         one (b, h): q [T, D], k and v [S, D]
 *   query, key   a row of q; a row of k, and of v
 *   visible      how many keys a query sees: the first so many. Causal: query i sees the keys
 *                0 .. i + S - T.
 *
 *         T = 3, S = 5      q0  x x x . .          T = 4, S = 3      q0  . . .      sees none: its
 *                           q1  x x x x .                            q1  x . .      out is 0, its
 *                           q2  x x x x x                            q2  x x .      lse -inf
 *                                                                    q3  x x x
 */
#ifndef TORC_CUDA_ATTENTION_H
#define TORC_CUDA_ATTENTION_H

#include "core/cuda/reduce.h"

#define ATTENTION_LOG2_E 1.44269504088896341

typedef struct heads {
    int64_t count, per_batch; /* B H, H */
    int64_t rows, columns;    /* T, S */
    int64_t width;            /* D */
    int64_t reach;            /* query i sees keys 0 .. i + reach - 1, as far as there are any */
    double scale;
} heads;

static inline heads heads_of(const tensor *q, const tensor *k, double scale, bool causal)
{
    int64_t count = q->shape[0] * q->shape[1], rows = q->shape[2], columns = k->shape[2];
    if (count > INT_MAX)
        bug("%lld heads", (long long)count);
    int64_t reach = causal ? columns - rows + 1 : columns;
    return {count, q->shape[1], rows, columns, q->shape[3], reach, scale};
}

__host__ __device__ static inline int64_t visible(const heads &h, int64_t query)
{
    int64_t end = query + h.reach;
    return end < 0 ? 0 : end < h.columns ? end : h.columns;
}

/* The first query that sees the key; it may be behind the last. */
__host__ __device__ static inline int64_t first_to_see(const heads &h, int64_t key)
{
    int64_t first = key - h.reach + 1;
    return first < 0 ? 0 : first;
}

/* ---- the rows of all heads of a tensor ---- */

/* Row i of head (b, h) begins at b batch + h head + i row, in elements; its own stride is 1. */
typedef struct row_strides {
    int64_t batch, head, row;
} row_strides;

static inline row_strides row_strides_of(const tensor *t)
{
    int64_t stride[3]; /* a dimension of 1 may have any stride, and needs none */
    for (int d = 0; d < 3; d++)
        stride[d] = t->shape[d] > 1 ? t->stride[d] : 0;
    return {stride[0], stride[1], stride[2]};
}

static inline bool strides_divide(const row_strides &s, int64_t by)
{
    return s.batch % by == 0 && s.head % by == 0 && s.row % by == 0;
}

/* A division of 64 bits is a loop; there are never as many heads. */
__device__ static inline int64_t head_place(const row_strides &s, const heads &h, int head)
{
    int batch = head / (int)h.per_batch;
    return batch * s.batch + (head - batch * (int)h.per_batch) * s.head;
}

/* Rows begin at multiples of 16 bytes. */
static inline bool rows_aligned(const tensor *t)
{
    int64_t n = 16 / (int64_t)tensor_item_size(t);
    return is_aligned(tensor_data(t)) && strides_divide(row_strides_of(t), n);
}

/* The first `left` of N columns of a row, a multiple of 16 bytes; zeros behind them. */
template <class E, int N>
__device__ static inline void read_columns(compute<E> x[N], const E *from, int64_t left,
                                           bool aligned)
{
    constexpr int STEP = pack_width<E>;
    for (int i = 0; i < N; i += STEP) {
        pack<E, STEP> p = {};
        if (aligned && left >= i + STEP)
            p = *(const pack<E, STEP> *)(from + i);
        else
            for (int k = 0; k < STEP; k++)
                if (i + k < left)
                    p.at[k] = from[i + k];
        for (int k = 0; k < STEP; k++)
            x[i + k] = widen(p.at[k]);
    }
}

/* ---- results ---- */

/* out, or a gradient, which may be wider than the operands. */
typedef struct target {
    void *at; /* NULL: nobody wants it */
    row_strides stride;
    torc_dtype dtype;
    bool add;
    bool pairs; /* two columns, the first of them even, can be written at once */
} target;

static inline target target_of(tensor *t, bool add)
{
    if (!t)
        return {};
    row_strides stride = row_strides_of(t);
    uintptr_t at = (uintptr_t)tensor_data(t);
    bool pairs = at % (2 * tensor_item_size(t)) == 0 && strides_divide(stride, 2);
    return {tensor_data(t), stride, t->dtype, add, pairs};
}

template <class E, class T> __device__ static inline void give(const target &to, E *at, T x)
{
    *at = narrow<E>(to.add ? widen(*at) + x : x);
}

/* The first `left` of x and y; `at` is an even column. */
template <class E>
__device__ static inline void give_pair(const target &to, E *at, float x, float y, int left)
{
    if (left >= 2 && to.pairs) {
        pack<E, 2> *pair = (pack<E, 2> *)at, before = {};
        if (to.add)
            before = *pair;
        *pair = {narrow<E>(widen(before.at[0]) + x), narrow<E>(widen(before.at[1]) + y)};
        return;
    }
    if (left >= 1)
        give(to, at, x);
    if (left >= 2)
        give(to, at + 1, y);
}

/* ---- what backward knows of a query: p = e^(s - shift), ds = p (dp - delta) ---- */

template <class T> struct alignas(2 * sizeof(T)) query_state {
    T shift; /* its lse, or 0 where that is infinite and p is 0 anyway; in the units of s */
    T delta; /* the sum of g out over D */
};

/* ---- operands of tensor cores ---- */

/* The largest width that they take, and the largest number of rows. */
enum { TILE_WIDTH = 128, TILE_ROWS_MOST = 1 << 30 };

/* bf16 or f16, in parts of which the element is the sum; rows begin at multiples of 16 bytes, and
 * what there is of them is whole packs of 8. Either is moved as the 16 bits that it is. */
typedef struct parts {
    const uint16_t *at;
    row_strides stride;
    int64_t part;  /* from one part to the next */
    int width;     /* of a row, up to the last pack */
    storage *room; /* of a copy, NULL: the tensor itself */
} parts;

/* The rows of t: bf16 or f16 in one part, f32 in three of bf16. */
parts parts_of(const tensor *t, const heads *h);
/* Once what reads them is queued. */
void parts_drop(parts *p);

static inline bool fits_tiles(const heads &h, torc_dtype dtype)
{
    return dtype != TORC_F64 && h.width > 0 && h.width <= TILE_WIDTH && h.columns > 0 &&
           h.rows <= TILE_ROWS_MOST && h.columns <= TILE_ROWS_MOST && h.scale > 0;
}

/* ---- without tensor cores ---- */

void attention_plain(tensor *out, tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                     const heads *h);
/* With the states of all queries, B H T of them in the operands' compute type; units of s: 1. */
void attention_grad_plain(sink dq, sink dk, sink dv, const void *states, const tensor *g,
                          const tensor *q, const tensor *k, const tensor *v, const heads *h);

#endif
