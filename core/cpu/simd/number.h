/*
 * number -- one element: number_f32(x) is what kernels compute with, element_f32(v) what memory
 * holds. Where these differ, the second rounds: bf16 is computed in float. Plain loops over them
 * become vector code; what read() and write() of vector.h are to vectors.
 */
#ifndef TORC_CPU_SIMD_NUMBER_H
#define TORC_CPU_SIMD_NUMBER_H

#include "core/cpu/bf16.h"

#define NUMBER(suffix, T, E, get, put) \
    static inline T number_##suffix(E x) \
    { \
        return get; \
    } \
    static inline E element_##suffix(T v) \
    { \
        return put; \
    }
NUMBER(f32, float, float, x, v)
NUMBER(f64, double, double, x, v)
NUMBER(bf16, float, uint16_t, bf16_to_f32(x), bf16_from_f32(v))
NUMBER(i64, int64_t, int64_t, x, v)
#undef NUMBER

#endif
