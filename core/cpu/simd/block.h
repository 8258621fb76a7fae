/*
 * block -- a few hundred elements at a time, contiguous and of one type, whatever they are in
 * memory: what lets every loop over elements be a plain one.
 *
 *     in memory       bf16, stride 3      f32, stride 1       one f32, repeated
 *                          | load              |                   | load, once
 *     block           [ f32 .......... ]   (as it is)        [ f32 .......... ]
 *                          '-------------------+-------------------'
 *                                     loop over n elements
 *                                     [ f32 .......... ] -- store --> bf16, any stride
 *
 * The type of a block is f32 (for f32, bf16 and f16), f64 or i64 (for integers and bool). Loops
 * that read and write bf16 by themselves take blocks of it, which are as they are in memory.
 *
 * A loop is only ever given whole multiples of BLOCK_LANES elements: what is left over is padded in
 * a buffer. So no loop has a scalar remainder, whose exp() would be another one than the vector's,
 * and an element's value does not depend on where it stands or on the number of threads.
 */
#ifndef TORC_CPU_SIMD_BLOCK_H
#define TORC_CPU_SIMD_BLOCK_H

#include "core/cpu/simd.h"
#include "core/cpu/parallel.h"
#include "core/walk.h"

#define BLOCK_LENGTH 1024  /* of a buffer: five of f32 are 20 KiB, well within L1 */
#define BLOCK_DIRECT 16384 /* where no buffer is needed */
#define BLOCK_LANES 32     /* of bf16 in a vector of AVX-512 */

typedef union block {
    float f32[BLOCK_LENGTH];
    double f64[BLOCK_LENGTH];
    int64_t i64[BLOCK_LENGTH];
    uint16_t bf16[BLOCK_LENGTH];
} __attribute__((aligned(64))) block;

static inline torc_dtype block_type(torc_dtype dtype)
{
    if (dtype == TORC_F64)
        return TORC_F64;
    return dtype == TORC_F32 || dtype_is_low(dtype) ? TORC_F32 : TORC_I64;
}

static inline size_t block_item(torc_dtype type)
{
    return type == TORC_F32 ? sizeof(float) : type == TORC_BF16 ? sizeof(uint16_t) : sizeof(double);
}

/* n elements of `dtype`, `stride` elements apart, to or from a block of `type`. Float to integer
 * truncates, to bool asks for != 0. A block of bf16 takes and gives bf16 alone. */
void SIMD(block_load)(torc_dtype type, void *to, torc_dtype dtype, const void *from, int64_t stride,
                      int64_t n);
void SIMD(block_store)(torc_dtype type, const void *from, torc_dtype dtype, void *to,
                       int64_t stride, int64_t n);

/* Whether every block of operand k can be used where it is: side by side, of the block's type. */
static inline bool block_is_direct(const walk *w, int k, torc_dtype type)
{
    return w->operand[k].dtype == type && walk_direct(w, k);
}

/* The positions p of a walk, run by run, into a buffer and out of one. */
void SIMD(block_gather)(const walk *w, int k, part p, torc_dtype type, void *to);
void SIMD(block_scatter)(const walk *w, int k, part p, torc_dtype type, const void *from);

/* The positions p where they are if that is possible, else in `buffer`. */
static inline const void *block_at(const walk *w, int k, part p, torc_dtype type, block *buffer)
{
    if (block_is_direct(w, k, type))
        return walk_at(w, k, p.first);
    SIMD(block_gather)(w, k, p, type, buffer);
    return buffer;
}

/* out = loop(in...), or out += with `add`, over all positions; n is a multiple of BLOCK_LANES. in
 * may have NULLs (zeros), and out may be one of in. */
typedef void (*block_loop)(void *out, const void *const *in, int64_t n, double p, double q);
void SIMD(block_map)(block_loop loop, torc_dtype type, tensor *out, int inputs,
                     const tensor *const *in, double p, double q, bool add);

#endif
