/*
 * views -- other shapes and strides over the same values.
 *
 *     reshape, flatten,      the same elements in the same order     dx = g in x's shape
 *     squeeze, unsqueeze
 *     permute, transpose     dimensions in another order             dx = g with the order undone
 *     expand                 repeats with stride 0                   dx = g summed over the repeats
 *     slice                  every step-th of a range                dx = 0 but for that range,
 *                                                                    which is g
 */
#include "core/ops/ops.h"

#include <string.h>

/* ---- reshape ---- */

/* The strides that make t look like `shape` without a copy, if there are any. Dimensions of t that
 * follow each other in memory are merged into one run, and the new dimensions are cut out of the
 * runs. */
static bool reshape_strides(const tensor *t, int ndim, const int64_t *shape, int64_t *stride)
{
    int64_t size[TORC_MAX_DIMS], step[TORC_MAX_DIMS];
    int runs = 0;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] == 1)
            continue;
        if (runs && step[runs - 1] == t->stride[i] * t->shape[i]) {
            size[runs - 1] *= t->shape[i];
            step[runs - 1] = t->stride[i];
        } else {
            size[runs] = t->shape[i];
            step[runs++] = t->stride[i];
        }
    }
    int run = runs - 1;
    int64_t left = run >= 0 ? size[run] : 1, at = run >= 0 ? step[run] : 1;
    for (int i = ndim - 1; i >= 0; i--) {
        stride[i] = at;
        if (shape[i] == 1)
            continue;
        if (left == 1 && run > 0) {
            left = size[--run];
            at = stride[i] = step[run];
        }
        if (left % shape[i])
            return false;
        left /= shape[i];
        at *= shape[i];
    }
    return true;
}

/* t in another shape of as many elements: a view, or a contiguous copy. */
static tensor *reshaped(const call *c, tensor *t, int ndim, const int64_t *shape,
                        tensor_owner owner)
{
    int64_t stride[TORC_MAX_DIMS];
    if (tensor_numel(t) == 0 || tensor_is_contiguous(t))
        shape_strides(ndim, shape, stride);
    else if (!reshape_strides(t, ndim, shape, stride)) {
        tensor *copy = tensor_contiguous(c, t);
        tensor *y = reshaped(c, copy, ndim, shape, owner);
        tensor_drop(copy);
        return y;
    }
    return tensor_view(c, t, ndim, shape, stride, t->offset, owner);
}

static void reshape_backward(node *n, tensor *grad)
{
    tape_give(n, 0, reshaped(&n->made, grad, n->in[0]->ndim, n->in[0]->shape, OWNER_HOUSE));
}

static torc_tensor *reshape(const call *c, tensor *x, int ndim, const int64_t *shape)
{
    tensor *y = reshaped(c, x, ndim, shape, OWNER_TAPE);
    tape_record(c, reshape_backward, y, 1, &x, 0);
    op_pass_weight(y, x, NULL);
    return tensor_handle(y);
}

/* Fills in the one -1. */
static void infer_dim(const call *c, const tensor *x, torc_shape *shape)
{
    int64_t known = 1, open = -1, total = tensor_numel(x);
    for (int i = 0; i < shape->ndim; i++) {
        if (shape->dim[i] == -1 && open < 0)
            open = i;
        else if (shape->dim[i] < 0)
            call_die(c, "%s is no shape: only one dimension may be -1",
                     shape_text(shape->ndim, shape->dim));
        else
            known *= shape->dim[i];
    }
    if (open >= 0 && known > 0)
        shape->dim[open] = total / known;
    if ((open >= 0 && known == 0) || known * (open >= 0 ? shape->dim[open] : 1) != total)
        call_die(c, "expected a shape of %lld elements for %s, found %s", (long long)total,
                 tensor_shape_text(x), shape_text(shape->ndim, shape->dim));
}

torc_tensor *torc_reshape(torc_site at, torc_tensor *handle, torc_shape shape)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    infer_dim(&c, x, &shape);
    return reshape(&c, x, shape.ndim, shape.dim);
}

