/*
 * norm -- layer norm and batch norm.
 *
 *     h = (x - mean) / sqrt(var + eps)      y = h w + b      var with n, not n - 1
 *     dh = g w      dx = rstd (dh - mean(dh) - h mean(dh h))      dw = sum g h      db = sum g
 *
 * Layer norm takes mean and var over the last dimension, a row each (Ba, Kiros, Hinton 2016); batch
 * norm over all but the channels, a channel each (Ioffe, Szegedy 2015).
 */
#include "core/ops/ops.h"

/* A weight or bias of `width` elements, or NULL. */
static tensor *affine(const call *c, torc_tensor *handle, int64_t width, torc_dtype dtype)
{
    if (!handle)
        return NULL;
    tensor *t = op_float(c, torc_to(c->at, handle, dtype));
    if (t->ndim != 1 || t->shape[0] != width)
        call_die(c, "expected weight and bias of %lld, found %s", (long long)width,
                 tensor_shape_text(t));
    return t;
}

/* The inputs that are there, for the tape: x first, weight before bias. */
static int inputs_of(tensor *in[3], tensor *x, tensor *w, tensor *b)
{
    int n = 0;
    in[n++] = x;
    if (w)
        in[n++] = w;
    if (b)
        in[n++] = b;
    return n;
}

/* ---- layer norm ---- */

typedef struct norm_saved {
    tensor *mean, *spread; /* 1 / standard deviation (layer norm), variance (batch norm) */
    bool weight, bias;     /* which of them are inputs */
    double eps;
    bool batch;
} norm_saved;

static sink weight_sink(node *n)
{
    const norm_saved *s = n->saved;
    return s->weight ? tape_sink(n, 1) : (sink){NULL, false};
}

static sink bias_sink(node *n)
{
    const norm_saved *s = n->saved;
    return s->bias ? tape_sink(n, 1 + s->weight) : (sink){NULL, false};
}

static void layer_norm_backward(node *n, tensor *grad)
{
    const norm_saved *s = n->saved;
    kernels_here()->layer_norm_grad(tape_sink(n, 0), weight_sink(n), bias_sink(n), grad, n->in[0],
                                    s->weight ? n->in[1] : NULL, s->mean, s->spread);
}

torc_tensor *torc_layer_norm_op(torc_site at, torc_tensor *hx, torc_tensor *hw, torc_tensor *hb,
                                double eps)
{
    const call c = {at, __func__};
    torc_dtype dtype = op_float(&c, hx)->dtype, compute = op_compute_dtype(dtype);
    tensor *x = tensor_of(&c, torc_contiguous(at, torc_to(at, hx, compute)));
    if (x->ndim < 1)
        call_die(&c, "expected at least one dimension, found a scalar");
    int64_t width = x->shape[x->ndim - 1];
    tensor *w = affine(&c, hw, width, compute), *b = affine(&c, hb, width, compute);
    tensor *y = tensor_create(&c, compute, x->ndim, x->shape, OWNER_TAPE);
    tensor *mean = tensor_create(&c, compute, x->ndim - 1, x->shape, OWNER_TAPE);
    tensor *rstd = tensor_create(&c, compute, x->ndim - 1, x->shape, OWNER_TAPE);
    kernels_here()->layer_norm(y, mean, rstd, x, w, b, eps > 0 ? eps : 1e-5);
    tensor *in[3];
    int inputs = inputs_of(in, x, w, b);
    norm_saved *saved = tape_record(&c, layer_norm_backward, y, inputs, in, sizeof *saved);
    if (saved)
        *saved = (norm_saved){.mean = mean, .spread = rstd, .weight = w, .bias = b};
    return torc_to(at, tensor_handle(y), dtype);
}

/* ---- batch norm ---- */

static void batch_norm_backward(node *n, tensor *grad)
{
    const norm_saved *s = n->saved;
    kernels_here()->channel_norm_grad(tape_sink(n, 0), weight_sink(n), bias_sink(n), grad, n->in[0],
                                      s->mean, s->spread, s->weight ? n->in[1] : NULL, s->eps,
                                      s->batch);
}

/* running += momentum (now - running), in place: buffers are no part of the tape. */
static void move_running(tensor *running, const tensor *now, double momentum, double correction)
{
    const tensor *in[] = {running};
    kernels_here()->elementwise(EW_mul_scalar, running, 1, in, 1 - momentum, 0, false);
    in[0] = now;
    kernels_here()->elementwise(EW_mul_scalar, running, 1, in, momentum * correction, 0, true);
}

/* The batch's own statistics, which also move the running ones; the running variance is the
 * unbiased one. A batch of nothing, as an empty share of the last batch is, has no statistics and
 * moves nothing. */
static void batch_statistics(tensor *mean, tensor *var, const tensor *x, tensor *running_mean,
                             tensor *running_var, double momentum)
{
    kernels_here()->channel_stats(mean, var, x);
    int64_t n = x->shape[1] ? tensor_numel(x) / x->shape[1] : 0;
    if (n == 0)
        return;
    move_running(running_mean, mean, momentum, 1);
    move_running(running_var, var, momentum, n > 1 ? (double)n / (double)(n - 1) : 1);
}

torc_tensor *torc_batch_norm_op(torc_site at, torc_tensor *hx, torc_tensor *hw, torc_tensor *hb,
                                torc_tensor *hmean, torc_tensor *hvar, bool training,
                                double momentum, double eps)
{
    const call c = {at, __func__};
    torc_dtype dtype = op_float(&c, hx)->dtype, compute = op_compute_dtype(dtype);
    tensor *x = tensor_of(&c, torc_to(at, hx, compute));
    if (x->ndim != 2 && x->ndim != 4)
        call_die(&c, "expected [N, C] or [N, C, H, W], found %s", tensor_shape_text(x));
    int64_t channels = x->shape[1];
    tensor *w = affine(&c, hw, channels, compute), *b = affine(&c, hb, channels, compute);
    tensor *running_mean = affine(&c, hmean, channels, compute);
    tensor *running_var = affine(&c, hvar, channels, compute);
    tensor *image = x->ndim == 4 ? op_image(&c, x) : tensor_contiguous(&c, x);
    if (image != x) { /* backward reads it too: a copy that is an op's result */
        tensor_drop(image);
        x = image = tensor_of(&c, torc_contiguous(at, tensor_handle(x)));
    } else
        tensor_drop(image);
    tensor *y = tensor_create_like(&c, x, compute, OWNER_TAPE), *mean = running_mean;
    tensor *var = running_var;
    if (training) {
        mean = tensor_create(&c, compute, 1, &channels, OWNER_TAPE);
        var = tensor_create(&c, compute, 1, &channels, OWNER_TAPE);
        batch_statistics(mean, var, x, running_mean, running_var, momentum);
    }
    eps = eps > 0 ? eps : 1e-5;
    kernels_here()->channel_norm(y, x, mean, var, w, b, eps);
    tensor *in[3];
    int inputs = inputs_of(in, x, w, b);
    norm_saved *saved = tape_record(&c, batch_norm_backward, y, inputs, in, sizeof *saved);
    if (saved)
        *saved = (norm_saved){mean, var, w, b, eps, training};
    return torc_to(at, tensor_handle(y), dtype);
}
