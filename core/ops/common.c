/* common -- the checks that every op makes; see ops.h. */
#include "core/ops/ops.h"

#include <math.h>

tensor *op_number(const call *c, torc_tensor *handle)
{
    tensor *t = tensor_of(c, handle);
    const device *d = device_current();
    if (!(d->computes & DTYPE_BIT(t->dtype)))
        call_die(c, "expected a dtype that a %s computes in, found %s %s; torc_to() converts",
                 d->name, torc_dtype_name(t->dtype), tensor_shape_text(t));
    return t;
}

tensor *op_float(const call *c, torc_tensor *handle)
{
    tensor *t = op_number(c, handle);
    if (!tensor_is_float(t))
        call_die(c, "expected a float dtype, found %s %s; torc_to() converts",
                 torc_dtype_name(t->dtype), tensor_shape_text(t));
    return t;
}

void op_same_dtype(const call *c, const tensor *a, const tensor *b)
{
    if (a->dtype != b->dtype)
        call_die(c, "dtypes differ: %s %s and %s %s; torc_to() converts", torc_dtype_name(a->dtype),
                 tensor_shape_text(a), torc_dtype_name(b->dtype), tensor_shape_text(b));
}

void op_pass_weight(tensor *out, const tensor *a, const tensor *b)
{
    if (tensor_numel(out) != 1)
        return;
    out->weight = b ? fmax(a->weight, b->weight) : a->weight; /* fmax passes NAN, unknown, over */
}
