/*
 * columns -- what kernels need whose threads keep to the same columns of many rows: packs that wait
 * in registers, a number for each column of one, and sums of what many blocks have summed of their
 * rows.
 *
 *     parts [count][2][n]      block 0  | a0 a1 a2 ... | b0 b1 b2 ... |
 *                              block 1  | a0 a1 a2 ... | b0 b1 b2 ... |      sums go downwards,
 *                                         '- 32 -'                           32 columns a block
 */
#ifndef TORC_CUDA_COLUMNS_H
#define TORC_CUDA_COLUMNS_H

#include "core/cuda/reduce.h"

/* ---- packs ---- */

template <bool WHOLE> struct word_of {
    using type = uint32_t;
};
template <> struct word_of<false> {
    using type = uint16_t;
};

/* A pack as it waits in registers. The compiler gives one to every bf16 that it knows of; here it
 * knows words of two, until they are opened. */
template <class E, int N> struct alignas(sizeof(E) * N) closed {
    using W = typename word_of<sizeof(E) * N % sizeof(uint32_t) == 0>::type;
    W word[sizeof(E) * N / sizeof(W)];

    __device__ static closed of(const pack<E, N> &p)
    {
        closed c;
        memcpy(c.word, &p, sizeof p);
        return c;
    }
    __device__ pack<E, N> open()
    {
        pack<E, N> p;
        machine_forget(word);
        memcpy(&p, word, sizeof p);
        return p;
    }
};

/* Numbers i N .. i N + N - 1 of a row, in accesses of up to 16 bytes; no row: `missing`. */
template <class T, int N>
__device__ static inline void columns_load(T (&to)[N], const T *row, int64_t i, T missing)
{
    constexpr int M = N < pack_width<T> ? N : pack_width<T>;
#pragma unroll
    for (int k = 0; k < N / M; k++) {
        pack<T, M> p = {};
        if (row)
            p = ((const pack<T, M> *)(row + i * N))[k];
        for (int j = 0; j < M; j++)
            to[k * M + j] = row ? p.at[j] : missing;
    }
}

/* The other way. */
template <class T, int N>
__device__ static inline void columns_store(T *row, int64_t i, const T (&from)[N])
{
    constexpr int M = N < pack_width<T> ? N : pack_width<T>;
#pragma unroll
    for (int k = 0; k < N / M; k++) {
        pack<T, M> p;
        for (int j = 0; j < M; j++)
            p.at[j] = from[k * M + j];
        ((pack<T, M> *)(row + i * N))[k] = p;
    }
}

/* ---- sums of blocks ---- */

enum { COLUMNS_OF_BLOCK = WARP, COLUMNS_THREADS = WARP * WARP };

/* give(c, {sum of the a's, sum of the b's}) once for each of this block's columns. Each warp adds
 * every 32nd part, and one of them the sums of all warps: an order that `count` alone decides. */
template <class T, class F>
__device__ static inline void columns_add(const T *parts, int64_t count, int64_t n, F give)
{
    __shared__ both<T> of_warp[WARP][WARP];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t c = (int64_t)blockIdx.x * COLUMNS_OF_BLOCK + lane;
    both<T> sum = {};
    for (int64_t k = warp; k < count && c < n; k += WARP)
        sum = sum + both<T>{parts[2 * k * n + c], parts[(2 * k + 1) * n + c]};
    of_warp[warp][lane] = sum;
    __syncthreads();
    for (int i = 1; i < WARP && warp == 0; i++)
        sum = sum + of_warp[i][lane];
    if (warp == 0 && c < n)
        give(c, sum);
}

#endif