torc_tensor *torc_flatten(torc_site at, torc_tensor *handle, int first_dim)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    int first = x->ndim ? shape_dim(&c, first_dim, x->ndim) : 0;
    int64_t shape[TORC_MAX_DIMS], rest = 1;
    for (int i = 0; i < first; i++)
        shape[i] = x->shape[i];
    for (int i = first; i < x->ndim; i++)
        rest *= x->shape[i];
    shape[first] = rest;
    return reshape(&c, x, first + 1, shape);
}

torc_tensor *torc_squeeze(torc_site at, torc_tensor *handle, int dim)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    int d = shape_dim(&c, dim, x->ndim);
    if (x->shape[d] != 1)
        return handle;
    int64_t shape[TORC_MAX_DIMS];
    for (int i = 0, j = 0; i < x->ndim; i++)
        if (i != d)
            shape[j++] = x->shape[i];
    return reshape(&c, x, x->ndim - 1, shape);
}

torc_tensor *torc_unsqueeze(torc_site at, torc_tensor *handle, int dim)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    if (x->ndim == TORC_MAX_DIMS)
        call_die(&c, "expected fewer than %d dimensions, found %s", TORC_MAX_DIMS,
                 tensor_shape_text(x));
    int d = shape_dim(&c, dim, x->ndim + 1);
    int64_t shape[TORC_MAX_DIMS];
    for (int i = 0, j = 0; i <= x->ndim; i++)
        shape[i] = i == d ? 1 : x->shape[j++];
    return reshape(&c, x, x->ndim + 1, shape);
}

/* ---- permute ---- */

static tensor *permuted(const call *c, tensor *t, const int *order, tensor_owner owner)
{
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    for (int i = 0; i < t->ndim; i++) {
        shape[i] = t->shape[order[i]];
        stride[i] = t->stride[order[i]];
    }
    return tensor_view(c, t, t->ndim, shape, stride, t->offset, owner);
}

static void permute_backward(node *n, tensor *grad)
{
    const int *order = n->saved;
    int undo[TORC_MAX_DIMS];
    for (int i = 0; i < grad->ndim; i++)
        undo[order[i]] = i;
    tape_give(n, 0, permuted(&n->made, grad, undo, OWNER_HOUSE));
}

static torc_tensor *permute(const call *c, tensor *x, const int *order)
{
    tensor *y = permuted(c, x, order, OWNER_TAPE);
    int *saved = tape_record(c, permute_backward, y, 1, &x, TORC_MAX_DIMS * sizeof *saved);
    if (saved)
        memcpy(saved, order, (size_t)x->ndim * sizeof *order);
    return tensor_handle(y);
}

torc_tensor *torc_permute(torc_site at, torc_tensor *handle, torc_shape dims)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    int order[TORC_MAX_DIMS], seen = 0;
    for (int i = 0; i < dims.ndim && dims.ndim == x->ndim; i++) {
        order[i] = shape_dim(&c, (int)dims.dim[i], x->ndim);
        seen |= 1 << order[i];
    }
    if (dims.ndim != x->ndim || seen != (1 << x->ndim) - 1)
        call_die(&c, "expected each dimension of %s once, found the order %s", tensor_shape_text(x),
                 shape_text(dims.ndim, dims.dim));
    return permute(&c, x, order);
}

torc_tensor *torc_transpose(torc_site at, torc_tensor *handle, int dim0, int dim1)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    int order[TORC_MAX_DIMS], a = shape_dim(&c, dim0, x->ndim), b = shape_dim(&c, dim1, x->ndim);
    for (int i = 0; i < x->ndim; i++)
        order[i] = i == a ? b : i == b ? a : i;
    return permute(&c, x, order);
}

/* ---- expand ---- */

static void expand_backward(node *n, tensor *grad)
{
    tape_give_summed(n, 0, tensor_share(grad));
}

