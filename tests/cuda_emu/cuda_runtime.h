/*
 * cuda_runtime -- the words of CUDA C++ that kernels use, for an ordinary C++ compiler: see
 * threads.cpp.
 */
#ifndef TORC_EMU_CUDA_RUNTIME_H
#define TORC_EMU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __shared__ static /* one block runs at a time */
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

/* ---- types ---- */

struct uint3 {
    unsigned x, y, z;
};
#define EMU_VECTOR(type, name) \
    struct name##2 \
    { \
        type x, y; \
    }; \
    struct alignas(4 * sizeof(type)) name##4 \
    { \
        type x, y, z, w; \
    }; \
    static inline name##2 make_##name##2(type x, type y) \
    { \
        return {x, y}; \
    } \
    static inline name##4 make_##name##4(type x, type y, type z, type w) \
    { \
        return {x, y, z, w}; \
    }
EMU_VECTOR(float, float)
EMU_VECTOR(int, int)
EMU_VECTOR(unsigned, uint)

/* "cuda_emu: ..." on stderr, then abort(). */
[[noreturn]] void emu_stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- where a thread is: set whenever another one goes on ---- */

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

/* ---- meeting ---- */

/* Waits for all threads of the block. */
void emu_meet_block();
/* Waits for the lanes of the mask, which must all name it. */
void emu_meet_warp(unsigned mask);
/* Shows `bytes` (up to 16) of this lane to the others of the mask; returns all lanes' as an array
 * with a step of 16 bytes, good until the next but one such call. */
const unsigned char *emu_show(unsigned mask, const void *value, size_t bytes);

static inline void __syncthreads()
{
    emu_meet_block();
}
static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    emu_meet_warp(mask);
}
static inline void __threadfence()
{
}
int emu_count_block(int predicate);
static inline int __syncthreads_count(int predicate)
{
    return emu_count_block(predicate);
}
static inline int __syncthreads_or(int predicate)
{
    return emu_count_block(predicate) > 0;
}
static inline int __syncthreads_and(int predicate)
{
    return emu_count_block(predicate) == (int)(blockDim.x * blockDim.y * blockDim.z);
}

static inline unsigned emu_lane()
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize;
}

template <class T> static inline T emu_of_lane(unsigned mask, T value, unsigned lane)
{
    static_assert(sizeof(T) <= 16, "a lane shows 16 bytes");
    const unsigned char *all = emu_show(mask, &value, sizeof value);
    memcpy(&value, all + 16 * lane, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    unsigned lane = emu_lane(), base = lane - lane % (unsigned)width;
    return emu_of_lane(mask, value, base + (unsigned)from % (unsigned)width);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32)
{
    unsigned lane = emu_lane(), other = lane ^ (unsigned)with;
    return emu_of_lane(mask, value,
                       other / (unsigned)width == lane / (unsigned)width ? other : lane);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = emu_lane();
    return emu_of_lane(mask, value,
                       lane % (unsigned)width + by < (unsigned)width ? lane + by : lane);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = emu_lane();
    return emu_of_lane(mask, value, lane % (unsigned)width >= by ? lane - by : lane);
}
unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) == mask;
}

/* ---- atomics: threads take turns only where they meet ---- */

template <class T> static inline T atomicAdd(T *at, T value)
{
    T old = *at;
    *at = old + value;
    return old;
}
template <class T> static inline T atomicMin(T *at, T value)
{
    T old = *at;
    *at = value < old ? value : old;
    return old;
}
template <class T> static inline T atomicMax(T *at, T value)
{
    T old = *at;
    *at = value > old ? value : old;
    return old;
}
template <class T> static inline T atomicOr(T *at, T value)
{
    T old = *at;
    *at = old | value;
    return old;
}
template <class T> static inline T atomicCAS(T *at, T expected, T value)
{
    T old = *at;
    if (old == expected)
        *at = value;
    return old;
}

/* ---- bits and numbers ---- */

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
/* Rounded, never fused with what follows. */
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}
static inline double rsqrt(double x)
{
    return 1 / sqrt(x);
}
template <class T> static inline T __ldg(const T *at)
{
    return *at;
}

#endif
