/*
 * matmul -- batched products and the linear layer's product.
 *
 *     matmul   y = a b             da = g b^T      db = a^T g, summed over broadcast dimensions
 *     linear   y = x w^T + bias    dx = g w        dw = g^T x        dbias = sum of g over rows
 *
 * A transposed operand is a view whose strides the kernel reads; only a matrix with no unit stride
 * at all is copied. The gradients of weights are written straight into the gradient's memory.
 */
#include "core/ops/ops.h"

#include <string.h>

/* A view with the last two dimensions exchanged. */
static tensor *turned(const call *c, const tensor *t)
{
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    memcpy(shape, t->shape, sizeof shape);
    memcpy(stride, t->stride, sizeof stride);
    int last = t->ndim - 1;
    shape[last] = t->shape[last - 1], shape[last - 1] = t->shape[last];
    stride[last] = t->stride[last - 1], stride[last - 1] = t->stride[last];
    return tensor_view(c, t, t->ndim, shape, stride, t->offset, OWNER_HOUSE);
}

/* Is one of the last two strides 1, so that a kernel can walk the matrix? (A dimension of 1 may
 * claim any stride.) */
static bool is_walkable(const tensor *t)
{
    int last = t->ndim - 1;
    int64_t rows = t->shape[last - 1], columns = t->shape[last];
    int64_t row_step = t->stride[last - 1], column_step = t->stride[last];
    bool by_rows = column_step == 1 && (row_step >= columns || rows == 1);
    bool by_columns = row_step == 1 && (column_step >= rows || columns == 1);
    return by_rows || by_columns;
}

static tensor *contiguous_like(const call *c, const tensor *t)
{
    return tensor_create(c, t->dtype, t->ndim, t->shape, OWNER_HOUSE);
}

static tensor *walkable(const call *c, tensor *t)
{
    if (is_walkable(t))
        return tensor_share(t);
    tensor *copy = contiguous_like(c, t);
    kernels_here()->copy(copy, t);
    return copy;
}

static void multiply(const call *c, tensor *out, tensor *a, tensor *b, const tensor *bias, bool add)
{
    tensor *ready_a = walkable(c, a), *ready_b = walkable(c, b);
    if (is_walkable(out)) {
        kernels_here()->matmul(out, ready_a, ready_b, bias, add);
    } else { /* a gradient laid out like an unusual view */
        tensor *product = contiguous_like(c, out);
        kernels_here()->matmul(product, ready_a, ready_b, bias, false);
        const tensor *in[] = {product};
        kernels_here()->elementwise(EW_mul_scalar, out, 1, in, 1, 0, add);
        tensor_drop(product);
    }
    tensor_drop(ready_a);
    tensor_drop(ready_b);
}

/* ---- matmul ---- */

static tensor *spread(const call *c, tensor *t, const tensor *out)
{
    int64_t shape[TORC_MAX_DIMS];
    memcpy(shape, out->shape, sizeof shape);
    shape[out->ndim - 2] = t->shape[t->ndim - 2];
    shape[out->ndim - 1] = t->shape[t->ndim - 1];
    return tensor_broadcast(c, t, out->ndim, shape);
}

/* d input = left right, of the spread shape, summed to the input's own. */
static void matmul_gradient(node *n, int input, const tensor *spread_input, tensor *left,
                            tensor *right)
{
    const call *c = &n->made;
    if (tensor_same_shape(n->in[input], spread_input)) {
        sink d = tape_sink(n, input);
        multiply(c, d.t, left, right, NULL, d.add);
        return;
    }
    tensor *wide =
        tensor_create(c, left->dtype, spread_input->ndim, spread_input->shape, OWNER_HOUSE);
    multiply(c, wide, left, right, NULL, false);
    tape_give_summed(n, input, wide);
}

static void matmul_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    tensor *a = spread(c, n->in[0], n->out), *b = spread(c, n->in[1], n->out);
    if (tape_wants(n, 0)) {
        tensor *bt = turned(c, b);
        matmul_gradient(n, 0, a, grad, bt);
        tensor_drop(bt);
    }
    if (tape_wants(n, 1)) {
        tensor *t = turned(c, a);
        matmul_gradient(n, 1, b, t, grad);
        tensor_drop(t);
    }
    tensor_drop(a);
    tensor_drop(b);
}

