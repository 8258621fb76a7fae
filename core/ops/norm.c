/*
 * norm -- layer norm and batch norm.
 *
 *     h = (x - mean) / sqrt(var + eps)      y = h w + b      var with n, not n - 1
 *     dh = g w      dx = rstd (dh - mean(dh) - h mean(dh h))      dw = sum g h      db = sum g
 *
 * Layer norm takes mean and var over the last dimension, a row each (Ba, Kiros, Hinton 2016); batch
 * norm over all but the channels, a channel each (Ioffe, Szegedy 2015).
 *
 * Statistics, weights and running statistics of bf16 activations are f32. Behind a residual
 * connection the addition is in layer norm's kernel, though on the tape it is a node of its own:
 *
 *     x --------(+)--> sum ------------> to the next (+)       sum is read and written once, where
 *     branch ----'      '--> norm --> y                        it is made
 *
 * Synchronised, a channel is spread over the ranks, and the sums behind the statistics, and behind
 * mean(dh) and mean(dh h), are taken over all of them:
 *
 *     rank 0   x0 --sum--.              .--sum (x0 - mean)^2--.             .--> y0
 *     rank 1   x1 --sum---+--> mean ---+---sum (x1 - mean)^2---+--> var ---+---> y1
 *     rank 2   (nothing) -'             '-------- 0 ----------'             '--> (nothing)
 *
 * Two messages where one with sum x and sum x^2 would do: var from their difference would lose the
 * digits that mean^2 has more than var. With the mean known first, R ranks get what one has.
 */
#include "core/ops/ops.h"
#include "core/peers.h"

#include <stdlib.h>

/* A weight or bias of `width` elements as the kernels read it, or NULL. */
static tensor *affine(const call *c, torc_tensor *handle, int64_t width, torc_dtype dtype)
{
    if (!handle)
        return NULL;
    tensor *t = op_float(c, torc_contiguous(c->at, torc_to(c->at, handle, dtype)));
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
    bool batch;   /* the statistics came from the batch itself ... */
    double count; /* ... of so many elements a channel, those of all ranks where synchronised */
} norm_saved;

typedef struct sinks {
    sink x, w, b;
} sinks;

/* Asked for in the order in which kernels write them: where one tensor is weight and bias at once,
 * its first gradient is written and its second added. */
static sinks sinks_of(node *n)
{
    const norm_saved *s = n->saved;
    sinks d = {.x = tape_sink(n, 0)};
    if (s->weight)
        d.w = tape_sink(n, 1);
    if (s->bias)
        d.b = tape_sink(n, 1 + s->weight);
    return d;
}

static void layer_norm_backward(node *n, tensor *grad)
{
    const norm_saved *s = n->saved;
    sinks d = sinks_of(n);
    kernels_here()->layer_norm_grad(d.x, d.w, d.b, grad, n->in[0], s->weight ? n->in[1] : NULL,
                                    s->mean, s->spread);
}

/* y once more, from x: reading it is all that this costs. */
static void layer_norm_remake(node *n)
{
    const norm_saved *s = n->saved;
    kernels_here()->layer_norm(n->out, s->mean, s->spread, NULL, n->in[0], NULL,
                               s->weight ? n->in[1] : NULL, s->bias ? n->in[1 + s->weight] : NULL,
                               s->eps);
}

/* The gradient of a sum is that of each of its terms. */
static void addition_backward(node *n, tensor *grad)
{
    for (int i = 0; i < 2; i++)
        tape_give(n, i, tensor_share(grad));
}

static void addition_remake(node *n)
{
    kernels_here()->elementwise(EW_add, n->out, 2, (const tensor *[]){n->in[0], n->in[1]}, 0, 0,
                                false);
}

/* What torc_add() says of its result, of one that the kernel has written already. */
static void record_addition(const call *c, tensor *sum, tensor *a, tensor *b)
{
    if (tape_record(c, addition_backward, sum, 2, (tensor *[]){a, b}, 0)) {
        sum->maker->remake = tape_is_lean() ? addition_remake : NULL;
        sum->maker->remake_reads = true;
    }
    tape_unread(sum, true, true);
    op_pass_weight(sum, a, b);
}

