/*
 * norm -- the normalising layers. weight starts at 1 and bias at 0, so that a fresh layer only
 * normalises; both learn the scale and shift that suit the layer behind.
 */
#include "core/kernels.h"
#include "core/nn/tree.h"
#include "core/ops/ops.h"

#include <stdlib.h>

/* The entries, in the order in which PyTorch registers them; the last three are batch norm's. */
enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, BATCHES };

typedef struct norm {
    double eps, momentum;
    bool sync; /* batch norm: statistics of the global batch */
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
    norm state = {option_or(o.eps, 1e-5f), option_or(o.momentum, 0.1f), false};
    if (!(state.eps >= 0) || !(state.momentum >= 0 && state.momentum <= 1))
        die_at(at, op, "expected an eps of 0 or more and a momentum from 0 to 1, found %g and %g",
               state.eps, state.momentum);
    torc_module *m = module_new(at, kind, forward, sizeof state);
    *(norm *)torc_module_state(m) = state;
    torc_parameter(at, m, "weight", constant(at, width, 1));
    torc_parameter(at, m, "bias", constant(at, width, 0));
    return m;
}

/* ---- layer norm ---- */

static torc_tensor *layer_norm_forward(torc_module *self, torc_tensor *x)
{
    const norm *s = torc_module_state(self);
    return torc_layer_norm_op(module_site(), x, module_entry(self, WEIGHT),
                              module_entry(self, BIAS), s->eps);
}

torc_tensor *module_norm_of_sum(torc_site at, torc_module *layer, torc_tensor *x,
                                torc_tensor *branch, torc_tensor **sum)
{
    const norm *s = torc_module_state(layer);
    if (layer->forward != layer_norm_forward || !module_is_plain(layer)) {
        *sum = torc_add(at, x, branch);
        return torc_forward(at, layer, *sum);
    }
    return op_add_layer_norm(at, x, branch, module_entry(layer, WEIGHT), module_entry(layer, BIAS),
                             s->eps, sum);
}

torc_module *torc_layer_norm(torc_site at, int64_t width, torc_norm_options o)
{
    return norm_new(at, __func__, "LayerNorm", layer_norm_forward, width, o);
}

/* ---- batch norm: also running_mean, running_var, num_batches_tracked, as buffers ---- */

/* Nothing here reads the count; it is kept because a PyTorch state_dict holds it. A GPU is asked
 * for it the first time alone. */
static void count_batch(torc_module *self, const call *c)
{
    tensor *t = tensor_of(c, module_entry(self, BATCHES));
    const int64_t *known = tensor_mirror(t);
    int64_t batches;
    if (known)
        batches = *known;
    else
        device_current()->to_host(&batches, tensor_data(t), sizeof batches);
    batches++;
    tensor_put(t, &batches);
}

static torc_tensor *batch_norm_forward(torc_module *self, torc_tensor *x)
{
    const call c = {module_site(), "torc_batch_norm2d"};
    const norm *s = torc_module_state(self);
    bool training = torc_is_training(self);
    torc_tensor *y = (s->sync ? torc_sync_batch_norm_op : torc_batch_norm_op)(
        c.at, x, module_entry(self, WEIGHT), module_entry(self, BIAS),
        module_entry(self, RUNNING_MEAN), module_entry(self, RUNNING_VAR), training, s->momentum,
        s->eps);
    /* A rank's empty share of a batch too, so that all ranks hold the same count. */
    if (training && !tape_replaying())
        count_batch(self, &c);
    return y;
}

torc_module *torc_batch_norm2d(torc_site at, int64_t channels, torc_norm_options o)
{
    torc_module *m = norm_new(at, __func__, "BatchNorm2d", batch_norm_forward, channels, o);
    torc_buffer(at, m, "running_mean", constant(at, channels, 0));
    torc_buffer(at, m, "running_var", constant(at, channels, 1));
    torc_tensor *none = torc_zeros(at, (torc_shape){0}, (torc_create_options){.dtype = TORC_I64});
    torc_buffer(at, m, "num_batches_tracked", none);
    return m;
}

torc_module *torc_convert_sync_batch_norm(torc_site at, torc_module *net)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    if (net->forward == batch_norm_forward) {
        ((norm *)net->state)->sync = true;
        free(net->kind);
        net->kind = base_strdup("SyncBatchNorm"); /* torc_summary() shows it */
    }
    for (int i = 0; i < net->child_count; i++)
        torc_convert_sync_batch_norm(at, net->children[i]);
    return net;
}
