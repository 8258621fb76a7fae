/*
 * conv -- two-dimensional convolution (cross-correlation, as in every framework).
 *
 *     y[n, o, i, j] = bias[o] + sum of x[n, c, i s + u d - p, j s + v d - p] w[o, c, u, v]
 *                               over c, u, v
 *
 * with stride s, dilation d, padding p; in groups, output channel o reads only the input channels
 * of its group. Results are stored as NHWC behind the shape [N, C, H, W]: the elementwise ops and
 * poolings after it keep that order, and the user sees no difference.
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

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

typedef struct convolution {
    window how;
    elementwise_op act;
    tensor *x, *w; /* as they were multiplied: the inputs, or low copies of them */
    tensor *pre;   /* what act was applied to, if its gradient depends on that */
} convolution;

/* A channels-last image as the matrix [places, channels]. */
static tensor as_rows(const tensor *image)
{
    tensor rows = *image;
    rows.ndim = 2;
    rows.shape[0] = image->shape[0] * image->shape[2] * image->shape[3];
    rows.shape[1] = rows.stride[0] = image->shape[1];
    rows.stride[1] = 1;
    return rows;
}

/* The gradient of what act was applied to, and on the way the bias's: in the order of y, as every
 * gradient of y is. Released with tensor_drop(). */
static tensor *through_activation(node *n, const convolution *s, tensor *grad, sink db)
{
    const call *c = &n->made;
    tensor *d = tape_reuse(c, grad);
    tensor d_rows = as_rows(d), g_rows = as_rows(grad), kept = as_rows(s->pre ? s->pre : n->out);
    kernels_here()->activation_grad(&d_rows, db, s->act, &kept, &g_rows);
    return d;
}

static void conv2d_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const convolution *s = n->saved;
    sink db = n->inputs == 3 ? tape_sink(n, 2) : (sink){NULL, false};
    tensor *through = s->act == EW_NONE ? tensor_share(grad) : through_activation(n, s, grad, db);
    if (s->act != EW_NONE)
        db.t = NULL; /* done */
    tensor *g = tensor_cast(c, through, s->x->dtype);
    tensor_drop(through);
    sink dx = tape_sink(n, 0); /* not wanted for the first layer: its input has no gradient */
    if (dx.t)
        kernels_here()->conv2d_grad_input(dx, g, s->w, s->how);
    sink dw = tape_sink(n, 1);
    if (dw.t || db.t) {
        tensor *x = op_image(c, s->x);
        kernels_here()->conv2d_grad_weight(dw, db, g, x, s->how);
        tensor_drop(x);
    }
    tensor_drop(g);
    if (s->pre)
        tensor_empty(s->pre);
    autocast_drop(s->x, n->in[0]);
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

static torc_tensor *conv2d(const call *c, tensor *x, tensor *w, tensor *bias, window how,
                           elementwise_op act)
{
    product_types types = autocast_product(x->dtype);
    convolution v = {how, act, autocast_operand(c, x, types.operand),
                     autocast_operand(c, w, types.operand), NULL};
    int64_t shape[] = {x->shape[0], w->shape[0], op_windows(c, x->shape[2], how),
                       op_windows(c, x->shape[3], how)};
    tensor *y = op_channels_last(c, shape, types.result), *image = op_image(c, v.x);
    bool keeps_pre = act != EW_NONE && !op_gradient_reads_result(act) && tape_recording();
    if (keeps_pre)
        v.pre = op_channels_last(c, shape, types.result);
    kernels_here()->conv2d(y, v.pre, image, v.w, bias, how, act);
    tensor_drop(image);
    convolution *saved =
        tape_record(c, conv2d_backward, y, bias ? 3 : 2, (tensor *[]){x, w, bias}, sizeof v);
    if (saved)
        *saved = v;
    tape_unread(y, v.x != x && v.w != w, act == EW_NONE || keeps_pre);
    return tensor_handle(y);
}

/* Kernels know f32 weights beside low images; a weight that is low itself loses nothing. */
static tensor *wide_if_low(const call *c, tensor *t)
{
    return dtype_is_low(t->dtype) ? tensor_of(c, torc_to(c->at, tensor_handle(t), TORC_F32)) : t;
}

static torc_tensor *convolve(const call *c, torc_tensor *hx, torc_tensor *hw, torc_tensor *hbias,
                             torc_conv2d_options o, elementwise_op act)
{
    tensor *x = op_float(c, hx), *w = op_float(c, torc_contiguous(c->at, hw));
    tensor *bias = hbias ? op_float(c, torc_contiguous(c->at, hbias)) : NULL;
    if (!autocast_mixes(x, w))
        op_same_dtype(c, x, w);
    if (bias && !autocast_mixes(x, bias))
        op_same_dtype(c, x, bias);
    window how = window_of(c, w->ndim == 4 ? (int)w->shape[2] : 0, &o);
    check_conv(c, x, w, bias, how.groups);
    return conv2d(c, x, wide_if_low(c, w), bias ? wide_if_low(c, bias) : NULL, how, act);
}

torc_tensor *torc_conv2d_op(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *bias,
                            torc_conv2d_options o)
{
    return convolve(&(call){at, __func__}, x, w, bias, o, EW_NONE);
}

torc_tensor *op_conv2d_act(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *bias,
                           torc_conv2d_options o, elementwise_op act)
{
    return convolve(&(call){at, "torc_conv2d_op"}, x, w, bias, o, act);
}
