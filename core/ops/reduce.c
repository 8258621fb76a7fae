/*
 * reduce -- sum, mean, max, min, var, argmax over any dimensions.
 *
 *     sum        y = sum x              dx = g, repeated
 *     mean       y = sum x / n          dx = g / n, repeated
 *     max, min   y = max x              dx = g where x = y, shared by ties
 *     var        y = sum (x - mean)^2 / (n - 1)
 *
 * `y` is computed with the reduced dimensions kept as 1 (the kept shape), then viewed without them.
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct extent { /* which dimensions go, and what remains */
    bool gone[TORC_MAX_DIMS];
    int64_t kept[TORC_MAX_DIMS]; /* shape with 1 where reduced */
    int64_t left[TORC_MAX_DIMS]; /* shape without */
    int left_ndim;
    int64_t count; /* elements behind each result */
} extent;

static extent extent_of(const call *c, const tensor *x, const torc_reduce_options *o)
{
    extent e = {.count = 1};
    for (int i = 0; i < o->dims.ndim; i++) {
        int d = shape_dim(c, (int)o->dims.dim[i], x->ndim);
        if (e.gone[d])
            call_die(c, "dimension %d is named twice", d);
        e.gone[d] = true;
    }
    for (int i = 0; i < x->ndim; i++) {
        e.gone[i] = e.gone[i] || o->dims.ndim == 0;
        e.kept[i] = e.gone[i] ? 1 : x->shape[i];
        e.count *= e.gone[i] ? x->shape[i] : 1;
        if (!e.gone[i] || o->keepdim)
            e.left[e.left_ndim++] = e.kept[i];
    }
    return e;
}

/* A view of t, of the left shape, in the kept shape. */
static tensor *as_kept(const call *c, const tensor *t, int ndim, const int64_t *kept)
{
    int64_t stride[TORC_MAX_DIMS];
    shape_strides(ndim, kept, stride); /* results and their gradients are contiguous */
    return tensor_view(c, t, ndim, kept, stride, t->offset, OWNER_HOUSE);
}

static tensor *result(const call *c, const extent *e, torc_dtype dtype)
{
    return tensor_create(c, dtype, e->left_ndim, e->left, OWNER_TAPE);
}

static void reduce_into(const call *c, reduce_op op, tensor *y, const tensor *x, const extent *e,
                        double scale)
{
    tensor *kept = as_kept(c, y, x->ndim, e->kept);
    kernels_here()->reduce(op, kept, x, scale, false);
    tensor_drop(kept);
}

/* ---- sum, mean ---- */

typedef struct sum_saved {
    int64_t kept[TORC_MAX_DIMS];
    double scale;
} sum_saved;

static void sum_backward(node *n, tensor *grad)
{
    const sum_saved *s = n->saved;
    tensor *x = n->in[0], *kept = as_kept(&n->made, grad, x->ndim, s->kept);
    tensor *wide = tensor_broadcast(&n->made, kept, x->ndim, x->shape);
    sink dx = tape_sink(n, 0);
    const tensor *in[] = {wide};
    kernels_here()->elementwise(EW_mul_scalar, dx.t, 1, in, s->scale, 0, dx.add);
    tensor_drop(wide);
    tensor_drop(kept);
}

static torc_tensor *scaled_sum(const call *c, tensor *x, const extent *e, double scale)
{
    tensor *y = result(c, e, autocast_sum(x->dtype));
    reduce_into(c, REDUCE_SUM, y, x, e, scale);
    sum_saved *saved = tape_record(c, sum_backward, y, 1, &x, sizeof *saved);
    if (saved) {
        memcpy(saved->kept, e->kept, sizeof saved->kept);
        saved->scale = scale;
    }
    return tensor_handle(y);
}

torc_tensor *torc_sum(torc_site at, torc_tensor *handle, torc_reduce_options o)
{
    const call c = {at, __func__};
    tensor *x = op_float(&c, handle);
    extent e = extent_of(&c, x, &o);
    torc_tensor *y = scaled_sum(&c, x, &e, 1);
    op_pass_weight(tensor_of(&c, y), x, NULL);
    return y;
}

/* A full mean is a loss as often as not: its weight is the number of elements behind it. The mean
 * of nothing is NaN; as a loss it weighs 0. */
torc_tensor *torc_mean(torc_site at, torc_tensor *handle, torc_reduce_options o)
{
    const call c = {at, __func__};
    tensor *x = op_float(&c, handle);
    extent e = extent_of(&c, x, &o);
    torc_tensor *y = scaled_sum(&c, x, &e, 1.0 / (double)e.count);
    tensor *t = tensor_of(&c, y);
    if (e.count == 0)
        kernels_here()->fill(t, NAN);
    if (tensor_numel(t) == 1)
        t->weight = tensor_numel(x) == 1 && !isnan(x->weight) ? x->weight : (double)e.count;
    return y;
}

