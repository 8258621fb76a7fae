/*
 * attention -- what forward and backward of attention share: how heads are cut into blocks, and the
 * products of a block.
 *
 *               keys: S                           head    one (b, h): q [T, D], k and v [S, D]
 *             +-----+-----+-----+-----+           block   ROWS queries by COLUMNS keys; it is kept
 *   queries:  |  p  |  p  | p \ |     |                   with a row of memory for each key, so
 *   T         +-----+-----+-----+-----+                   that a vector holds queries: maxima and
 *             |  p  |  p  |  p  | p \ |                   sums over keys never cross a vector
 *             +-----+-----+-----+-----+
 *                                                 causal: blocks above the diagonal \ are skipped
 *
 * Within the blocks on the diagonal, what is above it is skipped too, as far as tiles and vectors
 * allow; the few pairs left over are hidden (p = 0). Here with 4 queries a vector, 2 a tile:
 *
 *     queries   vector 0     vector 1
 *     key 0     p p p p      p p p p       scores()    a vector has the keys that its last query
 *     key 1     0 p p p      p p p p                   sees, and computes nothing beyond
 *     key 2     0 0 p p      p p p p       by_rows()   sum of p over keys: a tile of queries adds
 *     key 3     0 0 0 p      p p p p                   the keys that its last query sees
 *     key 4                  p p p p       by_keys()   sum of p over queries: a tile of keys adds
 *     key 5                  0 p p p                   the queries that see its first key
 *
 * All products are tiles in registers (tile.h). They want the right side by rows, so the queries of
 * a block (and their g) are transposed; the rest is read where it is, or from a copy that is made
 * once a task: widened to f32 where it is bf16, and padded to whole vectors. Every sum has one
 * order, that of the blocks, whatever thread computes it: the same bits on any number of threads.
 * A thread's memory grows with S D.
 *
 * Scores are counted in units in which power() is quick: in bits (p = 2^s) for f32. The queries are
 * multiplied with scale * UNIT when they are transposed, so that no score ever is.
 */
#ifndef TORC_CPU_SIMD_ATTENTION_H
#define TORC_CPU_SIMD_ATTENTION_H

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

#define power_bf16 power_f32
#define power_f64 exp_f64

#define LOG2_E 1.44269504088896341
#define T float
#define E float
#define F(name) name##_f32
#define UNIT LOG2_E
#include "core/cpu/simd/attention.h"
#define T double
#define E double
#define F(name) name##_f64
#define UNIT 1.0
#include "core/cpu/simd/attention.h"
#define T float
#define E uint16_t
#define F(name) name##_bf16
#define UNIT LOG2_E
#include "core/cpu/simd/attention.h"

#elif defined T

static const T F(unit) = (T)UNIT; /* of scores, in natural logarithms */

typedef struct F(rows) { /* of one head, in a tensor: row i is at[i * step .. + D] */
    E *at;
    int64_t step;
} F(rows);

typedef struct F(wide_rows) { /* the same, as computed with: padded to whole vectors */
    const T *at;
    int64_t step;
} F(wide_rows);

static inline int64_t F(padded)(int64_t width)
{
    return round_up(width, LANES(T));
}

static inline int64_t F(place)(const tensor *t, int64_t head, const heads *h)
{
    return head / h->heads * t->stride[0] + head % h->heads * t->stride[1];
}

static inline F(rows) F(rows_of)(const tensor *t, int64_t head, const heads *h)
{
    return (F(rows)){(E *)tensor_data(t) + F(place)(t, head, h), t->stride[2]};
}

/* Rows first .. first + n: where they are if they are of T and whole vectors fit into them, else
 * copied. */
static inline F(wide_rows)
    F(widened)(F(rows) from, int64_t first, int64_t n, int64_t width, T *copy)
{
    const E *at = from.at + first * from.step;
    int64_t padded = F(padded)(width);
    if (sizeof(E) == sizeof(T) && padded == width)
        return (F(wide_rows)){(const T *)(const void *)at, from.step};
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = 0; e < width; e += LANES(T))
            F(store)(copy + i * padded + e, F(read_some)(at + i * from.step + e, width - e, 0));
    return (F(wide_rows)){copy, padded};
}

