/*
 * dots -- products of bf16 that add up in f32, two steps of the inner dimension at a time.
 *
 *     c [m, n] (+)= a [m, k] b [k, n]
 *
 *                   b   k / 2 rows of n pairs: b[2i][j] in the lower half of a word, b[2i + 1][j]
 *                       in the upper
 *              +---------+
 *     a        | .. .. ..|
 *     |....|   |  tile   |   a is by rows, so that two neighbours are a pair as they stand: a word,
 *     |....|   |         |   repeated over a vector, meets a row of pairs of b
 *
 * AVX-512 BF16 has an instruction for it, x0 y0 + x1 y1 + sum in every lane; elsewhere two do the
 * same. AMX has one for 16 x 16 results (core/cpu/amx.h), and asks for k in whole GRAINs and all
 * else in 16s: so everybody keeps to that, with zeros up to there.
 */
#ifndef TORC_CPU_SIMD_DOTS_H
#define TORC_CPU_SIMD_DOTS_H

#include "core/cpu/amx.h"
#include "core/cpu/simd/tile.h"

enum { GRAIN = AMX_K };

/* sum + x0 y0 + x1 y1, lane by lane. */
static ALWAYS_INLINE vec_f32 add_dot(vec_f32 sum, words x, words y)
{
#ifdef __AVX512BF16__
    return (vec_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)y);
#else
    sum += (vec_f32)(x << 16) * (vec_f32)(y << 16);
    return sum + (vec_f32)(x & 0xffff0000u) * (vec_f32)(y & 0xffff0000u);
#endif
}

