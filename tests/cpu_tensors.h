/*
 * cpu_tensors -- tensors made by hand for the tests that call the CPU's kernels directly: no tape,
 * no handles, any dtype, strides and offset. Read and written element by element through doubles.
 */
#ifndef TESTS_CPU_TENSORS_H
#define TESTS_CPU_TENSORS_H

#include "core/cpu/bf16.h"
#include "core/cpu/cpu.h"
#include "core/cpu/f16.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* For each level that this processor has, with `k` the kernels. */
#define EACH_LEVEL(k) \
    for (int level_ = CPU_V2; level_ <= (int)cpu_level_here(); level_++) \
        for (const kernels *k = cpu_kernels_at((cpu_level)level_); k; k = NULL)

#define STRIDES(...) ((const int64_t[]){__VA_ARGS__})
#define SHAPE(...) ARRAY_LENGTH(STRIDES(__VA_ARGS__)), STRIDES(__VA_ARGS__)

/* A tensor over the same storage as `of`, or over new zeroed memory. */
static inline tensor *made_view(const tensor *of, int ndim, const int64_t *shape,
                                const int64_t *stride, int64_t offset)
{
    tensor *t = base_alloc(1, sizeof *t);
    *t = (tensor){.ndim = ndim, .dtype = of->dtype, .store = of->store, .offset = offset};
    for (int d = 0; d < ndim; d++) {
        t->shape[d] = shape[d];
        t->stride[d] = stride[d];
    }
    return t;
}

static inline tensor *made(torc_dtype dtype, int ndim, const int64_t *shape)
{
    int64_t stride[TORC_MAX_DIMS], n = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        stride[d] = n;
        n *= shape[d];
    }
    storage *s = base_alloc(1, sizeof *s);
    s->bytes = (size_t)n * torc_dtype_size(dtype);
    s->data = n ? base_alloc((size_t)n, torc_dtype_size(dtype)) : NULL;
    tensor like = {.dtype = dtype, .store = s};
    return made_view(&like, ndim, shape, stride, 0);
}

/* Of element i in row-major order. */
static inline int64_t place_of(const tensor *t, int64_t i)
{
    int64_t place = 0;
    for (int d = t->ndim - 1; d >= 0; d--) {
        place += i % t->shape[d] * t->stride[d];
        i /= t->shape[d];
    }
    return place;
}

static inline double value_at(const tensor *t, int64_t i)
{
    char *at = (char *)tensor_data(t) + place_of(t, i) * (int64_t)torc_dtype_size(t->dtype);
    switch (t->dtype) {
    case TORC_F32:
        return *(float *)at;
    case TORC_F64:
        return *(double *)at;
    case TORC_BF16:
        return bf16_to_f32(*(uint16_t *)at);
    case TORC_F16:
        return f16_to_f32(*(uint16_t *)at);
    case TORC_I64:
        return (double)*(int64_t *)at;
    case TORC_I32:
        return *(int32_t *)at;
    default:
        return *(uint8_t *)at;
    }
}

static inline void set_value(tensor *t, int64_t i, double value)
{
    char *at = (char *)tensor_data(t) + place_of(t, i) * (int64_t)torc_dtype_size(t->dtype);
    switch (t->dtype) {
    case TORC_F32:
        *(float *)at = (float)value;
        break;
    case TORC_F64:
        *(double *)at = value;
        break;
    case TORC_BF16:
        *(uint16_t *)at = bf16_from_f32((float)value);
        break;
    case TORC_F16:
        *(uint16_t *)at = f16_from_f32((float)value);
        break;
    case TORC_I64:
        *(int64_t *)at = (int64_t)value;
        break;
    case TORC_I32:
        *(int32_t *)at = (int32_t)value;
        break;
    case TORC_BOOL:
        *(uint8_t *)at = value != 0;
        break;
    default:
        *(uint8_t *)at = (uint8_t)value;
    }
}

/* In [low, high), the same sequence in every run; `seed` tells tensors apart. */
static inline void set_random(tensor *t, double low, double high, uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (int64_t i = 0; i < tensor_numel(t); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        set_value(t, i, low + (high - low) * (double)(state >> 11) * 0x1p-53);
    }
}

/* The ways in which a tensor of a shape can lie in memory. */
typedef enum layout {
    CONTIGUOUS,
    TRANSPOSED, /* dimensions in reverse order */
    SLICED,     /* every third element of a larger row, from the second on */
    FLIPPED,    /* the last dimension backwards */
    REPEATED,   /* stride 0 in the first dimension */
    CONSTANT,   /* stride 0 in all */
    LAYOUTS
} layout;

static inline tensor *made_as(layout how, torc_dtype dtype, int ndim, const int64_t *shape)
{
    int64_t stride[TORC_MAX_DIMS] = {0}, n = how == SLICED ? 3 : 1, offset = 0;
    for (int i = 0; i < ndim && how != CONSTANT; i++) {
        int d = how == TRANSPOSED ? i : ndim - 1 - i;
        stride[d] = n;
        n *= shape[d];
    }
    if (how == SLICED)
        offset = 1;
    if (how == FLIPPED && ndim && shape[ndim - 1]) {
        stride[ndim - 1] = -stride[ndim - 1];
        offset = shape[ndim - 1] - 1;
    }
    if (how == REPEATED)
        stride[0] = 0;
    return made_view(made(dtype, 1, (const int64_t[]){n + 1}), ndim, shape, stride, offset);
}

#endif