/* ---- max, min: the gradient goes to where x equals y, shared by ties ---- */

static void extreme_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const sum_saved *s = n->saved;
    tensor *x = n->in[0], *y = as_kept(c, n->out, x->ndim, s->kept);
    tensor *g = as_kept(c, grad, x->ndim, s->kept);
    tensor *wide_y = tensor_broadcast(c, y, x->ndim, x->shape);
    tensor *at = tensor_create_like(c, x, TORC_BOOL, OWNER_HOUSE);
    kernels_here()->elementwise(EW_eq, at, 2, (const tensor *[]){x, wide_y}, 0, 0, false);
    tensor *ones = tensor_cast(c, at, x->dtype);
    tensor *ties = tensor_create(c, x->dtype, x->ndim, s->kept, OWNER_HOUSE);
    kernels_here()->reduce(REDUCE_SUM, ties, ones, 1, false);
    tensor *share = tensor_create(c, x->dtype, x->ndim, s->kept, OWNER_HOUSE);
    kernels_here()->elementwise(EW_div, share, 2, (const tensor *[]){g, ties}, 0, 0, false);
    tensor *wide = tensor_broadcast(c, share, x->ndim, x->shape);
    sink dx = tape_sink(n, 0);
    kernels_here()->elementwise(EW_mul, dx.t, 2, (const tensor *[]){wide, ones}, 0, 0, dx.add);
    tensor *temporaries[] = {y, g, wide_y, at, ones, ties, share, wide};
    for (int i = 0; i < ARRAY_LENGTH(temporaries); i++)
        tensor_drop(temporaries[i]);
}

static torc_tensor *extreme(const call *c, torc_tensor *handle, torc_reduce_options o, reduce_op op)
{
    tensor *x = op_float(c, handle);
    extent e = extent_of(c, x, &o);
    tensor *y = result(c, &e, x->dtype);
    if (e.count == 0 && tensor_numel(y) > 0)
        call_die(c, "expected at least one element to choose from, found %s", tensor_shape_text(x));
    reduce_into(c, op, y, x, &e, 1);
    sum_saved *saved = tape_record(c, extreme_backward, y, 1, &x, sizeof *saved);
    if (saved)
        memcpy(saved->kept, e.kept, sizeof saved->kept);
    return tensor_handle(y);
}

torc_tensor *torc_max(torc_site at, torc_tensor *x, torc_reduce_options o)
{
    return extreme(&(call){at, __func__}, x, o, REDUCE_MAX);
}

torc_tensor *torc_min(torc_site at, torc_tensor *x, torc_reduce_options o)
{
    return extreme(&(call){at, __func__}, x, o, REDUCE_MIN);
}

torc_tensor *torc_argmax(torc_site at, torc_tensor *handle, torc_reduce_options o)
{
    const call c = {at, __func__};
    if (o.dims.ndim == 0) { /* over all elements, in row-major order */
        o = (torc_reduce_options){.dims = {1, {0}}};
        handle = torc_reshape(at, handle, (torc_shape){1, {-1}});
    }
    tensor *x = op_number(&c, handle);
    if (o.dims.ndim != 1)
        call_die(&c, "expected one dimension, or all, found %d", o.dims.ndim);
    extent e = extent_of(&c, x, &o);
    tensor *y = result(&c, &e, TORC_I64), *kept = as_kept(&c, y, x->ndim, e.kept);
    if (e.count == 0 && tensor_numel(y) > 0)
        call_die(&c, "expected at least one element to choose from, found %s",
                 tensor_shape_text(x));
    kernels_here()->argmax(kept, x, shape_dim(&c, (int)o.dims.dim[0], x->ndim));
    tensor_drop(kept);
    return tensor_handle(y);
}

/* ---- var is composed: its gradient is that of its parts ---- */

torc_tensor *torc_var(torc_site at, torc_tensor *x, torc_reduce_options o)
{
    const call c = {at, __func__};
    extent e = extent_of(&c, op_float(&c, x), &o);
    torc_reduce_options keep = {.dims = o.dims, .keepdim = true};
    torc_tensor *off = torc_sub(at, x, torc_mean(at, x, keep));
    torc_tensor *squares = torc_sum(at, torc_mul(at, off, off), o);
    return torc_mul_scalar(at, squares, 1.0 / (double)(e.count - !o.biased));
}
