/*
 * compare -- layers and optimizers against the stored numbers of PyTorch.
 *
 * Weights and inputs are reference_value(i, salt), the formula of common.py, so the numbers that
 * are stored are results only: y, then the gradients of the input and of the parameters, in one
 * row.
 */
#ifndef TESTS_REFERENCE_COMPARE_H
#define TESTS_REFERENCE_COMPARE_H

#include "core/torc.h"
#include "tests/harness.h"

#include <stdlib.h>

enum { SALT_INPUT = 20, SALT_GRADIENT = 21 }; /* parameters have their number */

static inline float reference_value(int64_t i, int salt)
{
    return (float)((double)((i * 37 + salt * 53 + 11) % 199 - 99) / 100);
}

static inline void reference_fill(torc_tensor *t, int salt)
{
    int64_t n = torc_numel(t);
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = reference_value(i, salt);
    torc_write(t, TORC_F32, v, n);
    free(v);
}

/* The layers' input, which wants a gradient. */
static inline torc_tensor *reference_input(torc_shape shape)
{
    torc_tensor *x = torc_tensor_new(shape, .requires_grad = true);
    reference_fill(x, SALT_INPUT);
    return x;
}

/* Compares t with expected[0 ..]; returns where the next tensor's numbers start. */
static inline const double *reference_check(const char *what, torc_tensor *t,
                                            const double *expected)
{
    int64_t n = torc_numel(t);
    double *v = malloc((size_t)(n + 1) * sizeof *v);
    torc_read(t, TORC_F64, v, n);
    for (int64_t i = 0; i < n; i++)
        test_check(test_near(v[i], expected[i], 1e-5), __FILE__, __LINE__,
                   "%s, element %lld: %.9g, expected %.9g", what, (long long)i, v[i], expected[i]);
    free(v);
    return expected + n;
}

/* Forward and backward of `net` on x against `expected`; returns where the numbers after them
 * start. */
static inline const double *reference_check_layer(torc_module *net, torc_tensor *x,
                                                  const double *expected)
{
    for (int64_t k = 0; k < torc_parameter_count(net); k++)
        reference_fill(torc_parameter_at(net, k, NULL), (int)k);
    torc_tensor *y = torc_forward(net, x), *weights = torc_zeros(torc_shape_of(y));
    reference_fill(weights, SALT_GRADIENT);
    torc_backward(torc_sum(torc_mul(y, weights)));
    expected = reference_check("y", y, expected);
    if (torc_requires_grad(x))
        expected = reference_check("gradient of the input", torc_grad(x), expected);
    for (int64_t k = 0; k < torc_parameter_count(net); k++) {
        const char *name;
        torc_tensor *p = torc_parameter_at(net, k, &name);
        expected = reference_check(name, torc_grad(p), expected);
    }
    return expected;
}

/* The whole of one array. */
#define CHECK_LAYER(net, x, numbers) \
    CHECK_INT(reference_check_layer(net, x, numbers) - (numbers), \
              sizeof(numbers) / sizeof *(numbers))

#endif
