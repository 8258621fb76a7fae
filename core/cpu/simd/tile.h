/*
 * tile -- small matrix products in registers, for kernels that multiply blocks in the cache.
 *
 *     c [m, n] (+)= a [m, k] b [k, n]
 *
 *               b    k rows of n, a vector (or two) of each loaded per step
 *          +---------+
 *     a    | . . . . |      a tile: up to TILE_ROWS rows by 2 vectors of c, or twice the rows by
 *     |.|  |  tile   |      one, all in registers while k runs. One element of a, repeated over a
 *     |.|  | . . . . |      vector, is multiplied with a row of b; so a may be read along rows or
 *          +---------+      along columns alike: a transposed left side costs nothing.
 *
 * b and c are by rows, and n is a multiple of LANES: their rows are padded or happen to fit.
 * For every type of vector.h; of bf16 only transpose() knows, the products are of what is computed
 * in.
 */
#ifndef TORC_CPU_SIMD_TILE_H
#define TORC_CPU_SIMD_TILE_H

#include "core/cpu/simd/vector.h"

/* Enough sums on the way to hide the latency of two units: 16 of 32 registers, or 8 of 16. A step
 * of k loads 10 times for 16 products, so that two loads a cycle are no limit. */
#ifdef __AVX512F__
#define TILE_ROWS 8
#else
#define TILE_ROWS 4
#endif

static inline int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

#define EACH "core/cpu/simd/tile.h"
#include "core/cpu/simd/each.h"

#elif defined T

typedef struct F(left) { /* the left side: element (i, k) is at[i * row + k * column] */
    const T *at;
    int64_t row, column;
} F(left);

/* rows and vectors are constants where this is called: everything unrolls into registers. */
static ALWAYS_INLINE void F(tile)(int rows, int vectors, F(left) a, const T *b, int64_t b_row, T *c,
                                  int64_t c_row, int64_t k, bool add)
{
    F(vec) sum[2 * TILE_ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? F(load)(c + r * c_row + v * LANES(T)) : (F(vec)){0};
    for (int64_t i = 0; i < k; i++, a.at += a.column, b += b_row) {
        F(vec) right[2] = {F(load)(b)};
        if (vectors == 2)
            right[1] = F(load)(b + LANES(T));
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a.at[r * a.row] * right[v];
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            F(store)(c + r * c_row + v * LANES(T), sum[r][v]);
}

/* Rows *i and on of c, `rows` at a time while so many are left of m. */
static ALWAYS_INLINE void F(tiles)(int rows, int vectors, int64_t *i, int64_t m, F(left) a,
                                   const T *b, int64_t b_row, T *c, int64_t c_row, int64_t k,
                                   bool add)
{
    for (; *i + rows <= m; *i += rows) {
        F(left) from = {a.at + *i * a.row, a.row, a.column};
        F(tile)(rows, vectors, from, b, b_row, c + *i * c_row, c_row, k, add);
    }
}

/* All rows of c, a strip of `vectors` wide. */
static ALWAYS_INLINE void F(strip)(int vectors, int64_t m, F(left) a, const T *b, int64_t b_row,
                                   T *c, int64_t c_row, int64_t k, bool add)
{
    int64_t i = 0;
    if (vectors == 1)
        F(tiles)(2 * TILE_ROWS, 1, &i, m, a, b, b_row, c, c_row, k, add);
    F(tiles)(TILE_ROWS, vectors, &i, m, a, b, b_row, c, c_row, k, add);
    if (TILE_ROWS > 4)
        F(tiles)(4, vectors, &i, m, a, b, b_row, c, c_row, k, add);
    F(tiles)(2, vectors, &i, m, a, b, b_row, c, c_row, k, add);
    F(tiles)(1, vectors, &i, m, a, b, b_row, c, c_row, k, add);
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

/* Transposes LANES vectors: log2(LANES) times, vectors i and i + LANES / 2 are interleaved, which
 * moves one bit of the row's number into the column's. */
static ALWAYS_INLINE void F(turn)(F(vec) * now)
{
    enum { N = VECTOR_BYTES / sizeof(T) };
    F(vec) next[N];
    F(lanes) low, high;
    for (int i = 0; i < N; i++) {
        low[i] = i / 2 + i % 2 * N;
        high[i] = low[i] + N / 2;
    }
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
}

/* `columns` rows of to = columns of from, times `scale`; lanes from `rows` on are 0. Neither is
 * more than LANES. */
static ALWAYS_INLINE void F(turn_square)(const E *from, int64_t from_row, int64_t rows,
                                         int64_t columns, T scale, T *to, int64_t to_row)
{
    enum { N = VECTOR_BYTES / sizeof(T) };
    F(vec) now[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; i++)
        now[i] = i < rows ? F(read_some)(from + i * from_row, columns, 0) * scale : (F(vec)){0};
    F(turn)(now);
#pragma GCC unroll 16
    for (int i = 0; i < N; i++)
        if (i < columns)
            F(store)(to + i * to_row, now[i]);
}

/* to [columns, padded] = scale times the transpose of from [rows, columns], then zeros up to
 * `padded`, whole vectors. */
static __attribute__((noinline, unused)) void F(transpose)(const E *from, int64_t from_row,
                                                           int64_t rows, int64_t columns, T scale,
                                                           T *to, int64_t padded)
{
    for (int64_t i = 0; i < padded; i += LANES(T))
        for (int64_t j = 0; j < columns; j += LANES(T)) {
            const E *at = from + i * from_row + j;
            if (i + LANES(T) <= rows && j + LANES(T) <= columns)
                F(turn_square)
            (at, from_row, LANES(T), LANES(T), scale, to + j * padded + i, padded);
            else F(turn_square)(at, from_row, rows - i, min_i64(LANES(T), columns - j), scale,
                                to + j * padded + i, padded);
        }
}

#undef T
#undef E
#undef F
#endif
