/*
 * machine -- the few words that only a GPU has, each as a function; tests/cuda_emu/machine_emu.h
 * has the same for a CPU.
 */
#ifndef TORC_CUDA_MACHINE_H
#define TORC_CUDA_MACHINE_H

#ifndef __CUDACC__
#include <machine_emu.h>
#else

/* The shared memory that the launch asked for, as an array of `type` called `name`. */
#define SHARED_BYTES(type, name) \
    extern __shared__ __align__(16) unsigned char machine_shared_bytes[]; \
    type *name = reinterpret_cast<type *>(machine_shared_bytes)

/* Before every launch. More than 48 KiB of shared memory must be asked for. */
template <class F> static inline void machine_prepare(F *function, const char *, size_t bytes)
{
    if (bytes > 48 * 1024)
        cuda_check(cudaFuncSetAttribute((const void *)function,
                                        cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                   "asking for shared memory");
}

/* ---- bits ---- */

__device__ static inline float machine_float_of(uint32_t bits)
{
    return __uint_as_float(bits);
}

/* The bfloat16 nearest to x, ties to even, NaN stays NaN. */
__device__ static inline uint16_t machine_bf16_bits(float x)
{
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

/* The IEEE half nearest to x, ties to even, infinite from 65520 on; and the value of one. */
__device__ static inline uint16_t machine_f16_bits(float x)
{
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
__device__ static inline float machine_f16_value(uint16_t bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

/* The compiler forgets what it has computed from x: it does so again, instead of keeping it in
 * registers beside x. */
template <class T> __device__ static inline void machine_forget(T &x)
{
    if constexpr (sizeof(T) % sizeof(uint32_t) == 0) {
        uint32_t words[sizeof(T) / sizeof(uint32_t)];
        memcpy(words, &x, sizeof x);
        for (uint32_t &word : words)
            asm volatile("" : "+r"(word));
        memcpy(&x, words, sizeof x);
    }
}

#endif
#endif
