/*
 * select -- where, dtype conversion, and the finite check: what looks at values one by one and is
 * no row of elementwise.def.
 */
#include "core/ops/ops.h"

/* ---- y = condition ? a : b;  da = condition ? g : 0;  db = condition ? 0 : g ---- */

static void where_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    tensor *condition = tensor_broadcast(c, n->in[0], grad->ndim, grad->shape);
    for (int i = 1; i <= 2; i++) {
        if (!tape_wants(n, i))
            continue;
        tensor *part = tensor_create_like(c, grad, grad->dtype, OWNER_HOUSE);
        kernels_here()->where(part, condition, i == 1 ? grad : NULL, i == 2 ? grad : NULL);
        tape_give_summed(n, i, part);
    }
    tensor_drop(condition);
}

torc_tensor *torc_where(torc_site at, torc_tensor *hc, torc_tensor *ha, torc_tensor *hb)
{
    const call c = {at, __func__};
    tensor *in[] = {tensor_of(&c, hc), op_float(&c, ha), op_float(&c, hb)};
    if (in[0]->dtype != TORC_BOOL)
        call_die(&c, "expected a bool condition, found %s", torc_dtype_name(in[0]->dtype));
    op_same_dtype(&c, in[1], in[2]);
    tensor values = {.ndim = shape_broadcast(&c, in[1], in[2], values.shape)};
    int64_t shape[TORC_MAX_DIMS];
    int ndim = shape_broadcast(&c, in[0], &values, shape);
    tensor *y = tensor_create(&c, in[1]->dtype, ndim, shape, OWNER_TAPE), *wide[3];
    for (int i = 0; i < 3; i++)
        wide[i] = tensor_broadcast(&c, in[i], ndim, shape);
    kernels_here()->where(y, wide[0], wide[1], wide[2]);
    for (int i = 0; i < 3; i++)
        tensor_drop(wide[i]);
    tape_record(&c, where_backward, y, 3, in, 0);
    op_pass_weight(y, in[1], in[2]);
    return tensor_handle(y);
}

/* ---- y = x in another dtype;  dx = g in x's ---- */

static void to_backward(node *n, tensor *grad)
{
    tape_give(n, 0, tensor_cast(&n->made, grad, n->in[0]->dtype));
}

torc_tensor *torc_to(torc_site at, torc_tensor *handle, torc_dtype dtype)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    if ((unsigned)dtype >= TORC_DTYPES)
        call_die(&c, "expected a dtype, found the number %d", (int)dtype);
    if (x->dtype == dtype)
        return handle;
    tensor *y = tensor_create_like(&c, x, dtype, OWNER_TAPE);
    kernels_here()->copy(y, x);
    if (tensor_is_float(y))
        tape_record(&c, to_backward, y, 1, &x, 0);
    op_pass_weight(y, x, NULL);
    return tensor_handle(y);
}

bool torc_all_finite(torc_site at, torc_tensor *handle)
{
    return kernels_here()->all_finite(op_float(&(call){at, __func__}, handle));
}
