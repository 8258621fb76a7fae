/*
 * function -- the rows of core/ops/elementwise.def as functions of the GPU.
 *
 *     row_mul::of(in, p, q)                any row, of up to four inputs
 *     activation(EW_relu, x)               a row of one input, chosen at run time
 *     activation_slope(EW_relu, kept, g)   its gradient
 */
#ifndef TORC_CUDA_FUNCTION_H
#define TORC_CUDA_FUNCTION_H

#include "core/cuda/kernel.h"

#define C(k) ((T)(k))
#define M(name) name
#define ROW(name, expression, ...) \
    struct row_##name { \
        template <class T> __device__ static inline T of(const T in[4], T p, T q) \
        { \
            __VA_ARGS__; \
            (void)in, (void)p, (void)q; \
            return (T)(expression); \
        } \
    };
#define IN(name, k) \
    T name = in[k]; \
    (void)name /* not every expression needs all it may name */
#define UNARY(name, low, high, value, gradient) \
    ROW(name, value, IN(x, 0)) \
    ROW(name##_dx, gradient, IN(x, 0); IN(y, 1); IN(g, 2))
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, low, high, value, da, db) \
    ROW(name, value, IN(a, 0); IN(b, 1)) \
    ROW(name##_da, da, IN(a, 0); IN(b, 1); IN(y, 2); IN(g, 3)) \
    ROW(name##_db, db, IN(a, 0); IN(b, 1); IN(y, 2); IN(g, 3))
#define COMPARE(name, value) ROW(name, value, IN(a, 0); IN(b, 1))
#define PREDICATE(name, value) ROW(name, value, IN(x, 0))
#include "core/ops/elementwise.def"

/* ---- activations: rows of one input without scalars ---- */

#define UNARY_P(...)
#define UNARY_PQ(...)
#define BINARY(...)
#define COMPARE(...)
#define PREDICATE(...)
#define UNARY(name, ...) \
    case EW_##name: \
        return row_##name::of(in, (T)0, (T)0);
/* x itself for EW_NONE. */
template <class T> __device__ static inline T activation(int act, T x)
{
    const T in[4] = {x};
    switch (act) {
#include "core/ops/elementwise.def"
    default:
        return x;
    }
}

#define UNARY_P(...)
#define UNARY_PQ(...)
#define BINARY(...)
#define COMPARE(...)
#define PREDICATE(...)
#define UNARY(name, ...) \
    case EW_##name: \
        return row_##name##_dx::of(in, (T)0, (T)0);
/* kept: act's input or its result, whichever the gradient is a function of. */
template <class T> __device__ static inline T activation_slope(int act, T kept, T g)
{
    const T in[4] = {kept, kept, g};
    switch (act) {
#include "core/ops/elementwise.def"
    default:
        return g;
    }
}

#endif
