/*
 * reduce -- sums and maxima over the lanes of a warp and over the threads of a block.
 *
 *     warp     0   1   2   3   4   5   6   7        every lane meets its neighbour, then the pair
 *              \___/   \___/   \___/   \___/        the next pair, ...: log2 32 = 5 rounds, after
 *                 \_______/       \_______/         which all lanes hold the same bits, since
 *                        \___________/              a + b is b + a
 *     block    each warp leaves its result in shared memory, and every warp folds these
 *
 * The order depends on the number of threads alone. All threads of the block (for warp_...: all 32
 * lanes) must come here, and a block is whole warps. Call one as often as you like: the threads
 * have met before each returns. x is a number, or a struct of a multiple of 4 bytes with a `+`.
 *
 *     block_sum(x)                 the sum over the block, to every thread
 *     block_sum(both<float>{a, b}) two at once, for the price of one barrier
 *     block_fold(x, combine)       combine(a, b) must not care which of the two comes first
 */
#ifndef TORC_CUDA_REDUCE_H
#define TORC_CUDA_REDUCE_H

#include "core/cuda/kernel.h"

/* Two numbers that are summed together. */
template <class T> struct both {
    T a, b;
};
template <class T> __device__ static inline both<T> operator+(both<T> x, both<T> y)
{
    return {x.a + y.a, x.b + y.b};
}

/* ---- how two become one ---- */

struct fold_sum {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return a + b;
    }
};
/* Of floats. A NaN loses: what softmax needs, where it comes back through the sum. */
struct fold_max {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return fmax(a, b);
    }
};

/* ---- a warp ---- */

/* x of the lane whose number differs from this one's by the bit `with`. */
template <class T> __device__ static inline T lane_across(T x, int with)
{
    static_assert(sizeof(T) % sizeof(unsigned) == 0, "registers are 4 bytes");
    unsigned words[sizeof(T) / sizeof(unsigned)];
    memcpy(words, &x, sizeof x);
    for (unsigned &word : words)
        word = __shfl_xor_sync(0xffffffffu, word, with);
    memcpy(&x, words, sizeof x);
    return x;
}

/* Over groups of `lanes` neighbouring lanes, a power of 2. */
template <int lanes = WARP, class T, class F> __device__ static inline T warp_fold(T x, F combine)
{
    for (int with = lanes / 2; with > 0; with /= 2)
        x = combine(x, lane_across(x, with));
    return x;
}

template <int lanes = WARP, class T> __device__ static inline T warp_sum(T x)
{
    return warp_fold<lanes>(x, fold_sum());
}

template <int lanes = WARP, class T> __device__ static inline T warp_max(T x)
{
    return warp_fold<lanes>(x, fold_max());
}

/* ---- a block ---- */

template <class T, class F> __device__ static inline T block_fold(T x, F combine)
{
    __shared__ T of_warp[WARP];
    int warps = (int)blockDim.x / WARP, lane = (int)threadIdx.x % WARP;
    x = warp_fold(x, combine);
    if (warps == 1)
        return x;
    if (lane == 0)
        of_warp[threadIdx.x / WARP] = x;
    __syncthreads();
    x = of_warp[0];
    for (int i = 1; i < warps; i++) /* the same places for all lanes: one broadcast each */
        x = combine(x, of_warp[i]);
    __syncthreads();
    return x;
}

template <class T> __device__ static inline T block_sum(T x)
{
    return block_fold(x, fold_sum());
}

template <class T> __device__ static inline T block_max(T x)
{
    return block_fold(x, fold_max());
}

#endif