/* The leading dimensions broadcast; then [M, K] x [K, N] -> [M, N]. */
static tensor *matmul_result(const call *c, const tensor *a, const tensor *b)
{
    int m = a->ndim - 2, n = b->ndim - 2;
    if (m < 0 || n < 0)
        call_die(c, "expected matrices, found %s x %s", tensor_shape_text(a), tensor_shape_text(b));
    if (a->shape[m + 1] != b->shape[n])
        call_die(c, "inner dimensions differ: %s x %s", tensor_shape_text(a), tensor_shape_text(b));
    tensor lead_a = *a, lead_b = *b;
    lead_a.ndim = m;
    lead_b.ndim = n;
    int64_t shape[TORC_MAX_DIMS];
    int ndim = shape_broadcast(c, &lead_a, &lead_b, shape);
    shape[ndim] = a->shape[m];
    shape[ndim + 1] = b->shape[n + 1];
    return tensor_create(c, a->dtype, ndim + 2, shape, OWNER_TAPE);
}

torc_tensor *torc_matmul(torc_site at, torc_tensor *ha, torc_tensor *hb)
{
    const call c = {at, __func__};
    tensor *a = op_float(&c, ha), *b = op_float(&c, hb);
    op_same_dtype(&c, a, b);
    tensor *y = matmul_result(&c, a, b);
    tensor *wide_a = spread(&c, a, y), *wide_b = spread(&c, b, y);
    multiply(&c, y, wide_a, wide_b, NULL, false);
    tensor_drop(wide_a);
    tensor_drop(wide_b);
    tape_record(&c, matmul_backward, y, 2, (tensor *[]){a, b}, 0);
    return tensor_handle(y);
}

/* ---- linear ---- */

/* A contiguous t as [rows, last dimension]. */
static tensor *as_rows(const call *c, const tensor *t)
{
    int64_t columns = t->shape[t->ndim - 1], n = 1;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return tensor_view(c, t, 2, (int64_t[]){n, columns}, (int64_t[]){max_i64(columns, 1), 1},
                       t->offset, OWNER_HOUSE);
}

static void linear_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    tensor *x = n->in[0], *w = n->in[1], *g = as_rows(c, grad), *rows = as_rows(c, x);
    sink dx = tape_sink(n, 0);
    if (dx.t) {
        tensor *out = as_rows(c, dx.t);
        multiply(c, out, g, w, NULL, dx.add);
        tensor_drop(out);
    }
    sink dw = tape_sink(n, 1);
    if (dw.t) {
        tensor *gt = turned(c, g);
        multiply(c, dw.t, gt, rows, NULL, dw.add);
        tensor_drop(gt);
    }
    if (n->inputs == 3)
        tape_give_summed(n, 2, tensor_share(g));
    tensor_drop(g);
    tensor_drop(rows);
}

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
    op_same_dtype(c, x, w);
    if (bias)
        op_same_dtype(c, x, bias);
}

torc_tensor *torc_linear_op(torc_site at, torc_tensor *hx, torc_tensor *hw, torc_tensor *hbias)
{
    const call c = {at, __func__};
    tensor *x = op_float(&c, torc_contiguous(at, hx)), *w = op_float(&c, hw);
    tensor *bias = hbias ? op_float(&c, hbias) : NULL;
    check_linear(&c, x, w, bias);
    int64_t shape[TORC_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = w->shape[0];
    tensor *y = tensor_create(&c, x->dtype, x->ndim, shape, OWNER_TAPE);
    tensor *rows = as_rows(&c, x), *out = as_rows(&c, y), *wt = turned(&c, w);
    multiply(&c, out, rows, wt, bias, false);
    tensor_drop(rows);
    tensor_drop(out);
    tensor_drop(wt);
    tape_record(&c, linear_backward, y, bias ? 3 : 2, (tensor *[]){x, w, bias}, 0);
    tape_unread(y, false, true);
    return tensor_handle(y);
}
