/*
 * machine_mma -- the words of tensor cores: products of small matrices that a warp holds together,
 * and how their operands get there. tests/cuda_emu/machine_mma_emu.h has the same for a CPU.
 *
 *     global memory --- copy_async() --->  shared memory --- matrices() --->  fragments --- mma
 *
 * Words
 *   fragment   a lane's part of a matrix, in registers. With g = lane / 4 and t = lane % 4:
 *
 *         a [16, 16]             b [16, 8]                 d [16, 8]
 *         |  2t, 2t+1  |  +8  |  |        column g   |     |  column 2t   column 2t + 1 |
 *     g   |    a[0]    | a[2] |  | row 2t, +1   b[0] |   g |     d[0]          d[1]     |
 *     g+8 |    a[1]    | a[3] |  |     + 8      b[1] | g+8 |     d[2]          d[3]     |
 *
 *              A register of a and b is a pair of bf16 or f16, the first one in the lower half. So
 *              two d's side by side, rounded, are an a: a product goes straight into the next one.
 *   matrix     of copy_async() and matrices(): 8 rows of 16 bytes (8 elements) in shared memory
 *
 * All but the copies belong to a whole warp: every lane comes by, with the same word.
 */
#ifndef TORC_CUDA_MACHINE_MMA_H
#define TORC_CUDA_MACHINE_MMA_H

#include "core/cuda/kernel.h"

#ifndef __CUDACC__
#include <machine_mma_emu.h>
#else

/* d += a b: the products are exact; of the sum what is below 2^-24 of its largest part is cut off.
 */
__device__ static inline void machine_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ static inline void machine_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Two floats, rounded to nearest, as a register of a fragment. */
__device__ static inline uint32_t machine_bf16_pair(float first, float second)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}
__device__ static inline uint32_t machine_f16_pair(float first, float second)
{
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

/* Four matrices: lane i points to row i % 8 of matrix i / 8. Of matrix m a lane gets to[m]: of row
 * g the columns 2t and 2t + 1. */
__device__ static inline void machine_matrices(uint32_t to[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
}

/* The same of the matrices transposed: of column g the rows 2t and 2t + 1. */
__device__ static inline void machine_matrices_turned(uint32_t to[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
}

/* Begins to copy BYTES (8 or 16, aligned) from global to shared memory; zeros where there is
 * nothing to copy: `from` may be wild then. Who reads them waits first, and then meets the threads
 * that copied. */
template <int BYTES>
__device__ static inline void machine_copy_async(void *to, const void *from, bool there)
{
    static_assert(BYTES == 8 || BYTES == 16, "the sizes in use");
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    if constexpr (BYTES == 16) /* past L1, which has no use for it */
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                     "r"(there ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(at), "l"(from),
                     "r"(there ? 8 : 0)
                     : "memory");
}

/* This thread's copies since the last such call are a group; none make one too. */
__device__ static inline void machine_copies_end()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits for all of this thread's groups but the last PENDING. */
template <int PENDING> __device__ static inline void machine_copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* 2^x, within 2^-22 of it; 0 below -126. */
__device__ static inline float machine_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

/* The same by the type of the elements. */
template <class E>
__device__ static inline void machine_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    static_assert(is_low<E>, "what tensor cores multiply here");
    if constexpr (std::is_same_v<E, f16>)
        machine_mma_f16(d, a, b);
    else
        machine_mma_bf16(d, a, b);
}
template <class E> __device__ static inline uint32_t machine_pair(float first, float second)
{
    static_assert(is_low<E>, "what tensor cores multiply here");
    if constexpr (std::is_same_v<E, f16>)
        return machine_f16_pair(first, second);
    else
        return machine_bf16_pair(first, second);
}

#endif
