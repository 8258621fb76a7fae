/*
 * tile -- small matrix products in registers, for kernels that multiply blocks in the cache.
 *
 *     c [m, n] (+)= a [m, k] b [k, n]
 *
 *               b    k rows of n, a vector (or two) of each loaded per step
 *          +---------+
 *     a    | . . . . |      a tile: up to TILE_ROWS rows by 2 vectors of c, all in registers while
 *     |.|  |  tile   |      k runs. One element of a, repeated over a vector, is multiplied with a
 *     |.|  | . . . . |      row of b; so a may be read along rows or along columns alike, and a
 *          +---------+      product with a transposed left side costs nothing.
 *
 * b and c are by rows, and n is a multiple of LANES: their rows are padded or happen to fit.
 * For float and for double, as vector.h.
 */
#ifndef TORC_CPU_SIMD_TILE_H
#define TORC_CPU_SIMD_TILE_H

#include "core/cpu/simd/vector.h"

/* Enough sums on the way to hide the latency of two units: 16 of 32 registers, or 8 of 16. */
#ifdef __AVX512F__
#define TILE_ROWS 8
#else
#define TILE_ROWS 4
#endif

static inline int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/tile.h"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/tile.h"

#elif defined T

typedef struct F(left) { /* the left side: element (i, k) is at[i * row + k * column] */
    const T *at;
    int64_t row, column;
} F(left);

/* rows and vectors are constants where this is called: everything unrolls into registers. */
static ALWAYS_INLINE void F(tile)(int rows, int vectors, F(left) a, const T *b, int64_t b_row, T *c,
                                  int64_t c_row, int64_t k, bool add)
{
    F(vec) sum[TILE_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? F(load)(c + r * c_row + v * LANES(T)) : (F(vec)){0};
    for (int64_t i = 0; i < k; i++, a.at += a.column, b += b_row) {
        F(vec) right[2] = {F(load)(b)};
        if (vectors == 2)
            right[1] = F(load)(b + LANES(T));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a.at[r * a.row] * right[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            F(store)(c + r * c_row + v * LANES(T), sum[r][v]);
}

/* All rows of c, a strip of `vectors` wide. */
static ALWAYS_INLINE void F(strip)(int vectors, int64_t m, F(left) a, const T *b, int64_t b_row,
                                   T *c, int64_t c_row, int64_t k, bool add)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS, a.at += TILE_ROWS * a.row, c += TILE_ROWS * c_row)
        F(tile)(TILE_ROWS, vectors, a, b, b_row, c, c_row, k, add);
    for (; i + 2 <= m; i += 2, a.at += 2 * a.row, c += 2 * c_row)
        F(tile)(2, vectors, a, b, b_row, c, c_row, k, add);
    if (i < m)
        F(tile)(1, vectors, a, b, b_row, c, c_row, k, add);
}

static __attribute__((noinline, unused)) void F(multiply)(int64_t m, int64_t n, int64_t k,
                                                          F(left) a, const T *b, int64_t b_row,
                                                          T *c, int64_t c_row, bool add)
{
    int64_t j = 0;
    for (; j + 2 * LANES(T) <= n; j += 2 * LANES(T))
        F(strip)(2, m, a, b + j, b_row, c + j, c_row, k, add);
    if (j < n)
        F(strip)(1, m, a, b + j, b_row, c + j, c_row, k, add);
}

/* A square of LANES x LANES: log2(LANES) times, rows i and i + LANES / 2 are interleaved, which
 * moves one bit of the row's number into the column's. */
static ALWAYS_INLINE void F(turn_square)(const T *from, int64_t from_row, T *to, int64_t to_row)
{
    enum { N = VECTOR_BYTES / sizeof(T) };
    F(vec) now[N], next[N];
    F(lanes) low, high;
    for (int i = 0; i < N; i++) {
        low[i] = i / 2 + i % 2 * N;
        high[i] = low[i] + N / 2;
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; i++)
        now[i] = F(load)(from + i * from_row);
#pragma GCC unroll 4
    for (int step = 1; step < N; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < N / 2; i++) {
            next[2 * i] = __builtin_shuffle(now[i], now[i + N / 2], low);
            next[2 * i + 1] = __builtin_shuffle(now[i], now[i + N / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < N; i++)
            now[i] = next[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; i++)
        F(store)(to + i * to_row, now[i]);
}

/* to [columns, padded] = the transpose of from [rows, columns], then zeros up to `padded`. */
static __attribute__((noinline, unused)) void F(transpose)(const T *from, int64_t from_row,
                                                           int64_t rows, int64_t columns, T *to,
                                                           int64_t padded)
{
    int64_t whole_rows = rows / LANES(T) * LANES(T), whole = columns / LANES(T) * LANES(T);
    for (int64_t i = 0; i < whole_rows; i += LANES(T))
        for (int64_t j = 0; j < whole; j += LANES(T))
            F(turn_square)(from + i * from_row + j, from_row, to + j * padded + i, padded);
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = j < whole ? whole_rows : 0; i < rows; i++)
            to[j * padded + i] = from[i * from_row + j];
        for (int64_t i = rows; i < padded; i++)
            to[j * padded + i] = 0;
    }
}

#undef T
#undef F
#endif
