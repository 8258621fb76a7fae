/*
 * linear -- the linear layer's product, with the activation behind it.
 *
 *     pre = x w^T + bias        y = act(pre)
 *     dpre = act'(pre or y) g   dbias = sum of dpre over rows     (one pass)
 *     dx = dpre w               dw = dpre^T x                     dw straight into the gradient
 *
 * x may have any dimensions before its last: they are rows. Without an activation y is pre, and
 * dpre is g.
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

#include <string.h>

typedef struct linear_saved {
    tensor *x, *w, *pre; /* x and w in the dtype multiplied in; pre NULL: not needed */
    elementwise_op act;
} linear_saved;

/* A contiguous t as [rows, last dimension]. */
static tensor *as_rows(const call *c, const tensor *t)
{
    int64_t columns = t->shape[t->ndim - 1], n = 1;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return tensor_view(c, t, 2, (int64_t[]){n, columns}, (int64_t[]){max_i64(columns, 1), 1},
                       t->offset, OWNER_HOUSE);
}

static tensor *as_rows_or_null(const call *c, const tensor *t)
{
    return t ? as_rows(c, t) : NULL;
}

/* ---- backward ---- */

/* The gradient of pre [rows, out], and that of the bias with it. Released with tensor_drop(). */
static tensor *pre_gradient(node *n, tensor *grad)
{
    const call *c = &n->made;
    const linear_saved *s = n->saved;
    sink dbias = n->inputs == 3 ? tape_sink(n, 2) : (sink){NULL, false};
    tensor *whole = s->act == EW_NONE ? NULL : tape_reuse(c, grad);
    tensor *g = as_rows(c, grad), *d = as_rows_or_null(c, whole);
    tensor *kept = as_rows(c, s->pre ? s->pre : n->out);
    if (d || dbias.t)
        kernels_here()->activation_grad(d, dbias, s->act, kept, g);
    tensor_drop(whole);
    tensor_drop(kept);
    if (!d)
        return g;
    tensor_drop(g);
    return d;
}

static void linear_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const linear_saved *s = n->saved;
    tensor *exact = pre_gradient(n, grad), *dpre = tensor_cast(c, exact, s->x->dtype);
    tensor_drop(exact);
    if (s->pre)
        tensor_empty(s->pre);
    sink dw = tape_sink(n, 1);
    if (dw.t) {
        tensor *turned = op_turned(c, dpre), *rows = as_rows(c, s->x);
        op_multiply(c, dw.t, turned, rows, dw.add);
        tensor_drop(turned);
        tensor_drop(rows);
    }
    autocast_drop(s->x, n->in[0]);
    tape_done_with(n, 0); /* dx, which is as large, takes its memory */
    sink dx = tape_sink(n, 0);
    if (dx.t) {
        tensor *out = as_rows(c, dx.t);
        op_multiply(c, out, dpre, s->w, dx.add);
        tensor_drop(out);
    }
    tensor_drop(dpre);
}

/* y from pre once more: an activation is nothing beside the product that would make it. */
static void linear_remake(node *n)
{
    const linear_saved *s = n->saved;
    kernels_here()->elementwise(s->act, n->out, 1, (const tensor *[]){s->pre}, 0, 0, false);
}

/* ---- forward ---- */

static void check_linear(const call *c, const tensor *x, const tensor *w, const tensor *bias)
{
    if (w->ndim != 2)
        call_die(c, "expected a weight [out, in], found %s", tensor_shape_text(w));
    if (x->ndim < 1 || x->shape[x->ndim - 1] != w->shape[1])
        call_die(c, "expected an input of %lld features, found %s", (long long)w->shape[1],
                 tensor_shape_text(x));
    if (bias && (bias->ndim != 1 || bias->shape[0] != w->shape[0]))
        call_die(c, "expected a bias of %lld, found %s", (long long)w->shape[0],
                 tensor_shape_text(bias));
    if (!autocast_mixes(x, w))
        op_same_dtype(c, x, w);
    if (bias && !autocast_mixes(x, bias))
        op_same_dtype(c, x, bias);
}

/* The kernel, on rows. */
static void compute(const call *c, tensor *y, const linear_saved *s, tensor *w, const tensor *bias)
{
    tensor *rows = as_rows(c, s->x), *out = as_rows(c, y), *pre = as_rows_or_null(c, s->pre);
    tensor *flat = tensor_contiguous(c, w),
           *row = bias ? tensor_contiguous(c, (tensor *)bias) : NULL;
    kernels_here()->linear(out, pre, rows, flat, row, s->act);
    tensor_drop(rows);
    tensor_drop(out);
    tensor_drop(pre);
    tensor_drop(flat);
    tensor_drop(row);
}

/* y by the product once more, and pre with it: the kernel of forward, on the same operands. Where
 * that ends with an activation of its own, y gets the bits that it has without torc_lean(), where
 * it is made again from pre (core/cuda/linear.c). */
static void linear_multiply(node *n)
{
    const linear_saved *s = n->saved;
    compute(&n->made, n->out, s, s->w, n->inputs == 3 ? n->in[2] : NULL);
    if (s->pre && !device_is_host())
        linear_remake(n);
}

/* What of y, once nobody can name it, and of pre need not be kept. */
static void say_what_can_go(node *n, tensor *pre)
{
    n->remake = pre ? linear_remake : NULL;
    if (!tape_is_lean())
        return;
    n->multiply = linear_multiply;
    n->beside = pre;
}

torc_tensor *op_linear_act(torc_site at, torc_tensor *hx, torc_tensor *hw, torc_tensor *hbias,
                           elementwise_op act)
{
    const call c = {at, "torc_linear_op"};
    tensor *x = op_float(&c, torc_contiguous(at, hx)), *w = op_float(&c, hw);
    tensor *bias = hbias ? op_float(&c, hbias) : NULL;
    check_linear(&c, x, w, bias);
    if (bias && dtype_is_low(bias->dtype)) /* kernels add up its gradient in f32 */
        bias = tensor_of(&c, torc_to(at, hbias, TORC_F32));
    product_types types = autocast_product(x->dtype);
    int64_t shape[TORC_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = w->shape[0];
    tensor *y = tensor_create(&c, types.result, x->ndim, shape, OWNER_TAPE);
    linear_saved s = {autocast_operand(&c, x, types.operand),
                      autocast_operand(&c, w, types.operand), NULL, act};
    bool keeps_pre = act != EW_NONE && !op_gradient_reads_result(act) && tape_recording();
    if (keeps_pre)
        s.pre = tensor_create(&c, types.result, x->ndim, shape, OWNER_TAPE);
    compute(&c, y, &s, s.w, bias);
    linear_saved *saved =
        tape_record(&c, linear_backward, y, bias ? 3 : 2, (tensor *[]){x, w, bias}, sizeof s);
    if (saved) {
        *saved = s;
        say_what_can_go(y->maker, s.pre);
    }
    tape_unread(y, s.x != x && s.w != w, act == EW_NONE || keeps_pre);
    return tensor_handle(y);
}

torc_tensor *torc_linear_op(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *bias)
{
    return op_linear_act(at, x, w, bias, EW_NONE);
}