/* What one thread needs, one piece behind the other. */
static inline T *F(take)(T **memory, int64_t elements)
{
    T *piece = *memory;
    *memory += whole_lines(elements);
    return piece;
}

/* to [D, ROWS]: the block's rows transposed, the rest 0. */
static inline void F(turn_rows)(F(rows) from, const block *b, int64_t width, T scale, T *to)
{
    F(transpose)(from.at + b->row * from.step, from.step, b->rows, width, scale, to, ROWS);
}

/* How many keys of the block the vector of queries from r on has: as many as the last query of its
 * tile sees, in whole tiles; so whatever a tile reads is there. */
static inline int64_t F(held)(const heads *h, const block *b, int64_t r)
{
    int64_t grain = max_i64(LANES(T), TILE_ROWS), last = r / grain * grain + grain - 1;
    return min_i64(b->columns, round_up(seen(h, b, last), TILE_ROWS));
}

/* scores [COLUMNS, ROWS] = keys queries, with the queries [D, ROWS] transposed. Of two vectors the
 * first may have fewer keys: the second has the rest for itself. */
static void F(scores)(F(wide_rows) keys, const T *queries, T *scores, const block *b,
                      const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += 2 * LANES(T)) {
        int64_t next = r + LANES(T), both = F(held)(h, b, r), rest = F(held)(h, b, next) - both;
        F(left) left = {keys.at, keys.step, 1};
        F(multiply)
        (both, 2 * LANES(T), h->width, left, queries + r, ROWS, scores + r, ROWS, false);
        left.at += both * keys.step;
        F(multiply)
        (rest, LANES(T), h->width, left, queries + next, ROWS, scores + both * ROWS + next, ROWS,
         false);
    }
}

/* Of the vector of queries from r on: what a query does not see counts nothing, e^-inf being 0. Key
 * j of the block is hidden from the lanes below j + shift. */
static inline void F(hide)(T *scores, int64_t r, const block *b, const heads *h)
{
    int64_t shift = b->column + h->rows - h->columns - b->row - r;
    F(lanes) lane;
    for (int i = 0; i < (int)LANES(T); i++)
        lane[i] = i;
    for (int64_t j = seen(h, b, r), end = F(held)(h, b, r); j < end; j++) {
        T *at = scores + j * ROWS + r;
        F(lanes) hidden = lane < (F(lane))(j + shift);
        F(store)(at, F(choose)(hidden, (F(vec)){0} - (T)INFINITY, F(load)(at)));
    }
}

/* to [rows, width] (+)= p^T right, for p [COLUMNS, ROWS] and right [COLUMNS, width]. */
static void F(by_rows)(const T *p, F(wide_rows) right, T *to, int64_t width, bool add,
                       const block *b, const heads *h)
{
    for (int64_t r = 0, end; r < b->rows; r = end) {
        int64_t keys = seen(h, b, r + TILE_ROWS - 1);
        for (end = r + TILE_ROWS; end < b->rows && seen(h, b, end + TILE_ROWS - 1) == keys;)
            end += TILE_ROWS;
        end = min_i64(end, b->rows);
        F(multiply)
        (end - r, width, keys, (F(left)){p + r, 1, ROWS}, right.at, right.step, to + r * width,
         width, add);
    }
}

/* to [columns, width] += p right, for right [ROWS, width]. */
static __attribute__((unused)) void F(by_keys)(const T *p, F(wide_rows) right, T *to, int64_t width,
                                               const block *b, const heads *h)
{
    for (int64_t j = 0, end; j < b->columns; j = end) {
        int64_t first = first_to_see(h, b, j);
        for (end = j + TILE_ROWS; end < b->columns && first_to_see(h, b, end) == first;)
            end += TILE_ROWS;
        end = min_i64(end, b->columns);
        F(multiply)
        (end - j, width, b->rows - first, (F(left)){p + j * ROWS + first, ROWS, 1},
         right.at + first * right.step, right.step, to + j * width, width, true);
    }
}

#undef T
#undef E
#undef F
#undef UNIT
#endif
