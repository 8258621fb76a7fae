/*
 * join -- cat, stack and flip: results that gather values from several places by copying.
 *
 *     cat    y = parts one after the other along dim      d part = its stretch of g
 *     flip   y = x read backwards along dims               dx = g read backwards
 */
#include "core/ops/ops.h"

#include <stdlib.h>
#include <string.h>

/* The stretch of t that starts at `start` along dim and has the shape of `part`. */
static tensor *stretch_of(const call *c, const tensor *t, const tensor *part, int dim,
                          int64_t start)
{
    return tensor_view(c, t, part->ndim, part->shape, t->stride, t->offset + start * t->stride[dim],
                       OWNER_HOUSE);
}

static void cat_backward(node *n, tensor *grad)
{
    int dim = *(const int *)n->saved;
    int64_t start = 0;
    for (int i = 0; i < n->inputs; i++) {
        if (tape_wants(n, i))
            tape_give(n, i, stretch_of(&n->made, grad, n->in[i], dim, start));
        start += n->in[i]->shape[dim];
    }
}

static void check_parts(const call *c, tensor *const *part, int n, int dim)
{
    for (int i = 1; i < n; i++) {
        op_same_dtype(c, part[0], part[i]);
        bool fits = part[i]->ndim == part[0]->ndim;
        for (int d = 0; fits && d < part[0]->ndim; d++)
            fits = d == dim || part[i]->shape[d] == part[0]->shape[d];
        if (!fits)
            call_die(c, "parts differ outside dimension %d: %s and %s", dim,
                     tensor_shape_text(part[0]), tensor_shape_text(part[i]));
    }
}

static torc_tensor *cat(const call *c, int dim, int n, tensor **part)
{
    int64_t shape[TORC_MAX_DIMS], start = 0;
    memcpy(shape, part[0]->shape, sizeof shape);
    for (int i = 1; i < n; i++)
        shape[dim] += part[i]->shape[dim];
    tensor *y = tensor_create(c, part[0]->dtype, part[0]->ndim, shape, OWNER_TAPE);
    for (int i = 0; i < n; i++) {
        tensor *place = stretch_of(c, y, part[i], dim, start);
        kernels_here()->copy(place, part[i]);
        tensor_drop(place);
        start += part[i]->shape[dim];
    }
    int *saved = tape_record(c, cat_backward, y, n, part, sizeof dim);
    if (saved)
        *saved = dim;
    return tensor_handle(y);
}

static tensor **parts_of(const call *c, int n, torc_tensor *const *handles)
{
    if (n < 1)
        call_die(c, "expected at least one tensor, found none");
    tensor **part = base_alloc((size_t)n, sizeof *part);
    for (int i = 0; i < n; i++)
        part[i] = tensor_of(c, handles[i]);
    return part;
}

torc_tensor *torc_cat(torc_site at, int dim, int n, torc_tensor *const *handles)
{
    const call c = {at, __func__};
    tensor **part = parts_of(&c, n, handles);
    int d = shape_dim(&c, dim, part[0]->ndim);
    check_parts(&c, part, n, d);
    torc_tensor *y = cat(&c, d, n, part);
    free(part);
    return y;
}

torc_tensor *torc_stack(torc_site at, int dim, int n, torc_tensor *const *handles)
{
    const call c = {at, __func__};
    tensor **part = parts_of(&c, n, handles);
    int d = shape_dim(&c, dim, part[0]->ndim + 1);
    check_parts(&c, part, n, -1);
    for (int i = 0; i < n; i++)
        part[i] = tensor_of(&c, torc_unsqueeze(at, handles[i], d));
    torc_tensor *y = cat(&c, d, n, part);
    free(part);
    return y;
}

/* ---- flip ---- */

static tensor *flipped(const call *c, const tensor *t, const bool *flip)
{
    int64_t stride[TORC_MAX_DIMS], offset = t->offset;
    for (int i = 0; i < t->ndim; i++) {
        stride[i] = flip[i] ? -t->stride[i] : t->stride[i];
        offset += flip[i] ? max_i64(t->shape[i] - 1, 0) * t->stride[i] : 0;
    }
    return tensor_view(c, t, t->ndim, t->shape, stride, offset, OWNER_HOUSE);
}

static void flip_backward(node *n, tensor *grad)
{
    tape_give(n, 0, flipped(&n->made, grad, n->saved));
}

torc_tensor *torc_flip(torc_site at, torc_tensor *handle, torc_shape dims)
{
    const call c = {at, __func__};
    tensor *x = tensor_of(&c, handle);
    bool flip[TORC_MAX_DIMS] = {false};
    for (int i = 0; i < dims.ndim; i++)
        flip[shape_dim(&c, (int)dims.dim[i], x->ndim)] = true;
    tensor *y = tensor_create(&c, x->dtype, x->ndim, x->shape, OWNER_TAPE);
    tensor *view = flipped(&c, x, flip);
    kernels_here()->copy(y, view);
    tensor_drop(view);
    bool *saved = tape_record(&c, flip_backward, y, 1, &x, sizeof flip);
    if (saved)
        memcpy(saved, flip, sizeof flip);
    return tensor_handle(y);
}
