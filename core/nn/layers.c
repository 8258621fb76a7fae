/*
 * layers -- the layers that are one op each: their parameters and what they pass on.
 *
 * To add one: what it remembers (its state), a forward function that hands its entries to the op,
 * and a constructor that registers them. Names, shapes and initialisation are PyTorch's, so that a
 * state_dict fits. A constructor checks what it needs to lay out its parameters; how a layer fits
 * its input is the op's to check, in the line that called torc_forward().
 */
#include "core/nn/init.h"
#include "core/nn/module.h"
#include "core/ops/ops.h"

#include <stdio.h>

static torc_shape shape1(int64_t a)
{
    return (torc_shape){1, {a}};
}

static torc_shape shape2(int64_t a, int64_t b)
{
    return (torc_shape){2, {a, b}};
}

static void expect_positive(torc_site at, const char *op, const char *what, int64_t value)
{
    if (value < 1)
        die_at(at, op, "expected %s of 1 or more, found %lld", what, (long long)value);
}

/* The entries of a layer, in the order in which PyTorch registers them. */
enum { WEIGHT, BIAS };

/* weight, then bias, even within 1 / sqrt(fan_in) of 0. */
static void add_affine(torc_site at, torc_module *m, torc_shape weight, bool bias, int64_t fan_in)
{
    double bound = init_bound(fan_in);
    torc_parameter(at, m, "weight", init_uniform(at, weight, bound));
    if (bias)
        torc_parameter(at, m, "bias", init_uniform(at, shape1(weight.dim[0]), bound));
}

/* ---- linear: weight [out, in], bias [out] ---- */

static torc_tensor *linear_with(torc_module *self, torc_tensor *x, elementwise_op act)
{
    return op_linear_act(module_site(), x, module_entry(self, WEIGHT), module_entry(self, BIAS),
                         act);
}

static torc_tensor *linear_forward(torc_module *self, torc_tensor *x)
{
    return linear_with(self, x, EW_NONE);
}

torc_module *torc_linear(torc_site at, int64_t in, int64_t out, torc_linear_options o)
{
    if (in < 0 || out < 0)
        die_at(at, __func__, "expected sizes of 0 or more, found %lld and %lld", (long long)in,
               (long long)out);
    torc_module *m = module_new(at, "Linear", linear_forward, 0);
    module_offer(m, linear_with);
    add_affine(at, m, shape2(out, in), !o.no_bias, in);
    return m;
}

/* ---- conv2d: weight [out, in / groups, kernel, kernel], bias [out] ---- */

static torc_tensor *conv2d_with(torc_module *self, torc_tensor *x, elementwise_op act)
{
    const torc_conv2d_options *how = torc_module_state(self);
    return op_conv2d_act(module_site(), x, module_entry(self, WEIGHT), module_entry(self, BIAS),
                         *how, act);
}

static torc_tensor *conv2d_forward(torc_module *self, torc_tensor *x)
{
    return conv2d_with(self, x, EW_NONE);
}

torc_module *torc_conv2d(torc_site at, int64_t in, int64_t out, int kernel, torc_conv2d_options o)
{
    int groups = o.groups ? o.groups : 1;
    expect_positive(at, __func__, "a kernel", kernel);
    expect_positive(at, __func__, "groups", groups);
    if (in < 1 || out < 1 || in % groups || out % groups)
        die_at(at, __func__, "expected channels that %d groups divide, found %lld and %lld", groups,
               (long long)in, (long long)out);
    torc_module *m = module_new(at, "Conv2d", conv2d_forward, sizeof o);
    *(torc_conv2d_options *)torc_module_state(m) = o;
    module_offer(m, conv2d_with);
    torc_shape weight = {4, {out, in / groups, kernel, kernel}};
    add_affine(at, m, weight, !o.no_bias, in / groups * kernel * kernel);
    return m;
}

/* ---- pooling ---- */

typedef struct pooling {
    int kernel;
    torc_pool_options how;
} pooling;

static torc_tensor *max_pool_forward(torc_module *self, torc_tensor *x)
{
    const pooling *s = torc_module_state(self);
    return torc_max_pool2d_op(module_site(), x, s->kernel, s->how);
}

