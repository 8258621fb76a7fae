/*
 * conv -- two-dimensional convolution (cross-correlation, as in every framework).
 *
 *     y[n, o, i, j] = bias[o] + sum over c, u, v of x[n, c, i s + u d - p, j s + v d - p] w[o, c,
 * u, v]
 *
 * with stride s, dilation d, padding p; in groups, output channel o reads only the input channels
 * of its group. Results are stored as NHWC behind the shape [N, C, H, W]: the elementwise ops and
 * poolings after it keep that order, and the user sees no difference.
 */
#include "core/ops/ops.h"

#include <string.h>

/* ---- images: shared with pool.c ---- */

tensor *op_channels_last(const call *c, const int64_t *shape, torc_dtype dtype)
{
    tensor *t = tensor_create(c, dtype, 4, shape, OWNER_TAPE);
    int64_t channels = max_i64(shape[1], 1), width = max_i64(shape[3], 1);
    t->stride[1] = 1;
    t->stride[3] = channels;
    t->stride[2] = channels * width;
    t->stride[0] = t->stride[2] * max_i64(shape[2], 1);
    return t;
}

/* NCHW or NHWC: the two orders that the kernels read. */
tensor *op_image(const call *c, tensor *x)
{
    bool last = x->stride[1] == 1 && x->stride[3] == x->shape[1] &&
                x->stride[2] == x->shape[1] * x->shape[3] &&
                x->stride[0] == x->stride[2] * x->shape[2];
    return last ? tensor_share(x) : tensor_contiguous(c, x);
}

int64_t op_windows(const call *c, int64_t size, window how)
{
    int64_t padded = size + 2 * how.padding, reach = (int64_t)how.dilation * (how.kernel - 1) + 1;
    if (reach > padded)
        call_die(c, "a window of %lld does not fit into %lld with padding %d", (long long)reach,
                 (long long)size, how.padding);
    return (padded - reach) / how.stride + 1;
}

/* ---- convolution ---- */

static void conv2d_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    window how = *(const window *)n->saved;
    sink dx = tape_sink(n, 0); /* not wanted for the first layer: its input has no gradient */
    if (dx.t)
        kernels_here()->conv2d_grad_input(dx, grad, n->in[1], how);
    sink dw = tape_sink(n, 1), db = n->inputs == 3 ? tape_sink(n, 2) : (sink){NULL, false};
    if (dw.t || db.t) {
        tensor *x = op_image(c, n->in[0]);
        kernels_here()->conv2d_grad_weight(dw, db, grad, x, how);
        tensor_drop(x);
    }
}

static window window_of(const call *c, int kernel, const torc_conv2d_options *o)
{
    window how = {kernel, o->stride ? o->stride : 1, o->padding, o->dilation ? o->dilation : 1,
                  o->groups ? o->groups : 1};
    if (how.stride < 1 || how.padding < 0 || how.dilation < 1 || how.groups < 1)
        call_die(c,
                 "expected stride, dilation and groups of 1 or more and padding of 0 or more, "
                 "found %d, %d, %d, %d",
                 how.stride, how.dilation, how.groups, how.padding);
    return how;
}

static void check_conv(const call *c, const tensor *x, const tensor *w, const tensor *bias,
                       int groups)
{
    if (x->ndim != 4 || w->ndim != 4)
        call_die(c, "expected x [N, C, H, W] and weight [out, C, k, k], found %s and %s",
                 tensor_shape_text(x), tensor_shape_text(w));
    if (w->shape[2] != w->shape[3] || w->shape[2] < 1)
        call_die(c, "expected a square kernel, found %s", tensor_shape_text(w));
    if (w->shape[1] * groups != x->shape[1] || w->shape[0] % groups)
        call_die(c, "expected an input of %lld channels in %d groups for the weight %s, found %s",
                 (long long)w->shape[1] * groups, groups, tensor_shape_text(w),
                 tensor_shape_text(x));
    if (bias && (bias->ndim != 1 || bias->shape[0] != w->shape[0]))
        call_die(c, "expected a bias of %lld, found %s", (long long)w->shape[0],
                 tensor_shape_text(bias));
}

static torc_tensor *conv2d(const call *c, tensor *x, tensor *w, tensor *bias, window how)
{
    int64_t shape[] = {x->shape[0], w->shape[0], op_windows(c, x->shape[2], how),
                       op_windows(c, x->shape[3], how)};
    tensor *y = op_channels_last(c, shape, x->dtype), *image = op_image(c, x);
    kernels_here()->conv2d(y, image, w, bias, how);
    tensor_drop(image);
    window *saved =
        tape_record(c, conv2d_backward, y, bias ? 3 : 2, (tensor *[]){x, w, bias}, sizeof how);
    if (saved)
        *saved = how;
    tape_unread(y, false, true);
    return tensor_handle(y);
}

torc_tensor *torc_conv2d_op(torc_site at, torc_tensor *hx, torc_tensor *hw, torc_tensor *hbias,
                            torc_conv2d_options o)
{
    const call c = {at, __func__};
    tensor *x = op_float(&c, hx), *w = op_float(&c, torc_contiguous(at, hw));
    tensor *bias = hbias ? op_float(&c, hbias) : NULL;
    op_same_dtype(&c, x, w);
    if (bias)
        op_same_dtype(&c, x, bias);
    window how = window_of(&c, w->ndim == 4 ? (int)w->shape[2] : 0, &o);
    check_conv(&c, x, w, bias, how.groups);
    torc_dtype dtype = x->dtype, compute = op_compute_dtype(dtype);
    if (dtype == compute)
        return conv2d(&c, x, w, bias, how);
    x = tensor_of(&c, torc_to(at, hx, compute));
    w = tensor_of(&c, torc_to(at, tensor_handle(w), compute));
    bias = bias ? tensor_of(&c, torc_to(at, hbias, compute)) : NULL;
    return torc_to(at, conv2d(&c, x, w, bias, how), dtype);
}
