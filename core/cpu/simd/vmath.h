/*
 * vmath -- the C library's functions on whole vectors: glibc's libmvec (link -lmvec before -lm).
 *
 * glibc declares these variants in math.h for -ffast-math alone, which this project never uses, so
 * they are declared again here. In a loop under `#pragma omp simd` expf(x[i]) then becomes one call
 * of _ZGVbN4v_expf (SSE4), _ZGVdN8v_expf (AVX2) or _ZGVeN16v_expf (AVX-512). All are right on NaN,
 * infinities and zeros and within 4 ulp by glibc's documentation. A function that is not listed is
 * called element by element.
 */
#ifndef TORC_CPU_SIMD_VMATH_H
#define TORC_CPU_SIMD_VMATH_H

#include <math.h>

#define VECTOR_MATH(name) \
    extern __attribute__((simd("notinbranch"))) double name(double x); \
    extern __attribute__((simd("notinbranch"))) float name##f(float x);
VECTOR_MATH(exp)
VECTOR_MATH(log)
VECTOR_MATH(log1p)
VECTOR_MATH(tanh)
VECTOR_MATH(erf)
VECTOR_MATH(sin)
VECTOR_MATH(cos)
#undef VECTOR_MATH

extern __attribute__((simd("notinbranch"))) double pow(double x, double y);
extern __attribute__((simd("notinbranch"))) float powf(float x, float y);

#endif
