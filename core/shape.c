/*
 * shape -- what shapes and strides say of a tensor's memory, and how two shapes become one;
 * declared in tensor.h. Nothing here reads a value.
 *
 *     shape [2, 3], strides [3, 1]    0 1 2      contiguous, and dense
 *                                     3 4 5
 *     strides [1, 2]                  0 2 4      dense alone: every element once, in another order
 *                                     1 3 5
 *     strides [0, 1]                  0 1 2      neither: a row that repeats
 *                                     0 1 2
 */
#include "core/tensor.h"

#include <stdio.h>
#include <string.h>

/* ---- of a tensor ---- */

int64_t tensor_numel(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

bool tensor_is_contiguous(const tensor *t)
{
    int64_t expected = 1;
    bool in_order = true;
    for (int i = t->ndim - 1; i >= 0; i--) {
        in_order = in_order && (t->shape[i] == 1 || t->stride[i] == expected);
        expected *= t->shape[i];
    }
    return in_order || expected == 0; /* of nothing all strides are right */
}

/* Walks the dimensions from the smallest stride up: each must continue where the ones before end.
 */
bool tensor_is_dense(const tensor *t)
{
    int64_t expected = 1, n = tensor_numel(t);
    while (expected < n) {
        int next = -1;
        for (int i = 0; i < t->ndim && next < 0; i++)
            if (t->shape[i] > 1 && t->stride[i] == expected)
                next = i;
        if (next < 0)
            return false;
        expected *= t->shape[next];
    }
    return true;
}

bool tensor_same_shape(const tensor *a, const tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape);
}

/* ---- of numbers ---- */

const char *shape_text(int ndim, const int64_t *shape)
{
    static _Thread_local char texts[8][TORC_MAX_DIMS * 22 + 3];
    static _Thread_local int turn;
    char *text = texts[turn++ % 8];
    int n = sprintf(text, "[");
    for (int i = 0; i < ndim; i++)
        n += sprintf(text + n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    sprintf(text + n, "]");
    return text;
}

const char *tensor_shape_text(const tensor *t)
{
    return shape_text(t->ndim, t->shape);
}

void shape_strides(int ndim, const int64_t *shape, int64_t *stride)
{
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        stride[i] = step;
        step *= max_i64(shape[i], 1);
    }
}

int64_t shape_numel(const call *c, int ndim, const int64_t *shape)
{
    if (ndim < 0 || ndim > TORC_MAX_DIMS)
        call_die(c, "expected at most %d dimensions, found %d", TORC_MAX_DIMS, ndim);
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(n, max_i64(shape[i], 1), &n))
            call_die(c, "%s is no shape: %s", shape_text(ndim, shape),
                     shape[i] < 0 ? "a dimension is negative" : "too many elements");
    for (int i = 0; i < ndim; i++)
        n = shape[i] ? n : 0;
    return n;
}

int shape_dim(const call *c, int dim, int ndim)
{
    int d = dim < 0 ? dim + ndim : dim;
    if (d < 0 || d >= ndim)
        call_die(c, "expected a dimension from %d to %d, found %d", -ndim, ndim - 1, dim);
    return d;
}

/* ---- broadcasting ---- */

int shape_broadcast(const call *c, const tensor *a, const tensor *b, int64_t *shape)
{
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 1; i <= ndim; i++) { /* counted from the last dimension */
        int64_t m = i <= a->ndim ? a->shape[a->ndim - i] : 1;
        int64_t n = i <= b->ndim ? b->shape[b->ndim - i] : 1;
        if (m != n && m != 1 && n != 1)
            call_die(c, "shapes do not broadcast: %s and %s differ in dimension %d",
                     tensor_shape_text(a), tensor_shape_text(b), -i);
        shape[ndim - i] = m == 1 ? n : m;
    }
    return ndim;
}

tensor *tensor_broadcast(const call *c, tensor *t, int ndim, const int64_t *shape)
{
    int64_t stride[TORC_MAX_DIMS];
    bool same = ndim == t->ndim;
    for (int i = 0; i < ndim; i++) {
        int own = i - (ndim - t->ndim);
        bool repeats = own < 0 || t->shape[own] != shape[i];
        stride[i] = repeats ? 0 : t->stride[own];
        same = same && !repeats;
    }
    return same ? tensor_share(t) : tensor_view(c, t, ndim, shape, stride, t->offset, OWNER_HOUSE);
}
