/*
 * gradcheck -- backward against central differences, in f64.
 *
 *     d f / d x_i  ~  (f(x_i + h) - f(x_i - h)) / 2 h        h = 1e-6 (1 + |x_i|)
 *
 * whose error is about h^2 + 1e-16 / h.
 */
#include "core/loss_scale.h"
#include "core/ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define STEP 1e-6

typedef struct check {
    call c;
    torc_scalar_function f;
    void *context;
    torc_tensor *const *in;
} check;

static double value_of(const check *k)
{
    double value = 0;
    TORC_NO_GRAD
    {
        value = torc_item(k->c.at, k->f(k->in, k->context));
    }
    torc_tape_clear(k->c.at);
    return value;
}

/* The difference quotient for element i of x, whose values are in `values`. */
static double quotient(const check *k, tensor *x, double *values, int64_t i)
{
    double old = values[i], h = STEP * (1 + fabs(old));
    values[i] = old + h;
    tensor_write(&k->c, x, TORC_F64, values);
    double above = value_of(k);
    values[i] = old - h;
    tensor_write(&k->c, x, TORC_F64, values);
    double below = value_of(k);
    values[i] = old;
    tensor_write(&k->c, x, TORC_F64, values);
    return (above - below) / (2 * h);
}

static double *values_of(const check *k, tensor *t, int64_t n)
{
    double *values = base_alloc((size_t)max_i64(n, 1), sizeof *values);
    if (t)
        tensor_read(&k->c, t, TORC_F64, values);
    return values;
}

static double check_input(const check *k, int input, char *worst, size_t size, double so_far)
{
    tensor *x = tensor_of(&k->c, k->in[input]);
    int64_t n = tensor_numel(x);
    if (x->grad)
        tensor_settle(x->grad);
    double *values = values_of(k, x, n), *grad = values_of(k, x->grad, n);
    for (int64_t i = 0; i < n; i++) {
        double d = quotient(k, x, values, i), off = fabs(grad[i] - d) / (1 + fabs(d));
        if (off <= so_far)
            continue;
        so_far = isnan(off) ? INFINITY : off;
        if (worst)
            snprintf(worst, size, "input %d %s, element %lld: backward %.9g, difference %.9g",
                     input, tensor_shape_text(x), (long long)i, grad[i], d);
    }
    free(values);
    free(grad);
    return so_far;
}

double torc_gradcheck(torc_site at, torc_scalar_function f, void *context, int n,
                      torc_tensor *const *in, char *worst, size_t worst_size)
{
    const check k = {{at, __func__}, f, context, in};
    for (int i = 0; i < n; i++) {
        tensor *x = tensor_of(&k.c, in[i]);
        if (x->dtype != TORC_F64 || x->maker || x->owner != OWNER_USER)
            call_die(&k.c, "expected float64 inputs made by torc_tensor_new(), found %s %s",
                     torc_dtype_name(x->dtype), tensor_shape_text(x));
        torc_zero_grad_of(at, in[i]);
    }
    torc_tape_clear(at);
    torc_tensor *loss = f(in, context);
    loss_scale_pause(true);
    torc_backward(at, loss);
    loss_scale_pause(false);
    torc_tape_clear(at);
    if (worst && worst_size)
        worst[0] = 0;
    double largest = 0;
    for (int i = 0; i < n; i++)
        if (tensor_of(&k.c, in[i])->requires_grad)
            largest = check_input(&k, i, worst, worst_size, largest);
    return largest;
}