torc_tensor *torc_expand(torc_site at, torc_tensor *handle, torc_shape shape)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    if (x->requires_grad && tape_recording())
        op_number(&c, handle); /* backward adds up in its dtype */
    shape_numel(&c, shape.ndim, shape.dim);
    for (int i = 1; i <= x->ndim; i++) {
        int64_t own = x->shape[x->ndim - i];
        if (i > shape.ndim || (own != 1 && own != shape.dim[shape.ndim - i]))
            call_die(&c, "%s does not expand to %s", tensor_shape_text(x),
                     shape_text(shape.ndim, shape.dim));
    }
    tensor *wide = tensor_broadcast(&c, x, shape.ndim, shape.dim);
    if (wide == x) { /* nothing to repeat */
        tensor_drop(wide);
        return handle;
    }
    tensor_set_owner(wide, OWNER_TAPE);
    tape_record(&c, expand_backward, wide, 1, &x, 0);
    return tensor_handle(wide);
}

/* ---- slice ---- */

typedef struct range {
    int dim;
    int64_t start, step, count;
} range;

static tensor *sliced(const call *c, const tensor *t, range r, tensor_owner owner)
{
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    memcpy(shape, t->shape, sizeof shape);
    memcpy(stride, t->stride, sizeof stride);
    shape[r.dim] = r.count;
    stride[r.dim] *= r.step;
    return tensor_view(c, t, t->ndim, shape, stride, t->offset + r.start * t->stride[r.dim], owner);
}

static void slice_backward(node *n, tensor *grad)
{
    sink dx = tape_sink(n, 0);
    if (!dx.add)
        kernels_here()->fill(dx.t, 0);
    tensor *part = sliced(&n->made, dx.t, *(const range *)n->saved, OWNER_HOUSE);
    const tensor *in[] = {grad};
    kernels_here()->elementwise(EW_mul_scalar, part, 1, in, 1, 0, true);
    tensor_drop(part);
}

/* start and stop count from the end when negative and are cut to the dimension, as in Python. */
torc_tensor *torc_slice(torc_site at, torc_tensor *handle, int dim, int64_t start, int64_t stop,
                        int64_t step)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    range r = {.dim = shape_dim(&c, dim, x->ndim), .step = step};
    if (step < 1)
        call_die(&c, "expected a step of 1 or more, found %lld", (long long)step);
    int64_t size = x->shape[r.dim];
    r.start = min_i64(max_i64(start < 0 ? start + size : start, 0), size);
    stop = min_i64(max_i64(stop < 0 ? stop + size : stop, r.start), size);
    r.count = (stop - r.start + step - 1) / step;
    tensor *y = sliced(&c, x, r, OWNER_TAPE);
    range *saved = tape_record(&c, slice_backward, y, 1, &x, sizeof r);
    if (saved)
        *saved = r;
    return tensor_handle(y);
}

void torc_split(torc_site at, torc_tensor *handle, int64_t size, int dim, int n, torc_tensor **out)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    int d = shape_dim(&c, dim, x->ndim);
    if (size < 1)
        call_die(&c, "expected parts of 1 or more, found %lld", (long long)size);
    int64_t parts = max_i64((x->shape[d] + size - 1) / size, 1);
    if (n != parts)
        call_die(&c, "%s splits into %lld parts of %lld along dimension %d, not %d",
                 tensor_shape_text(x), (long long)parts, (long long)size, d, n);
    for (int i = 0; i < n; i++)
        out[i] = torc_slice(at, handle, d, i * size, (i + 1) * size, 1);
}

/* ---- values of their own ---- */

static void contiguous_backward(node *n, tensor *grad)
{
    tape_give(n, 0, tensor_share(grad));
}

torc_tensor *torc_contiguous(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    if (tensor_is_contiguous(x))
        return handle;
    tensor *y = tensor_create(&c, x->dtype, x->ndim, x->shape, OWNER_TAPE);
    kernels_here()->copy(y, x);
    tape_record(&c, contiguous_backward, y, 1, &x, 0);
    return tensor_handle(y);
}

torc_tensor *torc_detach(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    return tensor_handle(tensor_view(&c, x, x->ndim, x->shape, x->stride, x->offset, OWNER_TAPE));
}
