/* norm -- the normalising layers: weight starts at 1, bias at 0. */
#include "core/kernels.h"
#include "core/nn/module.h"

typedef struct norm {
    torc_tensor *weight, *bias, *mean, *var, *batches;
    double eps, momentum;
} norm;

static torc_tensor *constant(torc_site at, int64_t width, double value)
{
    return torc_full(at, (torc_shape){1, {width}}, value, (torc_create_options){0});
}

static torc_module *norm_new(torc_site at, const char *op, const char *kind,
                             torc_forward_function forward, int64_t width, torc_norm_options o)
{
    if (width < 1)
        die_at(at, op, "expected a width of 1 or more, found %lld", (long long)width);
    torc_module *m = torc_module_new(at, kind, forward, sizeof(norm));
    norm *s = torc_module_state(m);
    s->eps = o.eps != 0 ? o.eps : 1e-5;
    s->momentum = o.momentum != 0 ? o.momentum : 0.1;
    s->weight = torc_parameter(at, m, "weight", constant(at, width, 1));
    s->bias = torc_parameter(at, m, "bias", constant(at, width, 0));
    return m;
}

/* ---- layer norm ---- */

static torc_tensor *layer_norm_forward(torc_module *self, torc_tensor *x)
{
    const norm *s = torc_module_state(self);
    return torc_layer_norm_op(module_site(), x, s->weight, s->bias, s->eps);
}

torc_module *torc_layer_norm(torc_site at, int64_t width, torc_norm_options o)
{
    return norm_new(at, __func__, "LayerNorm", layer_norm_forward, width, o);
}

/* ---- batch norm: also running_mean, running_var, num_batches_tracked, as buffers ---- */

static torc_tensor *batch_norm_forward(torc_module *self, torc_tensor *x)
{
    const norm *s = torc_module_state(self);
    torc_site at = module_site();
    bool training = torc_is_training(self);
    if (training) {
        int64_t *count = tensor_data(tensor_of(&(call){at, "torc_batch_norm2d"}, s->batches));
        (*count)++;
    }
    return torc_batch_norm_op(at, x, s->weight, s->bias, s->mean, s->var, training, s->momentum,
                              s->eps);
}

torc_module *torc_batch_norm2d(torc_site at, int64_t channels, torc_norm_options o)
{
    torc_module *m = norm_new(at, __func__, "BatchNorm2d", batch_norm_forward, channels, o);
    norm *s = torc_module_state(m);
    s->mean = torc_buffer(at, m, "running_mean", constant(at, channels, 0));
    s->var = torc_buffer(at, m, "running_var", constant(at, channels, 1));
    torc_tensor *none = torc_zeros(at, (torc_shape){0}, (torc_create_options){.dtype = TORC_I64});
    s->batches = torc_buffer(at, m, "num_batches_tracked", none);
    return m;
}
