/*
 * ddp_helpers -- what the tests of gradient synchronisation share: a small network, a fixed batch
 * and shares of it. The reference of a case is the same network without torc_ddp() on the whole
 * batch, or with other options, computed by each rank for itself.
 */
#ifndef TESTS_DDP_HELPERS_H
#define TESTS_DDP_HELPERS_H

#include "core/torc.h"

#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IN = 6, HIDDEN = 5, OUT = 3, BATCH = 11 };

static inline void start(void)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* buckets of a few parameters */
    torc_init(NULL, NULL);
}

static inline torc_module *network(int seed)
{
    torc_seed((uint64_t)seed);
    return torc_sequential(torc_linear(IN, HIDDEN), torc_relu_layer(), torc_linear(HIDDEN, HIDDEN),
                           torc_relu_layer(), torc_linear(HIDDEN, OUT));
}

/* Samples first .. end - 1 of a fixed batch. */
static inline torc_tensor *inputs(int first, int end)
{
    float v[BATCH * IN + 1];
    for (int i = first * IN; i < end * IN; i++)
        v[i - first * IN] = (float)(i * 37 % 23) / 11 - 1;
    torc_tensor *x = torc_zeros(TORC_SHAPE(end - first, IN));
    torc_write(x, TORC_F32, v, (end - first) * IN);
    return x;
}

static inline torc_tensor *labels(int first, int end)
{
    int64_t v[BATCH + 1];
    for (int i = first; i < end; i++)
        v[i - first] = i * 5 % OUT;
    torc_tensor *y = torc_zeros(TORC_SHAPE(end - first), .dtype = TORC_I64);
    torc_write(y, TORC_I64, v, end - first);
    return y;
}

static inline void backward(torc_module *net, int first, int end)
{
    torc_backward(torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end)));
}

static inline void compare_gradients(torc_module *net, torc_module *alone, double factor)
{
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        float a[64], b[64];
        torc_tensor *p = torc_parameter_at(net, i, NULL), *q = torc_parameter_at(alone, i, NULL);
        int64_t n = torc_numel(p);
        torc_read(torc_grad(p), TORC_F32, a, n);
        torc_read(torc_grad(q), TORC_F32, b, n);
        for (int64_t j = 0; j < n; j++)
            CHECK_NEAR(a[j], factor * b[j], 1e-6);
    }
}

/* This rank's share when `total` samples are dealt as evenly as they go. */
static inline int share(int rank, int total)
{
    return total * rank / torc_world_size();
}

static inline torc_module *trained(torc_ddp_options o, int steps, double clip)
{
    torc_module *net = (torc_ddp)(TORC_HERE, network(1), o);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    for (int i = 0; i < steps; i++) {
        backward(net, share(torc_rank(), BATCH), share(torc_rank() + 1, BATCH));
        if (clip > 0)
            torc_clip_grad_norm(net, clip);
        torc_step(opt);
        torc_tape_clear();
    }
    torc_optimizer_free(opt);
    return net;
}

/* tolerance 0: to the bit. */
static inline void compare_near(torc_module *a, torc_module *b, double tolerance)
{
    for (int64_t i = 0; i < torc_parameter_count(a); i++) {
        float x[64], y[64];
        torc_tensor *p = torc_parameter_at(a, i, NULL), *q = torc_parameter_at(b, i, NULL);
        int64_t n = torc_numel(p);
        torc_read(p, TORC_F32, x, n);
        torc_read(q, TORC_F32, y, n);
        for (int64_t j = 0; tolerance > 0 && j < n; j++)
            CHECK_NEAR(x[j], y[j], tolerance);
        CHECK(tolerance > 0 || !memcmp(x, y, (size_t)n * sizeof *x));
    }
}

static inline void compare_bits(torc_module *a, torc_module *b)
{
    compare_near(a, b, 0);
}

/* ---- a dataset ---- */

enum { SAMPLES = 37 };

static inline torc_dataset *samples(void)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(SAMPLES, 2, 4, 4));
    torc_tensor *y = torc_tensor_new(TORC_SHAPE(SAMPLES), .dtype = TORC_I64);
    torc_init_normal(x, 0, 1);
    int64_t label[SAMPLES];
    for (int i = 0; i < SAMPLES; i++)
        label[i] = i % OUT;
    torc_write(y, TORC_I64, label, SAMPLES);
    torc_dataset *d = torc_arrays(x, y);
    torc_tensor_free(x);
    torc_tensor_free(y);
    return d;
}

#endif
