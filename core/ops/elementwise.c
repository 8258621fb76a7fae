/*
 * elementwise -- the rows of elementwise.def as public ops.
 *
 *     y_i = f(x_i)            y_i = f(a_i, b_i), after broadcasting a and b to one shape
 *     dx_i = f'(x_i, y_i, g_i)     da, db likewise, summed over the dimensions that repeated
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

typedef struct scalars {
    elementwise_op op;
    double p, q;
} scalars;

/* ---- one input ---- */

bool op_gradient_reads_result(elementwise_op op)
{
    return op == EW_relu || op == EW_tanh || op == EW_sigmoid || op == EW_exp || op == EW_sqrt;
}

static void unary_backward(node *n, tensor *grad)
{
    const scalars *s = n->saved;
    if (s->op == EW_add_scalar) { /* dx is g itself */
        tape_give(n, 0, tensor_share(grad));
        return;
    }
    sink dx = tape_sink(n, 0);
    const tensor *in[] = {n->in_unread ? n->out : n->in[0], n->out, grad};
    kernels_here()->elementwise(s->op + 1, dx.t, 3, in, s->p, s->q, dx.add);
}

static torc_tensor *unary(const call *c, torc_tensor *handle, scalars s)
{
    tensor *x = op_float(c, handle), *y = tensor_create_like(c, x, x->dtype, OWNER_TAPE);
    kernels_here()->elementwise(s.op, y, 1, (const tensor *[]){x}, s.p, s.q, false);
    scalars *saved = tape_record(c, unary_backward, y, 1, &x, sizeof s);
    if (saved)
        *saved = s;
    tape_unread(y, op_gradient_reads_result(s.op), false);
    op_pass_weight(y, x, NULL);
    return tensor_handle(y);
}

torc_tensor *op_activation(torc_site at, torc_tensor *x, elementwise_op act)
{
    return act == EW_NONE ? x : unary(&(call){at, __func__}, x, (scalars){act, 0, 0});
}

/* ---- two inputs ---- */

/* Laid out like the input that has the result's shape already. */
static tensor *binary_result(const call *c, const tensor *a, const tensor *b, torc_dtype dtype)
{
    int64_t shape[TORC_MAX_DIMS];
    int ndim = shape_broadcast(c, a, b, shape);
    const tensor *full = tensor_numel(a) >= tensor_numel(b) ? a : b;
    tensor *y = tensor_create(c, dtype, ndim, shape, OWNER_TAPE);
    if (tensor_same_shape(full, y) && tensor_is_dense(full))
        for (int i = 0; i < ndim; i++)
            y->stride[i] = full->stride[i];
    return y;
}

static void binary_gradient(node *n, int input, elementwise_op op, tensor *grad)
{
    if (!tape_wants(n, input))
        return;
    const call *c = &n->made;
    tensor *a = tensor_broadcast(c, n->in[0], n->out->ndim, n->out->shape);
    tensor *b = tensor_broadcast(c, n->in[1], n->out->ndim, n->out->shape);
    const tensor *in[] = {a, b, n->out, grad};
    if (tensor_same_shape(n->in[input], n->out)) {
        sink d = tape_sink(n, input);
        kernels_here()->elementwise(op, d.t, 4, in, 0, 0, d.add);
    } else {
        tensor *wide = tensor_create_like(c, n->out, n->out->dtype, OWNER_HOUSE);
        kernels_here()->elementwise(op, wide, 4, in, 0, 0, false);
        tape_give_summed(n, input, wide);
    }
    tensor_drop(a);
    tensor_drop(b);
}

static void binary_backward(node *n, tensor *grad)
{
    elementwise_op op = ((const scalars *)n->saved)->op;
    for (int i = 0; i < 2; i++) {
        bool passes = op == EW_add || (op == EW_sub && i == 0); /* the gradient is g itself */
        if (passes)
            tape_give_summed(n, i, tensor_share(grad));
        else
            binary_gradient(n, i, op + 1 + i, grad);
    }
}

static tensor *binary_value(const call *c, elementwise_op op, tensor *a, tensor *b,
                            torc_dtype dtype)
{
    op_same_dtype(c, a, b);
    tensor *y = binary_result(c, a, b, dtype);
    tensor *wide_a = tensor_broadcast(c, a, y->ndim, y->shape);
    tensor *wide_b = tensor_broadcast(c, b, y->ndim, y->shape);
    kernels_here()->elementwise(op, y, 2, (const tensor *[]){wide_a, wide_b}, 0, 0, false);
    tensor_drop(wide_a);
    tensor_drop(wide_b);
    return y;
}

static torc_tensor *binary(const call *c, torc_tensor *ha, torc_tensor *hb, elementwise_op op)
{
    autocast_meet(c, &ha, &hb);
    tensor *a = op_float(c, ha), *b = op_float(c, hb);
    tensor *y = binary_value(c, op, a, b, a->dtype);
    scalars *saved = tape_record(c, binary_backward, y, 2, (tensor *[]){a, b}, sizeof *saved);
    if (saved)
        saved->op = op;
    tape_unread(y, op == EW_add, op == EW_add);
    op_pass_weight(y, a, b);
    return tensor_handle(y);
}

static torc_tensor *test(const call *c, torc_tensor *handle, elementwise_op op)
{
    tensor *x = op_float(c, handle), *y = tensor_create_like(c, x, TORC_BOOL, OWNER_TAPE);
    kernels_here()->elementwise(op, y, 1, (const tensor *[]){x}, 0, 0, false);
    return tensor_handle(y);
}

/* ---- the public ops, a row each ---- */

#define UNARY(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *x) \
    { \
        return unary(&(call){at, __func__}, x, (scalars){EW_##name, 0, 0}); \
    }
#define UNARY_P(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *x, double p) \
    { \
        return unary(&(call){at, __func__}, x, (scalars){EW_##name, p, 0}); \
    }
#define UNARY_PQ(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *x, double p, double q) \
    { \
        return unary(&(call){at, __func__}, x, (scalars){EW_##name, p, q}); \
    }
#define BINARY(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *a, torc_tensor *b) \
    { \
        return binary(&(call){at, __func__}, a, b, EW_##name); \
    }
#define COMPARE(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *a, torc_tensor *b) \
    { \
        const call c = {at, __func__}; \
        return tensor_handle( \
            binary_value(&c, EW_##name, op_number(&c, a), op_number(&c, b), TORC_BOOL)); \
    }
#define PREDICATE(name, ...) \
    torc_tensor *torc_##name(torc_site at, torc_tensor *x) \
    { \
        return test(&(call){at, __func__}, x, EW_##name); \
    }
#include "core/ops/elementwise.def"
