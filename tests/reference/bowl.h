/*
 * bowl -- the problem of optim.py: f(p) = sum((p - c)^4 / 4 + (p - c)^2 / 20) over parameters of
 * 1, 7 and 300 elements, which are below, at and beyond the width of a vector register and no
 * multiple of it.
 *
 *     AFTER(after_sgd, torc_sgd, .lr = 0.05f)      a case: 100 steps, then the numbers of that name
 */
#ifndef TESTS_REFERENCE_BOWL_H
#define TESTS_REFERENCE_BOWL_H

#include "core/torc.h"
#include "tests/harness.h"
#include "tests/reference/optim.h"

#include <math.h>

enum { BOWL_PARAMETERS = 3, BOWL_LARGEST = 300, BOWL_STEPS = 100 };
static const int64_t bowl_sizes[BOWL_PARAMETERS] = {1, 7, BOWL_LARGEST};

typedef struct bowl {
    torc_tensor *p[BOWL_PARAMETERS], *centre[BOWL_PARAMETERS];
} bowl;

/* Adds f to `loss`, which starts as 0. */
static inline torc_tensor *bowl_forward(torc_module *self, torc_tensor *loss)
{
    const bowl *s = torc_module_state(self);
    for (int i = 0; i < BOWL_PARAMETERS; i++) {
        torc_tensor *d = torc_sub(s->p[i], s->centre[i]);
        torc_tensor *fourth = torc_mul_scalar(torc_pow_scalar(d, 4), 0.25);
        torc_tensor *square = torc_mul_scalar(torc_mul(d, d), 0.05);
        loss = torc_add(loss, torc_sum(torc_add(fourth, square)));
    }
    return loss;
}

static inline torc_module *bowl_new(void)
{
    torc_module *m = torc_module_new("Bowl", bowl_forward, sizeof(bowl));
    bowl *s = torc_module_state(m);
    for (int i = 0; i < BOWL_PARAMETERS; i++) {
        float start[BOWL_LARGEST], centre[BOWL_LARGEST];
        for (int j = 0; j < bowl_sizes[i]; j++) {
            start[j] = (float)(j * 37 % 61 - 30) / 16;
            centre[j] = (float)(j * 11 % 29 - 14) / 32;
        }
        const char *name = (const char *[]){"a", "b", "c"}[i];
        torc_shape shape = TORC_SHAPE(bowl_sizes[i]);
        s->p[i] = torc_parameter(m, name, torc_tensor_new(shape, .data = start));
        s->centre[i] = torc_buffer(m, (const char *[]){"ca", "cb", "cc"}[i],
                                   torc_tensor_new(shape, .data = centre));
    }
    return m;
}

/* Compares by the largest difference, so that a wrong rule says one line, not three hundred. */
static inline void bowl_check(torc_module *net, torc_optimizer *opt, const double *expected)
{
    for (int i = 0; i < BOWL_STEPS; i++) {
        torc_backward(torc_forward(net, torc_zeros(TORC_SCALAR)));
        torc_step(opt);
        torc_tape_clear();
    }
    double worst = 0;
    for (int i = 0; i < BOWL_PARAMETERS; i++) {
        float found[BOWL_LARGEST];
        torc_read(torc_parameter_at(net, i, NULL), TORC_F32, found, bowl_sizes[i]);
        for (int j = 0; j < bowl_sizes[i]; j++, expected++) {
            CHECK(isfinite(found[j]));
            worst = fmax(worst, fabs(found[j] - *expected) / (1 + fabs(*expected)));
        }
    }
    CHECK_NEAR(worst, 0, 1e-5);
    torc_optimizer_free(opt);
    torc_module_free(net);
}

#define AFTER(numbers, rule, ...) \
    TEST(numbers) \
    { \
        torc_module *net = bowl_new(); \
        bowl_check(net, rule(net, __VA_ARGS__), numbers); \
    }

#endif
