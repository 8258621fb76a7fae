/*
 * sort -- numbers in ascending order, equal ones in the order they came in, with their places.
 *
 * A radix sort, eight bits at a time from the lowest (Knuth, The Art of Computer Programming 3,
 * 5.2.5). A pass keeps the order of what has the same digit, so after the last all is sorted:
 *
 *     tile by tile, how often each digit occurs    counts [DIGITS][tiles]
 *     running sums of these                        where a tile's entries of a digit go
 *     each entry to its place
 */
#ifndef TORC_CUDA_SORT_H
#define TORC_CUDA_SORT_H

#include "core/cuda/reduce.h"

typedef struct entry {
    int64_t key, place;
} entry;

enum { SORT_BITS = 8, DIGITS = 1 << SORT_BITS, SORT_THREADS = DIGITS, TILE_ENTRIES = 1024 };

__device__ static inline int digit_of(int64_t key, int shift)
{
    return (int)(key >> shift) & (DIGITS - 1);
}

__global__ static void sort_count(const entry *from, int64_t n, int shift, int64_t *counts)
{
    __shared__ int count[DIGITS];
    count[threadIdx.x] = 0;
    __syncthreads();
    int64_t first = (int64_t)blockIdx.x * TILE_ENTRIES;
    for (int64_t i = first + threadIdx.x; i < first + TILE_ENTRIES && i < n; i += SORT_THREADS)
        atomicAdd(&count[digit_of(from[i].key, shift)], 1);
    __syncthreads();
    counts[threadIdx.x * (int64_t)gridDim.x + blockIdx.x] = count[threadIdx.x];
}

/* The sum of x over the threads before this one. */
template <class T> __device__ static inline T block_before(T x)
{
    __shared__ T of_warp[WARP];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    T sum = x;
    for (int by = 1; by < WARP; by *= 2) {
        T other = __shfl_up_sync(0xffffffffu, sum, by);
        sum += lane >= by ? other : 0;
    }
    if (lane == WARP - 1)
        of_warp[warp] = sum;
    __syncthreads();
    for (int i = 0; i < warp; i++)
        sum += of_warp[i];
    __syncthreads();
    return sum - x;
}

/* Each count by the sum of those before it; one block, each thread with a stretch of its own. */
__global__ static void sort_sum(int64_t *counts, int64_t n)
{
    int64_t stretch = (n + blockDim.x - 1) / blockDim.x, first = threadIdx.x * stretch, sum = 0;
    int64_t end = first + stretch < n ? first + stretch : n;
    for (int64_t i = first; i < end; i++)
        sum += counts[i];
    sum = block_before(sum);
    for (int64_t i = first; i < end; i++) {
        int64_t count = counts[i];
        counts[i] = sum;
        sum += count;
    }
}

/* The lanes whose digit is this lane's. */
__device__ static inline unsigned lanes_with(int digit, bool there)
{
    unsigned lanes = __ballot_sync(0xffffffffu, there);
    for (int bit = 0; bit < SORT_BITS; bit++) {
        unsigned set = __ballot_sync(0xffffffffu, digit >> bit & 1);
        lanes &= digit >> bit & 1 ? set : ~set;
    }
    return lanes;
}

/* SORT_THREADS entries of a tile at a time, a thread each; thread d also keeps where the next entry
 * of digit d goes, warp by warp. */
__global__ static void sort_move(entry *to, const entry *from, int64_t n, int shift,
                                 const int64_t *counts)
{
    constexpr int WARPS = SORT_THREADS / WARP;
    __shared__ int64_t next[WARPS][DIGITS];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t running = counts[threadIdx.x * (int64_t)gridDim.x + blockIdx.x];
    int64_t first = (int64_t)blockIdx.x * TILE_ENTRIES;
    for (int64_t i = first; i < first + TILE_ENTRIES && i < n; i += SORT_THREADS) {
        bool there = i + threadIdx.x < n;
        entry mine = there ? from[i + threadIdx.x] : entry{0, 0};
        int digit = digit_of(mine.key, shift);
        unsigned same = lanes_with(digit, there), before = same & ((1u << lane) - 1);
        for (int w = 0; w < WARPS; w++)
            next[w][threadIdx.x] = 0;
        __syncthreads();
        if (there && before == 0)
            next[warp][digit] = __popc(same);
        __syncthreads();
        for (int w = 0; w < WARPS; w++) {
            int64_t count = next[w][threadIdx.x];
            next[w][threadIdx.x] = running;
            running += count;
        }
        __syncthreads();
        if (there)
            to[next[warp][digit] + __popc(before)] = mine;
        __syncthreads();
    }
}

static inline size_t sort_workspace(int64_t n)
{
    return (size_t)(DIGITS * part_count(n, TILE_ENTRIES)) * sizeof(int64_t);
}

/* n entries with keys in 0 .. limit - 1. Both arrays are used; returns the one with the result. */
static inline entry *sort_entries(entry *entries, entry *other, int64_t n, int64_t limit,
                                  int64_t *workspace)
{
    int64_t tiles = part_count(n, TILE_ENTRIES);
    for (int shift = 0; shift < 63 && (limit - 1) >> shift; shift += SORT_BITS) {
        LAUNCH(sort_count, tiles, SORT_THREADS, entries, n, shift, workspace);
        LAUNCH(sort_sum, tiles > 0, 1024, workspace, DIGITS * tiles);
        LAUNCH(sort_move, tiles, SORT_THREADS, other, entries, n, shift, workspace);
        entry *sorted = other;
        other = entries;
        entries = sorted;
    }
    return entries;
}

#endif