static torc_tensor *avg_pool_forward(torc_module *self, torc_tensor *x)
{
    const pooling *s = torc_module_state(self);
    return torc_avg_pool2d_op(module_site(), x, s->kernel, s->how);
}

static torc_module *pool_new(torc_site at, const char *kind, torc_forward_function forward,
                             int kernel, torc_pool_options o)
{
    torc_module *m = module_new(at, kind, forward, sizeof(pooling));
    *(pooling *)torc_module_state(m) = (pooling){kernel, o};
    return m;
}

torc_module *torc_max_pool2d(torc_site at, int kernel, torc_pool_options o)
{
    return pool_new(at, "MaxPool2d", max_pool_forward, kernel, o);
}

torc_module *torc_avg_pool2d(torc_site at, int kernel, torc_pool_options o)
{
    return pool_new(at, "AvgPool2d", avg_pool_forward, kernel, o);
}

/* ---- layers without state: a row each, with its row of elementwise.def if it is one ---- */

static torc_tensor *flatten_rest(torc_site at, torc_tensor *x)
{
    return torc_flatten(at, x, 1);
}

#define STATELESS(name, kind, op, act) \
    static torc_tensor *name##_forward(torc_module *self, torc_tensor *x) \
    { \
        (void)self; \
        return op(module_site(), x); \
    } \
    torc_module *torc_##name##_layer(torc_site at) \
    { \
        torc_module *m = module_new(at, kind, name##_forward, 0); \
        module_is_activation(m, act); \
        return m; \
    }
STATELESS(flatten, "Flatten", flatten_rest, EW_NONE)
STATELESS(relu, "ReLU", torc_relu, EW_relu)
STATELESS(gelu, "GELU", torc_gelu, EW_gelu)
STATELESS(gelu_tanh, "GELU", torc_gelu_tanh, EW_gelu_tanh)

/* ---- embedding: weight [count, width], normal ---- */

static torc_tensor *embedding_forward(torc_module *self, torc_tensor *index)
{
    return torc_embedding_op(module_site(), module_entry(self, WEIGHT), index);
}

torc_module *torc_embedding(torc_site at, int64_t count, int64_t width)
{
    expect_positive(at, __func__, "a count", count);
    expect_positive(at, __func__, "a width", width);
    torc_module *m = module_new(at, "Embedding", embedding_forward, 0);
    torc_parameter(at, m, "weight", torc_randn(at, shape2(count, width), (torc_create_options){0}));
    return m;
}

/* ---- dropout ---- */

static torc_tensor *dropout_forward(torc_module *self, torc_tensor *x)
{
    double p = *(const double *)torc_module_state(self);
    return torc_dropout_op(module_site(), x, p, torc_is_training(self));
}

torc_module *torc_dropout(torc_site at, double p)
{
    if (!(p >= 0 && p <= 1))
        die_at(at, __func__, "expected a probability from 0 to 1, found %g", p);
    torc_module *m = module_new(at, "Dropout", dropout_forward, sizeof p);
    *(double *)torc_module_state(m) = p;
    return m;
}

/* ---- sequential: children "0", "1", ... ---- */

typedef struct sequence {
    int n;
    torc_module *layers[];
} sequence;

static torc_tensor *sequential_forward(torc_module *self, torc_tensor *given)
{
    const sequence *s = torc_module_state(self);
    torc_site at = module_site();
    torc_tensor *x = given;
    for (int i = 0, used; i < s->n; i += used) {
        torc_tensor *y = module_chain(at, s->layers + i, s->n - i, x, &used);
        if (x != given && x != y)
            module_let_go(at, self, x);
        x = y;
    }
    return x;
}

torc_module *torc_sequential(torc_site at, int n, torc_module *const *layers)
{
    size_t bytes = sizeof(sequence) + (size_t)n * sizeof *layers;
    torc_module *m = module_new(at, "Sequential", sequential_forward, bytes);
    sequence *s = torc_module_state(m);
    s->n = n;
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        s->layers[i] = torc_child(at, m, name, layers[i]);
    }
    return m;
}
