/*
 * place -- where an element of a walk (core/walk.h) is, and reading and writing it whatever its
 * dtype.
 *
 *     position 7 of [2, 5] strides {1, 2}     row 1, column 2     offset 1 + 4
 */
#ifndef TORC_CUDA_PLACE_H
#define TORC_CUDA_PLACE_H

#include "core/cuda/kernel.h"

/* The offsets of position i in all operands, in elements. */
__device__ static inline void place_of(const walk &w, int64_t i, int64_t offset[WALK_OPERANDS])
{
    for (int k = 0; k < WALK_OPERANDS; k++)
        offset[k] = 0;
    /* A division of 32 bits takes a quarter of the time of one of 64. */
    bool small = w.numel <= INT_MAX;
    for (int d = w.ndim - 1; d >= 0; d--) {
        int64_t size = w.shape[d];
        int64_t rest = small ? (int64_t)((uint32_t)i / (uint32_t)size) : i / size;
        int64_t at = i - rest * size;
        for (int k = 0; k < WALK_OPERANDS; k++)
            offset[k] += k < w.operands ? at * w.operand[k].stride[d] : 0;
        i = rest;
    }
}

/* Of position i in operand k alone. */
__device__ static inline int64_t place_in(const walk &w, int k, int64_t i)
{
    if (w.ndim == 1)
        return i * w.operand[k].stride[0];
    int64_t offset[WALK_OPERANDS];
    place_of(w, i, offset);
    return offset[k];
}

/* Element `offset` of an operand as a T: f32 and f64 of any float, i64 of any integer or bool. */
template <class T> __device__ static inline T place_read(const operand &o, int64_t offset)
{
    switch (o.dtype) {
    case TORC_F32:
        return (T)((const float *)o.data)[offset];
    case TORC_F64:
        return (T)((const double *)o.data)[offset];
    case TORC_BF16:
        return (T)widen(((const bf16 *)o.data)[offset]);
    case TORC_F16:
        return (T)widen(((const f16 *)o.data)[offset]);
    case TORC_I64:
        return (T)((const int64_t *)o.data)[offset];
    case TORC_I32:
        return (T)((const int32_t *)o.data)[offset];
    default: /* u8, bool */
        return (T)((const uint8_t *)o.data)[offset];
    }
}

/* The other way: rounds to nearest, truncates to integers, and is true where not 0. */
template <class T> __device__ static inline void place_write(const operand &o, int64_t offset, T x)
{
    switch (o.dtype) {
    case TORC_F32:
        ((float *)o.data)[offset] = (float)x;
        break;
    case TORC_F64:
        ((double *)o.data)[offset] = (double)x;
        break;
    case TORC_BF16:
        ((bf16 *)o.data)[offset] = narrow<bf16>((float)x);
        break;
    case TORC_F16:
        ((f16 *)o.data)[offset] = narrow<f16>((float)x);
        break;
    case TORC_I64:
        ((int64_t *)o.data)[offset] = (int64_t)x;
        break;
    case TORC_I32:
        ((int32_t *)o.data)[offset] = (int32_t)x;
        break;
    case TORC_BOOL:
        ((uint8_t *)o.data)[offset] = x != 0;
        break;
    default:
        ((uint8_t *)o.data)[offset] = (uint8_t)x;
    }
}

#endif