/* rows and vectors are constants where this is called: everything unrolls into registers. */
static ALWAYS_INLINE void dot_tile(int rows, int vectors, int64_t k, const uint16_t *a,
                                   int64_t a_row, const uint32_t *b, int64_t b_row, float *c,
                                   int64_t c_row, bool add)
{
    vec_f32 sum[2 * TILE_ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? load_f32(c + r * c_row + v * LANES(float)) : (vec_f32){0};
    for (int64_t i = 0; i < k; i += 2, b += b_row) {
        words right[2];
        memcpy(right, b, (size_t)vectors * sizeof *right);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            uint32_t left;
            memcpy(&left, a + r * a_row + i, sizeof left);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[r][v] = add_dot(sum[r][v], (words){0} + left, right[v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store_f32(c + r * c_row + v * LANES(float), sum[r][v]);
}

static ALWAYS_INLINE void dot_strip(int rows, int vectors, int64_t m, int64_t k, const uint16_t *a,
                                    int64_t a_row, const uint32_t *b, int64_t b_row, float *c,
                                    int64_t c_row, bool add)
{
    for (int64_t i = 0; i < m; i += rows)
        dot_tile(rows, vectors, k, a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, add);
}

static __attribute__((noinline, unused)) void dot_multiply(int64_t m, int64_t n, int64_t k,
                                                           const uint16_t *a, int64_t a_row,
                                                           const uint32_t *b, int64_t b_row,
                                                           float *c, int64_t c_row, bool add)
{
    int64_t j = 0;
    for (; j + 2 * LANES(float) <= n; j += 2 * LANES(float))
        dot_strip(TILE_ROWS, 2, m, k, a, a_row, b + j, b_row, c + j, c_row, add);
    if (j < n)
        dot_strip(2 * TILE_ROWS, 1, m, k, a, a_row, b + j, b_row, c + j, c_row, add);
}

/* Every thread that multiplies says when it begins and when it has done. */
typedef amx_shapes dots_state;

static inline dots_state dots_begin(void)
{
#ifdef __AVX512BF16__
    if (amx_here())
        return amx_begin();
#endif
    return (dots_state){0};
}

static inline void dots_end(dots_state *before)
{
    (void)before;
#ifdef __AVX512BF16__
    if (amx_here())
        amx_end(before);
#endif
}

/* By whatever is fastest here. */
static ALWAYS_INLINE void multiply_dots(int64_t m, int64_t n, int64_t k, const uint16_t *a,
                                        int64_t a_row, const uint32_t *b, int64_t b_row, float *c,
                                        int64_t c_row, bool add)
{
    if (m % 16 || n % 16 || k % GRAIN)
        bug("a product [%lld, %lld] [.., %lld] by dots", (long long)m, (long long)k, (long long)n);
#ifdef __AVX512BF16__
    if (amx_here()) {
        amx_multiply(m, n, k, a, a_row, b, b_row, c, c_row, add);
        return;
    }
#endif
    dot_multiply(m, n, k, a, a_row, b, b_row, c, c_row, add);
}

/* ---- pairs ---- */

/* Two vectors rounded to bf16: a pair a lane. */
static ALWAYS_INLINE words pairs_of(vec_f32 first, vec_f32 second)
{
#ifdef __AVX512BF16__
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    typedef uint16_t shorts __attribute__((vector_size(64)));
    shorts order;
    for (int i = 0; i < 32; i++)
        order[i] = (uint16_t)(i / 2 + i % 2 * 16);
    return (words)_mm512_permutexvar_epi16((__m512i)order, both);
#else
    words low = __builtin_convertvector(narrow(first), words);
    return low | __builtin_convertvector(narrow(second), words) << 16;
#endif
}

static ALWAYS_INLINE halves rounded(vec_f32 v)
{
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)v);
#else
    return narrow(v);
#endif
}

/* Of two rows the next numbers, as many as a vector has lanes: a pair a lane; 0 beyond `left`. */
static ALWAYS_INLINE words pairs_of_rows(const uint16_t *first, const uint16_t *second,
                                         int64_t left)
{
    words low = (words)read_some_bf16(first, left, 0) >> 16;
    return second ? low | (words)read_some_bf16(second, left, 0) : low;
}

/* Of a row the next pairs, of `left` numbers that it still has. */
static ALWAYS_INLINE words pairs_of_row(const uint16_t *row, int64_t left)
{
    if (left >= 2 * LANES(float))
        return (words)load_f32((const float *)(const void *)row);
    words pairs = {0};
    if (left > 0)
        memcpy(&pairs, row, (size_t)left * sizeof *row);
    return pairs;
}

/* The rows of what follows: n of them, `step` apart, of `width` numbers. */
typedef struct low_rows {
    const uint16_t *at;
    int64_t step, n, width;
} low_rows;

/* to [n up, width up]: a copy, zeros up to whole GRAINs of both. */
static inline void copy_low_rows(low_rows from, uint16_t *to, int64_t rows_up, int64_t width_up)
{
    for (int64_t i = 0; i < rows_up; i++)
        for (int64_t e = 0; e < width_up; e += 2 * LANES(float), to += 2 * LANES(float)) {
            int64_t left = i < from.n ? from.width - e : 0;
            words pairs = pairs_of_row(from.at + i * from.step + e, left);
            memcpy(to, &pairs, sizeof pairs);
        }
}

/* to [n up / 2, width up] of pairs: b of a product whose inner dimension is that of the rows. */
static inline void pair_rows(low_rows from, uint32_t *to, int64_t rows_up, int64_t width_up)
{
    for (int64_t i = 0; i < rows_up; i += 2)
        for (int64_t e = 0; e < width_up; e += LANES(float), to += LANES(float)) {
            const uint16_t *at = from.at + i * from.step + e;
            words pairs = {0};
            if (i < from.n && e < from.width)
                pairs = pairs_of_rows(at, i + 1 < from.n ? at + from.step : NULL, from.width - e);
            memcpy(to, &pairs, sizeof pairs);
        }
}

enum { SQUARE = VECTOR_BYTES / sizeof(float) }; /* pairs that are turned together, both ways */

/* What there is from row i and column e on, of at most so many rows and columns. */
static ALWAYS_INLINE low_rows piece(low_rows of, int64_t i, int64_t e, int64_t n, int64_t width)
{
    return (low_rows){of.at + i * of.step + e, of.step, min_i64(of.n - i, n),
                      min_i64(of.width - e, width)};
}

/* Row r of the result: pair r of the rows, of SQUARE rows. (Only bits are moved.) */
static ALWAYS_INLINE void turn_columns(low_rows from, uint32_t *to, int64_t step)
{
    vec_f32 now[SQUARE];
#pragma GCC unroll 16
    for (int r = 0; r < SQUARE; r++)
        now[r] =
            r < from.n ? (vec_f32)pairs_of_row(from.at + r * from.step, from.width) : (vec_f32){0};
    turn_f32(now);
#pragma GCC unroll 16
    for (int r = 0; r < SQUARE; r++)
        store_f32((float *)(to + r * step), now[r]);
}

/* Row r of the result: column r of SQUARE pairs of rows. */
static ALWAYS_INLINE void turn_rows_of_pairs(low_rows from, uint32_t *to, int64_t step)
{
    vec_f32 now[SQUARE];
#pragma GCC unroll 16
    for (int r = 0; r < SQUARE; r++) {
        const uint16_t *at = from.at + 2 * r * from.step;
        now[r] = (vec_f32){0};
        if (2 * r < from.n && from.width > 0)
            now[r] =
                (vec_f32)pairs_of_rows(at, 2 * r + 1 < from.n ? at + from.step : NULL, from.width);
    }
    turn_f32(now);
#pragma GCC unroll 16
    for (int r = 0; r < SQUARE; r++)
        store_f32((float *)(to + r * step), now[r]);
}

/* to [width up / 2, rows up] of pairs: b of a product whose inner dimension is that of the columns,
 * the rows transposed. */
static inline void turn_pairs(low_rows from, uint32_t *to, int64_t rows_up, int64_t width_up)
{
    for (int64_t i = 0; i < rows_up; i += SQUARE)
        for (int64_t e = 0; e < width_up; e += 2 * SQUARE) {
            low_rows some = piece(from, i, e, SQUARE, 2 * SQUARE);
            uint32_t *at = to + e / 2 * rows_up + i;
            if (some.n == SQUARE && some.width == 2 * SQUARE) /* constants: nothing is asked */
                turn_columns((low_rows){some.at, some.step, SQUARE, 2 * SQUARE}, at, rows_up);
            else
                turn_columns(some, at, rows_up);
        }
}

/* to [width up, rows up], rows `step` apart: the rows transposed, as a of a product. */
static inline void turn_low_rows(low_rows from, uint16_t *to, int64_t step, int64_t rows_up,
                                 int64_t width_up)
{
    for (int64_t i = 0; i < rows_up; i += 2 * SQUARE)
        for (int64_t e = 0; e < width_up; e += SQUARE) {
            low_rows some = piece(from, i, e, 2 * SQUARE, SQUARE);
            uint32_t *at = (uint32_t *)(to + e * step + i);
            if (some.n == 2 * SQUARE && some.width == SQUARE)
                turn_rows_of_pairs((low_rows){some.at, some.step, 2 * SQUARE, SQUARE}, at,
                                   step / 2);
            else
                turn_rows_of_pairs(some, at, step / 2);
        }
}

#endif
