/*
 * attention -- what forward and backward of attention share: how heads are cut into blocks, and how
 * their rows are reached.
 *
 *               keys: S                           head    one (b, h): q [T, D], k and v [S, D]
 *             +-----+-----+-----+-----+           block   ROWS queries by COLUMNS keys; it is kept
 *   queries:  |  p  |  p  | p \ |     |                   with a row of memory for each key, so
 *   T         +-----+-----+-----+-----+                   that a vector holds queries: maxima and
 *             |  p  |  p  |  p  | p \ |                   sums over keys never cross a vector
 *             +-----+-----+-----+-----+
 *                                                 causal: blocks above the diagonal \ are skipped
 *
 * All products are tiles in registers (tile.h). They want the right side by rows, so the queries of
 * a block (and their g) are transposed; the rest is read where it is. A query (forward) or a head
 * (backward) is computed by one thread in one order: the same bits on any number of threads. A
 * thread's memory grows with (T + S) D.
 */
#ifndef TORC_CPU_SIMD_ATTENTION_H
#define TORC_CPU_SIMD_ATTENTION_H

#include "core/cpu/scratch.h"
#include "core/cpu/simd/tile.h"

#define ROWS 32 /* whole vectors of any level and type */
#define COLUMNS 64

typedef struct heads {
    int64_t batch, heads, rows, columns, width; /* B, H, T, S, D */
    bool causal;
    double scale;
} heads;

static inline heads heads_of(const tensor *q, const tensor *k, double scale, bool causal)
{
    return (heads){q->shape[0], q->shape[1], q->shape[2], k->shape[2], q->shape[3], causal, scale};
}

/* How many columns row i sees. */
static inline int64_t visible(const heads *h, int64_t i)
{
    if (!h->causal)
        return h->columns;
    return max_i64(0, min_i64(h->columns, i + h->columns - h->rows + 1));
}

/* Threads for so many products of T x S x D; 30 GB/s take as long as 200 GF/s for 3 bytes each. */
static inline int threads_for(const heads *h, int products)
{
    double flops = 2.0 * products * (double)(h->batch * h->heads) * (double)h->rows *
                   (double)h->columns * (double)h->width;
    return parallel_worth((int64_t)(flops / 7)) ? omp_get_max_threads() : 1;
}

/* Elements in a multiple of a cache line, so that no two threads share one. */
static inline int64_t whole_lines(int64_t elements)
{
    return round_up(elements, 16);
}

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/attention.h"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/attention.h"

#elif defined T

typedef struct F(rows) { /* of one head, in a tensor: row i is at[i * step .. + D] */
    T *at;               /* NULL: not wanted */
    int64_t step;
    bool add;
} F(rows);

static inline F(rows) F(rows_of)(const tensor *t, int64_t head, const heads *h)
{
    if (!t)
        return (F(rows)){0};
    int64_t place = head / h->heads * t->stride[0] + head % h->heads * t->stride[1];
    return (F(rows)){(T *)tensor_data(t) + place, t->stride[2], false};
}

/* The rows where they are if whole vectors fit into them, else a copy padded with zeros. */
static inline F(rows) F(whole_rows)(F(rows) rows, int64_t n, int64_t width, T *copy)
{
    int64_t padded = round_up(width, LANES(T));
    if (padded == width)
        return rows;
    for (int64_t i = 0; i < n; i++) {
        memcpy(copy + i * padded, rows.at + i * rows.step, (size_t)width * sizeof(T));
        memset(copy + i * padded + width, 0, (size_t)(padded - width) * sizeof(T));
    }
    return (F(rows)){copy, padded, false};
}

/* What one thread needs, one piece behind the other. */
static inline T *F(take)(T **memory, int64_t elements)
{
    T *piece = *memory;
    *memory += whole_lines(elements);
    return piece;
}

/* Keys first .. first + n against the queries from `row` on: what a query does not see counts
 * nothing, since e^-inf is 0. Key j is hidden from the queries i < j + T - S. */
static inline void F(hide)(T *scores, int64_t row, int64_t first, int64_t n, const heads *h)
{
    int64_t shift =
        first + h->rows - h->columns - row; /* key j of the block: lanes below j + shift */
    F(lanes) lane;
    for (int i = 0; i < (int)LANES(T); i++)
        lane[i] = i;
    for (int64_t j = max_i64(0, 1 - shift); h->causal && j < n; j++)
        for (int64_t r = 0; r < ROWS; r += LANES(T)) {
            T *at = scores + j * ROWS + r;
            F(lanes) hidden = lane < (F(lane))min_i64(ROWS, j + shift - r);
            F(store)(at, F(choose)(hidden, (F(vec)){0} - (T)INFINITY, F(load)(at)));
        }
}

/* to [D, ROWS]: n rows transposed, the rest 0. */
static inline void F(transpose_rows)(F(rows) from, int64_t first, int64_t n, int64_t width, T *to)
{
    F(transpose)(from.at + first * from.step, from.step, n, width, to, ROWS);
}

#undef T
#undef F
#endif
