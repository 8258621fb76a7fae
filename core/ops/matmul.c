/*
 * matmul -- batched products.
 *
 *     y = a b        da = g b^T        db = a^T g, summed over broadcast dimensions
 *
 * A transposed operand is a view whose strides the kernel reads; only a matrix with no unit stride
 * at all is copied. Gradients are written, or added, straight into the gradient's memory.
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

#include <string.h>

tensor *op_turned(const call *c, const tensor *t)
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

void op_multiply(const call *c, tensor *out, tensor *a, tensor *b, bool add)
{
    tensor *ready_a = walkable(c, a), *ready_b = walkable(c, b);
    if (is_walkable(out)) {
        kernels_here()->matmul(out, ready_a, ready_b, NULL, add);
    } else { /* a gradient laid out like an unusual view */
        tensor *product = contiguous_like(c, out);
        kernels_here()->matmul(product, ready_a, ready_b, NULL, false);
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

typedef struct matmul_saved {
    tensor *a, *b; /* the inputs in the dtype multiplied in */
} matmul_saved;

/* d input = left right, of the spread shape, summed to the input's own. */
static void matmul_gradient(node *n, int input, const tensor *spread_input, tensor *left,
                            tensor *right)
{
    const call *c = &n->made;
    if (tensor_same_shape(n->in[input], spread_input)) {
        sink d = tape_sink(n, input);
        op_multiply(c, d.t, left, right, d.add);
        return;
    }
    tensor *wide =
        tensor_create(c, n->in[input]->dtype, spread_input->ndim, spread_input->shape, OWNER_HOUSE);
    op_multiply(c, wide, left, right, false);
    tape_give_summed(n, input, wide);
}

static void matmul_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const matmul_saved *s = n->saved;
    tensor *g = tensor_cast(c, grad, s->a->dtype);
    tensor *a = spread(c, s->a, n->out), *b = spread(c, s->b, n->out);
    if (tape_wants(n, 0)) {
        tensor *bt = op_turned(c, b);
        matmul_gradient(n, 0, a, g, bt);
        tensor_drop(bt);
    }
    if (tape_wants(n, 1)) {
        tensor *at = op_turned(c, a);
        matmul_gradient(n, 1, b, at, g);
        tensor_drop(at);
    }
    tensor_drop(a);
    tensor_drop(b);
    tensor_drop(g);
}

/* The leading dimensions broadcast; then [M, K] x [K, N] -> [M, N]. */
static tensor *matmul_result(const call *c, const tensor *a, const tensor *b, torc_dtype dtype)
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
    return tensor_create(c, dtype, ndim + 2, shape, OWNER_TAPE);
}

torc_tensor *torc_matmul(torc_site at, torc_tensor *ha, torc_tensor *hb)
{
    const call c = {at, __func__};
    tensor *a = op_float(&c, ha), *b = op_float(&c, hb);
    if (!autocast_mixes(a, b))
        op_same_dtype(&c, a, b);
    product_types types = autocast_product(a->dtype);
    tensor *y = matmul_result(&c, a, b, types.result);
    matmul_saved s = {autocast_operand(&c, a, types.operand),
                      autocast_operand(&c, b, types.operand)};
    tensor *wide_a = spread(&c, s.a, y), *wide_b = spread(&c, s.b, y);
    op_multiply(&c, y, wide_a, wide_b, false);
    tensor_drop(wide_a);
    tensor_drop(wide_b);
    matmul_saved *saved = tape_record(&c, matmul_backward, y, 2, (tensor *[]){a, b}, sizeof s);
    if (saved)
        *saved = s;
    tape_unread(y, s.a != a && s.b != b, true);
    return tensor_handle(y);
}