/* x's, or that of sum = x + residual, which is written; NULL both where there is no residual. */
static tensor *layer_norm(const call *c, tensor *x, tensor *residual, tensor *sum, torc_tensor *hw,
                          torc_tensor *hb, double eps)
{
    if (x->ndim < 1)
        call_die(c, "expected at least one dimension, found a scalar");
    int64_t width = x->shape[x->ndim - 1];
    torc_dtype wide = op_compute_dtype(x->dtype);
    tensor *w = affine(c, hw, width, wide), *b = affine(c, hb, width, wide);
    tensor *y = tensor_create(c, x->dtype, x->ndim, x->shape, OWNER_TAPE);
    tensor *mean = tensor_create(c, wide, x->ndim - 1, x->shape, OWNER_TAPE);
    tensor *rstd = tensor_create(c, wide, x->ndim - 1, x->shape, OWNER_TAPE);
    eps = eps > 0 ? eps : 1e-5;
    kernels_here()->layer_norm(y, mean, rstd, sum, x, residual, w, b, eps);
    if (sum)
        record_addition(c, sum, x, residual);
    tensor *in[3];
    int inputs = inputs_of(in, sum ? sum : x, w, b);
    norm_saved *saved = tape_record(c, layer_norm_backward, y, inputs, in, sizeof *saved);
    if (saved) {
        *saved = (norm_saved){.mean = mean, .spread = rstd, .weight = w, .bias = b, .eps = eps};
        y->maker->remake = layer_norm_remake;
        y->maker->remake_reads = true;
    }
    tape_unread(y, false, true);
    return y;
}

torc_tensor *torc_layer_norm_op(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *b,
                                double eps)
{
    const call c = {at, __func__};
    op_float(&c, x);
    tensor *rows = tensor_of(&c, torc_contiguous(at, x));
    return tensor_handle(layer_norm(&c, rows, NULL, NULL, w, b, eps));
}

torc_tensor *op_add_layer_norm(torc_site at, torc_tensor *hx, torc_tensor *hbranch, torc_tensor *w,
                               torc_tensor *b, double eps, torc_tensor **sum)
{
    const call c = {at, "torc_layer_norm_op"};
    tensor *x = op_float(&c, hx), *branch = op_float(&c, hbranch);
    if (x->dtype != branch->dtype || !tensor_same_shape(x, branch) || !tensor_is_contiguous(x) ||
        !tensor_is_contiguous(branch)) {
        *sum = torc_add(at, hx, hbranch);
        return torc_layer_norm_op(at, *sum, w, b, eps);
    }
    tensor *added = tensor_create_like(&c, x, x->dtype, OWNER_TAPE);
    *sum = tensor_handle(added);
    return tensor_handle(layer_norm(&c, x, branch, added, w, b, eps));
}

/* ---- batch norm ---- */

static void batch_norm_backward(node *n, tensor *grad)
{
    const norm_saved *s = n->saved;
    sinks d = sinks_of(n);
    kernels_here()->channel_norm_grad(d.x, d.w, d.b, grad, n->in[0], s->mean, s->spread,
                                      s->weight ? n->in[1] : NULL, s->eps, s->batch);
}

/* running += momentum (now - running), in place and of any dtype: buffers are no part of the tape.
 */
static void move_running(tensor *running, const tensor *now, double momentum, double correction)
{
    const tensor *in[] = {running};
    kernels_here()->elementwise(EW_mul_scalar, running, 1, in, 1 - momentum, 0, false);
    in[0] = now;
    kernels_here()->elementwise(EW_mul_scalar, running, 1, in, momentum * correction, 0, true);
}

static double elements_of_channel(const tensor *x)
{
    return x->shape[1] ? (double)(tensor_numel(x) / x->shape[1]) : 0;
}

/* ---- batch norm: sums over all ranks ---- */

static tensor *channel_sums(const call *c, const tensor *g, const tensor *x, const tensor *mean)
{
    tensor *sums = tensor_create(c, TORC_F64, 2, (int64_t[]){2, x->shape[1]}, OWNER_HOUSE);
    kernels_here()->channel_sums(sums, g, x, mean);
    return sums;
}

/* What the ranks' own numbers add up to: a number a rank, such as the elements of a channel, then
 * the first `n` of `sums`. The caller frees it. */
static double *sum_over_ranks(const call *c, double number, const tensor *sums, int64_t n)
{
    double *values = base_alloc((size_t)n + 1, sizeof *values);
    values[0] = number;
    device_current()->to_host(values + 1, tensor_data(sums), (size_t)n * sizeof *values);
    peers_sum(c->at, c->op, values, n + 1);
    return values;
}

/* The statistics of all ranks' x together; returns how many elements of a channel are behind them.
 * As in the kernel channel_stats: what the rounding of the mean left over corrects the variance. */
static double sync_statistics(const call *c, tensor *mean, tensor *var, const tensor *x)
{
    int64_t channels = x->shape[1];
    tensor *sums = channel_sums(c, NULL, x, NULL);
    double *all = sum_over_ranks(c, elements_of_channel(x), sums, channels), found = all[0];
    double count = found > 0 ? found : 1;
    for (int64_t i = 1; i <= channels; i++)
        all[i] /= count;
    tensor_write(c, mean, TORC_F64, all + 1);
    free(all);
    tensor_drop(sums);

    sums = channel_sums(c, NULL, x, mean);
    all = sum_over_ranks(c, 0, sums, 2 * channels);
    for (int64_t i = 1; i <= channels; i++) {
        double left = all[i] / count;
        all[i] = all[channels + i] / count - left * left;
    }
    tensor_write(c, var, TORC_F64, all + 1);
    free(all);
    tensor_drop(sums);
    return found;
}

