/*
 * heads -- how attention's heads are cut into blocks and tasks, and where their rows are: what its
 * kernels share.
 *
 *               keys: S                           head    one (b, h): q [T, D], k and v [S, D]
 *             +-----+-----+-----+-----+           block   ROWS queries by COLUMNS keys; it is kept
 *   queries:  |  p  |  p  | p \ |     |                   with a row of memory for each key, so
 *   T         +-----+-----+-----+-----+                   that a vector holds queries: maxima and
 *             |  p  |  p  |  p  | p \ |                   sums over keys never cross a vector
 *             +-----+-----+-----+-----+
 *                                                 causal: blocks above the diagonal \ are skipped
 *
 *     attention.h    attention.c    attention_grad.c       f32 and f64: products of vectors
 *     dots.h         attention_low.c    .._low_grad.c      bf16: products of pairs, or of tiles
 *
 * Every sum has one order, that of the blocks, whatever thread computes it: the same bits on any
 * number of threads. A thread's memory grows with S D.
 */
#ifndef TORC_CPU_SIMD_HEADS_H
#define TORC_CPU_SIMD_HEADS_H

#include "core/cpu/scratch.h"
#include "core/cpu/simd/tile.h"

#define ROWS 64 /* pairs of vectors of any level and type */
#define COLUMNS 64
#define TASKS_PER_THREAD 4 /* of unequal size where causal: the last one shall be short */

typedef struct heads {
    int64_t batch, heads, rows, columns, width; /* B, H, T, S, D */
    bool causal;
    double scale;
} heads;

typedef struct block { /* queries row .. row + rows by keys column .. column + columns of a head */
    int64_t row, rows, column, columns;
} block;

static inline heads heads_of(const tensor *q, const tensor *k, double scale, bool causal)
{
    return (heads){q->shape[0], q->shape[1], q->shape[2], k->shape[2], q->shape[3], causal, scale};
}

/* How many keys query i sees: the first so many. */
static inline int64_t visible(const heads *h, int64_t i)
{
    if (!h->causal)
        return h->columns;
    return max_i64(0, min_i64(h->columns, i + h->columns - h->rows + 1));
}

/* How many keys of the block its query r sees; of a query behind the last, as many as the last. */
static inline int64_t seen(const heads *h, const block *b, int64_t r)
{
    int64_t end = visible(h, b->row + min_i64(r, b->rows - 1));
    return max_i64(0, min_i64(b->columns, end - b->column));
}

/* The first query of the block that sees its key j; `rows` where none does. */
static inline int64_t first_to_see(const heads *h, const block *b, int64_t j)
{
    if (!h->causal)
        return 0;
    return max_i64(0, min_i64(b->rows, b->column + j + h->rows - h->columns - b->row));
}

/* Threads for so many products of T x S x D; 30 GB/s take as long as 200 GF/s for 3 bytes each. */
static inline int threads_for(const heads *h, int products)
{
    double flops = 2.0 * products * (double)(h->batch * h->heads) * (double)h->rows *
                   (double)h->columns * (double)h->width;
    return parallel_worth((int64_t)(flops / 7)) ? omp_get_max_threads() : 1;
}

/* Rows (or columns) of a task, whole blocks: enough tasks of `count` heads for the threads. */
static inline int64_t task_size(int64_t rows, int64_t block, int64_t count, int threads)
{
    int64_t cuts = part_count(TASKS_PER_THREAD * threads, max_i64(count, 1));
    return max_i64(1, part_count(part_count(rows, block), cuts)) * block;
}

/* Elements in a multiple of a cache line, so that no two threads share one. */
static inline int64_t whole_lines(int64_t elements)
{
    return round_up(elements, 16);
}

/*
 * 2^x for x up to 0, or a rounding above: x = n + r with |r| <= 1/2; 2^r is a polynomial (Cephes
 * exp2f, 2e-7 off); 2^n goes into the exponent's bits as in exp_f32(). 0 below -127; NaN stays NaN.
 */
static ALWAYS_INLINE vec_f32 power_f32(vec_f32 x)
{
    x = larger_f32((vec_f32){0} - 127.0f, x);
    vec_f32 shifted = x + 12582912.0f, r = x - (shifted - 12582912.0f);
    vec_f32 p = r * 1.535336188319500e-4f + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return p * (vec_f32)(((lanes_f32)shifted + 127) << 23);
}

#define LOG2_E 1.44269504088896341

#define EACH "core/cpu/simd/heads.h"
#include "core/cpu/simd/each.h"

#elif defined T

typedef struct F(rows) { /* of one head, in a tensor: row i is at[i * step .. + D] */
    E *at;
    int64_t step;
} F(rows);

static inline int64_t F(place)(const tensor *t, int64_t head, const heads *h)
{
    return head / h->heads * t->stride[0] + head % h->heads * t->stride[1];
}

static inline F(rows) F(rows_of)(const tensor *t, int64_t head, const heads *h)
{
    return (F(rows)){(E *)tensor_data(t) + F(place)(t, head, h), t->stride[2]};
}

#undef T
#undef E
#undef F
#endif
