/*
 * rows -- threads over the rows of a matrix: a warp for a short row, a block for a long one, and
 * 16 bytes an access wherever a row begins.
 *
 *     row of 19 floats     . . . |. . . .|. . . .|. . . .|. . . .|
 *                          single    a pack each, thread by thread
 *
 * A row of an odd length leaves the next one in the middle of a pack; the few elements before the
 * first whole pack, and those behind the last, are taken one by one.
 *
 * Words
 *   team    the threads that share a row
 *   piece   what a thread takes at once: a pack, or a single element
 */
#ifndef TORC_CUDA_ROWS_H
#define TORC_CUDA_ROWS_H

#include "core/cuda/reduce.h"

/* Of a tensor's last dimension; a single number is a row of one. */
static inline int64_t row_length(const tensor *t)
{
    return t->ndim ? t->shape[t->ndim - 1] : 1;
}

static inline int64_t row_count(const tensor *t)
{
    int64_t rows = 1;
    for (int d = 0; d < t->ndim - 1; d++)
        rows *= t->shape[d];
    return rows;
}

/* ---- teams ---- */

enum { ROW_SHORT = 1024, ROW_THREADS_SHORT = 128, ROW_THREADS_LONG = 512 };

/* WIDE: a block, else a warp. */
template <bool WIDE> struct team {
    __device__ static int size()
    {
        return WIDE ? (int)blockDim.x : WARP;
    }
    __device__ static int rank()
    {
        return WIDE ? (int)threadIdx.x : (int)threadIdx.x % WARP;
    }
    __device__ static int64_t count()
    {
        return (int64_t)gridDim.x * (blockDim.x / size());
    }
    __device__ static int64_t index()
    {
        return (int64_t)blockIdx.x * (blockDim.x / size()) + threadIdx.x / size();
    }
    template <class T, class F> __device__ static T fold(T x, F combine)
    {
        if constexpr (WIDE)
            return block_fold(x, combine);
        else
            return warp_fold(x, combine);
    }
    template <class T> __device__ static T sum(T x)
    {
        return fold(x, fold_sum());
    }
};

/* A thread by itself, for rows of a few elements. */
struct alone {
    __device__ static int size()
    {
        return 1;
    }
    __device__ static int rank()
    {
        return 0;
    }
    __device__ static int64_t count()
    {
        return (int64_t)gridDim.x * blockDim.x;
    }
    __device__ static int64_t index()
    {
        return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    }
    template <class T, class F> __device__ static T fold(T x, F)
    {
        return x;
    }
};

/* for (row = this team; row < rows; row += all teams) */
#define EACH_ROW(TEAM, row, rows) \
    for (int64_t row = TEAM::index(); row < (rows); row += TEAM::count())

/* function<E, WIDE>(...) with the teams that rows of n elements ask for. */
#define LAUNCH_ROWS(function, E, rows, n, ...) \
    do { \
        if ((n) <= ROW_SHORT) \
            LAUNCH((function<E, false>), grid_of(rows, ROW_THREADS_SHORT / WARP), \
                   ROW_THREADS_SHORT, __VA_ARGS__); \
        else \
            LAUNCH((function<E, true>), grid_of(rows, 1), ROW_THREADS_LONG, __VA_ARGS__); \
    } while (0)

/* ---- pieces ---- */

template <int N> struct piece {
    static constexpr int width = N;
};

/* Calls visit(i, piece<N>()) for each piece that begins at element i of the row, within the team;
 * N elements of every tensor that is as far from a multiple of 16 bytes as x can be moved at once.
 * Not `packed`: single elements. */
template <class TEAM, class E, class F>
__device__ static inline void row_visit(const E *x, int64_t n, bool packed, F visit)
{
    constexpr int N = pack_width<E>;
    int64_t phase = (int64_t)((uintptr_t)x / sizeof(E) % N);
    int64_t head = packed && phase ? N - phase : 0;
    int64_t packs = packed && n > head ? (n - head) / N : 0;
    if (packs == 0)
        head = 0;
    for (int64_t i = TEAM::rank(); i < packs; i += TEAM::size())
        visit(head + i * N, piece<N>());
    for (int64_t i = TEAM::rank(); i < n - packs * N; i += TEAM::size())
        visit(i < head ? i : i + packs * N, piece<1>());
}

template <class E, class T, int N>
__device__ static inline void piece_load(T (&to)[N], const E *from)
{
    pack<E, N> p = *(const pack<E, N> *)from;
    for (int k = 0; k < N; k++)
        to[k] = widen(p.at[k]);
}

template <class E, class T, int N>
__device__ static inline void piece_store(E *to, const T (&from)[N])
{
    pack<E, N> p;
    for (int k = 0; k < N; k++)
        p.at[k] = narrow<E>(from[k]);
    *(pack<E, N> *)to = p;
}

/* Whether pieces of one are pieces of the other. */
static inline bool same_phase(const void *a, const void *b)
{
    return ((uintptr_t)a - (uintptr_t)b) % 16 == 0;
}

/* ---- sums over a row ---- */

/* The sum of e^x as sum * e^max; `+` joins two. Of the factors one is 1, so a + b has the bits of
 * b + a. */
template <class T> struct powers {
    T max, sum;
};
template <class T> __device__ static inline powers<T> operator+(powers<T> a, powers<T> b)
{
    if (a.max == b.max)
        return {a.max, a.sum + b.sum};
    if (a.max > b.max)
        return {a.max, a.sum + b.sum * exp(b.max - a.max)};
    return {b.max, b.sum + a.sum * exp(a.max - b.max)};
}

/* Of a row, in one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * 2018): when a larger maximum comes, what is summed so far is scaled down. While the maximum is
 * infinite e^x itself is summed: inf - inf would make a NaN of a row that has an answer. */
template <class TEAM, class E>
__device__ static inline powers<compute<E>> row_powers(const E *x, int64_t n)
{
    using T = compute<E>;
    powers<T> p = {(T)-INFINITY, 0};
    row_visit<TEAM>(x, n, true, [&](int64_t i, auto size) {
        T v[size.width], largest = p.max;
        piece_load(v, x + i);
        for (T u : v)
            largest = fmax(largest, u);
        if (largest > p.max) {
            p.sum *= exp(p.max - largest);
            p.max = largest;
        }
        T shift = isinf(p.max) ? 0 : p.max;
        for (T u : v)
            p.sum += exp(u - shift);
    });
    return TEAM::sum(p);
}

/* log of the sum of e^x: -inf where all are -inf, inf where one is. */
template <class T> __device__ static inline T log_of(powers<T> p)
{
    return (isinf(p.max) ? 0 : p.max) + log(p.sum);
}

#endif
