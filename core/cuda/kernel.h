/*
 * kernel -- what every .cu file starts from: plain CUDA C++, and the few words beyond it.
 *
 *     LAUNCH(softmax_rows<float>, rows, 256, out, x, n)     rows blocks of 256 threads; 0: nothing
 *                                                           at once, or later (core/cuda/queue.h)
 *
 * A .cu file holds __global__ functions and the kernels (core/kernels.def) that launch them, which
 * are extern "C" and named cuda_NAME. It may use what is named here and in the headers beside it,
 * and of CUDA's own: threadIdx and its like, __syncthreads(), __syncwarp(), the __shfl_*_sync()
 * family, __ballot_sync(), atomicAdd() of integers, float4 and its like, and the functions of
 * <math.h>. All else that only a GPU has (tensor cores, asynchronous copies) belongs into
 * core/cuda/machine.h, so that the same files can be compiled for, and executed on, a CPU
 * (tests/cuda_emu).
 *
 * Rules
 *   bits      the same input gives the same bits on any GPU: bounds of parts depend on the shape
 *             alone, sums are added in a fixed order, and no float is added atomically.
 *   sizes     int64_t; a grid has at most 2^31 - 1 blocks, which grid_of() sees to, and a loop over
 *             the grid takes the rest.
 *   nothing   a dimension of 0 launches nothing (a sum over nothing is still written).
 */
#ifndef TORC_CUDA_KERNEL_H
#define TORC_CUDA_KERNEL_H

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list> /* before torc.h asks for it inside extern "C" */
#include <type_traits>

#include <cuda_runtime.h>

extern "C" {
#include "core/cuda/queue.h"
#include "core/walk.h"

/* A kernel whose definition differs from its row does not compile. */
#define KERNEL(result, name, arguments) result cuda_##name arguments;
#include "core/kernels.def"
}

#include "core/cuda/machine.h"
#include "core/cuda/number.h"

/* ---- launching ---- */

#define WARP 32

#define LAUNCH(function, blocks, threads, ...) \
    LAUNCH_SHARED(function, blocks, threads, 0, __VA_ARGS__)
/* With `bytes` of shared memory, which the function finds with SHARED_BYTES(). A template's name
 * that has commas stands in parentheses. */
#define LAUNCH_SHARED(function, blocks, threads, bytes, ...) \
    do { \
        int64_t blocks_ = (blocks); \
        if (blocks_ > INT_MAX) \
            bug("%lld blocks", (long long)blocks_); \
        if (blocks_ > 0) { \
            machine_prepare(function, #function, (bytes)); \
            launcher_of(function, #function, (unsigned)blocks_, (unsigned)(threads), \
                        (size_t)(bytes))(__VA_ARGS__); \
        } \
    } while (0)

/* Takes the arguments as the function itself would, converted to its parameters' types, of which
 * those who launch it later know no more than how many bytes they have. */
template <class... P> struct launcher {
    void (*function)(P...);
    const char *name;
    unsigned blocks, threads;
    size_t shared_bytes;

    void operator()(P... value) const
    {
        static_assert(sizeof...(P) <= LAUNCH_VALUES && ((alignof(P) <= 16) && ...),
                      "what the queue has places for");
        const void *const at[] = {&value...};
        const size_t bytes[] = {sizeof value...};
        queue_function(name, (const void *)function, blocks, threads, shared_bytes,
                       (int)sizeof...(P), at, bytes);
    }
};

template <class... P>
static inline launcher<P...> launcher_of(void (*function)(P...), const char *name, unsigned blocks,
                                         unsigned threads, size_t shared_bytes)
{
    return {function, name, blocks, threads, shared_bytes};
}

/* How many blocks of `threads` give each of n elements a thread, as far as that makes sense. */
static inline int64_t grid_of(int64_t n, int threads)
{
    return min_i64(part_count(n, threads), (int64_t)1 << 20);
}

/* for (i = this thread; i < n; i += all threads) */
#define EACH(i, n) \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, \
                 i##_step = (int64_t)gridDim.x * blockDim.x; \
         i < (n); i += i##_step)

/* ---- dtypes: the statement with E being the type in memory ---- */

#define BY_FLOAT(dtype_, ...) \
    switch (dtype_) { \
    BY_F32_OR_LOW_CASES(__VA_ARGS__) \
    case TORC_F64: { using E = double; __VA_ARGS__; break; } \
    default: bug("a float kernel of %s", torc_dtype_name(dtype_)); \
    }
/* All but f64. */
#define BY_F32_OR_LOW(dtype_, ...) \
    switch (dtype_) { \
    BY_F32_OR_LOW_CASES(__VA_ARGS__) \
    default: bug("a kernel of 16 or 32 bits of %s", torc_dtype_name(dtype_)); \
    }
#define BY_F32_OR_LOW_CASES(...) \
    case TORC_F32: { using E = float; __VA_ARGS__; break; } \
    case TORC_BF16: { using E = bf16; __VA_ARGS__; break; } \
    case TORC_F16: { using E = f16; __VA_ARGS__; break; }

/* The first element of a tensor, as what it is. */
template <class E> static inline E *data_of(const tensor *t)
{
    return t ? (E *)tensor_data(t) : NULL;
}

#endif
