/*
 * attention -- what forward and backward of attention in f32 and f64 share: the products of a
 * block (heads.h).
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
 * once a task, padded to whole vectors.
 *
 * Scores are counted in units in which power() is quick: in bits (p = 2^s) for f32. The queries are
 * multiplied with scale * UNIT when they are transposed, so that no score ever is.
 */
#ifndef TORC_CPU_SIMD_ATTENTION_H
#define TORC_CPU_SIMD_ATTENTION_H

#include "core/cpu/simd/heads.h"

#define power_f64 exp_f64

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

#elif defined T

static const T F(unit) = (T)UNIT; /* of scores, in natural logarithms */

typedef struct F(wide_rows) { /* the same, as computed with: padded to whole vectors */
    const T *at;
    int64_t step;
} F(wide_rows);

static inline int64_t F(padded)(int64_t width)
{
    return round_up(width, LANES(T));
}

/* Rows first .. first + n: where they are if whole vectors fit into them, else copied. */
static inline F(wide_rows)
    F(widened)(F(rows) from, int64_t first, int64_t n, int64_t width, T *copy)
{
    const T *at = from.at + first * from.step;
    int64_t padded = F(padded)(width);
    if (padded == width)
        return (F(wide_rows)){at, from.step};
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = 0; e < width; e += LANES(T))
            F(store)(copy + i * padded + e, F(load_some)(at + i * from.step + e, width - e, 0));
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
