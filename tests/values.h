/*
 * values -- tensors made and compared by what they hold, wherever their memory is: a GPU's is none
 * that the host could read.
 */
#ifndef TESTS_VALUES_H
#define TESTS_VALUES_H

#include "core/torc.h"

#include <stdlib.h>
#include <string.h>

/* The same number of elements, and the same values to the bit; f64 holds those of every dtype but
 * large ones of i64. */
static inline bool same_bits(torc_tensor *a, torc_tensor *b)
{
    int64_t n = torc_numel(a);
    if (n != torc_numel(b))
        return false;
    double *v = malloc(2 * (size_t)n * sizeof *v + 1);
    torc_read(a, TORC_F64, v, n);
    torc_read(b, TORC_F64, v + n, n);
    bool same = !memcmp(v, v + n, (size_t)n * sizeof *v);
    free(v);
    return same;
}

/* Some numbers from `first` to `first` + 2, of a parameter. */
static inline torc_tensor *values_from(torc_shape shape, float first)
{
    torc_tensor *t = torc_tensor_new(shape, .requires_grad = true);
    int64_t n = torc_numel(t);
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(i * 37 % 101) / 50 + first;
    torc_write(t, TORC_F32, v, n);
    free(v);
    return t;
}

static inline torc_tensor *values_of(torc_shape shape)
{
    return values_from(shape, -1);
}

#endif
