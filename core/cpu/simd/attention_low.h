/*
 * attention_low -- what forward and backward of attention in bf16 share: the products of a block
 * (heads.h), by pairs (dots.h).
 *
 *     scores     s = k q^T                  a: rows of k       b: q, turned, in pairs of columns
 *     out, dq    o^T += v^T p               a: v, turned       b: p in pairs of keys
 *     dv, dk     dv += p g                  a: p               b: g in pairs of queries
 *
 * s [COLUMNS, ROWS] is f32, with queries along a vector. p is rounded to bf16 before it meets v and
 * g, and ds before it meets q and k: out is off by at most 2^-8 of the mean of |v|, dv by 2^-8
 * sum p |g|, dq and dk by 2^-8 scale sum |ds k| and so on, beside the rounding of the result.
 *
 * Queries are worked on by bands of GRAIN. A band has the keys that its last query sees, in whole
 * GRAINs; scores are computed for whole 16s, and what is left up there is p = 0:
 *
 *     queries   0 .. 15    16 .. 31        of a block on the diagonal
 *     key 0     p 0        p p
 *       16      (zeros)    p 0             0: computed, and hidden; zeros: written, not computed
 */
#ifndef TORC_CPU_SIMD_ATTENTION_LOW_H
#define TORC_CPU_SIMD_ATTENTION_LOW_H

#include "core/cpu/simd/dots.h"
#include "core/cpu/simd/heads.h"

enum { SIDE = 16 }; /* queries, or keys, that are computed or not together */

_Static_assert(ROWS % GRAIN == 0 && COLUMNS % GRAIN == 0, "whole bands in a block");

void SIMD(attention_low)(tensor *out, float *lse, const tensor *q, const tensor *k, const tensor *v,
                         const heads *h);
void SIMD(attention_low_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const float *lse, const tensor *q, const tensor *k, const tensor *v,
                              const heads *h);

/* Rows first .. first + n of a head of t. */
static inline low_rows low_rows_of(const tensor *t, int64_t head, int64_t first, int64_t n,
                                   const heads *h)
{
    rows_bf16 all = rows_of_bf16(t, head, h);
    return (low_rows){all.at + first * all.step, all.step, n, h->width};
}

/* What one thread needs, one piece behind the other, each from a cache line on. Without memory the
 * pieces are only counted. */
typedef struct room {
    char *memory;
    int64_t used;
} room;

static inline void *take_bytes(room *r, int64_t bytes)
{
    char *piece = r->memory ? r->memory + r->used : NULL;
    r->used += round_up(bytes, 64);
    return piece;
}

/* Keys of the block for which the scores of queries r .. r + 15 are computed. */
static inline int64_t computed(const heads *h, const block *b, int64_t r)
{
    return round_up(seen(h, b, r / SIDE * SIDE + SIDE - 1), SIDE);
}

/* Keys that the band of query r has. */
static inline int64_t band_keys(const heads *h, const block *b, int64_t r)
{
    return round_up(seen(h, b, r / GRAIN * GRAIN + GRAIN - 1), GRAIN);
}

/* scores [COLUMNS, ROWS] = keys [.., width] queries [width / 2, ROWS]. */
static inline void low_scores(const uint16_t *keys, const uint32_t *queries, int64_t width,
                              float *scores, const block *b, const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += GRAIN) {
        int64_t both = computed(h, b, r), rest = computed(h, b, r + SIDE) - both;
        multiply_dots(both, GRAIN, width, keys, width, queries + r, ROWS, scores + r, ROWS, false);
        multiply_dots(rest, SIDE, width, keys + both * width, width, queries + r + SIDE, ROWS,
                      scores + both * ROWS + r + SIDE, ROWS, false);
    }
}

/* to [width, ROWS] (+)= turned p, with turned [width, step] and p [COLUMNS / 2, ROWS] in pairs. */
static inline void low_by_queries(const uint16_t *turned, int64_t step, const uint32_t *p,
                                  int64_t width, float *to, bool add, const block *b,
                                  const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += GRAIN)
        multiply_dots(width, GRAIN, band_keys(h, b, r), turned, step, p + r, ROWS, to + r, ROWS,
                      add);
}

/* Which lanes of queries from r on do not see key j of the block. */
static ALWAYS_INLINE lanes_f32 unseen(const heads *h, const block *b, int64_t r, int64_t j)
{
    lanes_f32 lane;
    for (int i = 0; i < (int)LANES(float); i++)
        lane[i] = i;
    if (j >= b->columns)
        return lane >= 0;
    int64_t first = h->causal ? b->column + j + h->rows - h->columns - b->row - r : 0;
    return lane < (int32_t)max_i64(-1, min_i64(first, ROWS));
}

#endif