/* dw and db stay this rank's: they are summed over ranks with all other gradients of parameters. dx
 * is not, so the sums behind it are taken here. They are linear in the incoming gradient, so that
 * whatever this rank's loss is weighted with (tape.h: begin) is in them. */
static void sync_batch_norm_backward(node *n, tensor *grad)
{
    const norm_saved *s = n->saved;
    const call c = {n->made.at, "torc_sync_batch_norm_op (backward)"};
    tensor *own = channel_sums(&c, grad, n->in[0], s->mean);
    tensor *all = tensor_create_like(&c, own, TORC_F64, OWNER_HOUSE);
    double *values = sum_over_ranks(&c, 0, own, tensor_numel(own));
    tensor_write(&c, all, TORC_F64, values + 1);
    free(values);
    sinks d = sinks_of(n);
    kernels_here()->channel_norm_grad_from(d.x, d.w, d.b, grad, n->in[0], s->mean, s->spread,
                                           s->weight ? n->in[1] : NULL, s->eps, own, all, s->count);
    tensor_drop(own);
    tensor_drop(all);
}

/* ---- batch norm: the op ---- */

typedef struct batch_norm {
    torc_tensor *x, *w, *b, *mean, *var; /* mean and var: the running ones */
    bool training, sync;
    double momentum, eps;
} batch_norm;

/* The batch's own statistics, which also move the running ones; the running variance is the
 * unbiased one. A batch of nothing, as an empty share of the last batch is, has no statistics and
 * moves nothing. Returns the elements of a channel. */
static double batch_statistics(const call *c, tensor *mean, tensor *var, const tensor *x,
                               const batch_norm *o)
{
    double n = elements_of_channel(x);
    if (o->sync)
        n = sync_statistics(c, mean, var, x);
    else
        kernels_here()->channel_stats(mean, var, x);
    if (n > 0 && !tape_replaying()) {
        move_running(tensor_of(c, o->mean), mean, o->momentum, 1);
        move_running(tensor_of(c, o->var), var, o->momentum, n > 1 ? n / (n - 1) : 1);
    }
    return n;
}

/* x in an order of dimensions that the kernels know; backward reads it too, so a copy is the result
 * of an op. */
static tensor *channels_image(const call *c, tensor *x)
{
    tensor *image = x->ndim == 4 ? op_image(c, x) : tensor_contiguous(c, x);
    if (image != x)
        x = tensor_of(c, torc_contiguous(c->at, tensor_handle(x)));
    tensor_drop(image);
    return x;
}

static torc_tensor *batch_norm_of(const call *c, batch_norm o)
{
    tensor *x = op_float(c, o.x);
    if (x->ndim != 2 && x->ndim != 4)
        call_die(c, "expected [N, C] or [N, C, H, W], found %s", tensor_shape_text(x));
    torc_dtype wide = op_compute_dtype(x->dtype);
    int64_t channels = x->shape[1];
    tensor *w = affine(c, o.w, channels, wide), *b = affine(c, o.b, channels, wide);
    tensor *mean = affine(c, o.mean, channels, wide), *var = affine(c, o.var, channels, wide);
    x = channels_image(c, x);
    norm_saved save = {.weight = w, .bias = b, .eps = o.eps > 0 ? o.eps : 1e-5};
    if (o.training) {
        mean = tensor_create(c, wide, 1, &channels, OWNER_TAPE);
        var = tensor_create(c, wide, 1, &channels, OWNER_TAPE);
        save.count = batch_statistics(c, mean, var, x, &o);
    }
    save.mean = mean, save.spread = var, save.batch = o.training;
    tensor *y = tensor_create_like(c, x, x->dtype, OWNER_TAPE);
    kernels_here()->channel_norm(y, x, mean, var, w, b, save.eps);
    tensor *in[3];
    int inputs = inputs_of(in, x, w, b);
    norm_saved *saved = tape_record(c, o.sync ? sync_batch_norm_backward : batch_norm_backward, y,
                                    inputs, in, sizeof *saved);
    if (saved) {
        *saved = save;
        y->maker->collective = o.sync;
    }
    tape_unread(y, false, true);
    return tensor_handle(y);
}

torc_tensor *torc_batch_norm_op(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *b,
                                torc_tensor *mean, torc_tensor *var, bool training, double momentum,
                                double eps)
{
    return batch_norm_of(&(call){at, __func__},
                         (batch_norm){x, w, b, mean, var, training, false, momentum, eps});
}

/* With given statistics, and alone, nothing depends on another rank: it is batch norm, to the bit.
 */
torc_tensor *torc_sync_batch_norm_op(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *b,
                                     torc_tensor *mean, torc_tensor *var, bool training,
                                     double momentum, double eps)
{
    bool sync = training && base_world()->size > 1;
    return batch_norm_of(&(call){at, __func__},
                         (batch_norm){x, w, b, mean, var, training, sync, momentum, eps});
}
