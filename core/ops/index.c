/*
 * index -- ops that look rows or elements up by number: embedding and gather.
 *
 *     embedding  y[i] = table[index[i]]          d table[v] = sum of g[i] where index[i] = v
 *     gather     y[i][j] = x[index[i][j]][j]     dx[k][j] = sum of g[i][j] where index[i][j] = k
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

/* A contiguous copy, or the tensor itself, that the tape will hold for backward. */
static tensor *checked_index(const call *c, torc_tensor *handle, int64_t limit)
{
    tensor *index = tensor_of(c, handle);
    if (index->dtype != TORC_I64)
        call_die(c, "expected an int64 index, found %s", torc_dtype_name(index->dtype));
    index = tensor_of(c, torc_contiguous(c->at, handle));
    int64_t bad = kernels_here()->check_index(index, limit, INT64_MIN);
    if (bad >= 0) {
        int64_t value;
        device_current()->to_host(&value, (int64_t *)tensor_data(index) + bad, sizeof value);
        call_die(c, "index %lld at position %lld is outside 0 .. %lld", (long long)value,
                 (long long)bad, (long long)limit - 1);
    }
    return index;
}

/* The table is f32 or f64, and its gradient added up in that, also where the rows are bf16. */
static void embedding_backward(node *n, tensor *grad)
{
    sink table = tape_sink(n, 0);
    if (table.t)
        kernels_here()->embedding_grad(table, grad, n->in[1]);
}

torc_tensor *torc_embedding_op(torc_site at, torc_tensor *htable, torc_tensor *hindex)
{
    const call c = {at, __func__};
    torc_dtype dtype = op_float(&c, htable)->dtype, result = autocast_product(dtype).result;
    tensor *table = tensor_of(&c, torc_to(at, htable, op_compute_dtype(dtype)));
    if (table->ndim != 2 || !tensor_is_contiguous(table))
        call_die(&c, "expected a contiguous table [V, D], found %s", tensor_shape_text(table));
    tensor *index = checked_index(&c, hindex, table->shape[0]);
    if (index->ndim == TORC_MAX_DIMS)
        call_die(&c, "the index %s has no room for one dimension more", tensor_shape_text(index));
    int64_t shape[TORC_MAX_DIMS];
    for (int i = 0; i < index->ndim; i++)
        shape[i] = index->shape[i];
    shape[index->ndim] = table->shape[1];
    tensor *y = tensor_create(&c, result, index->ndim + 1, shape, OWNER_TAPE);
    kernels_here()->embedding(y, table, index);
    tape_record(&c, embedding_backward, y, 2, (tensor *[]){table, index}, 0);
    return tensor_handle(y);
}

static void gather_backward(node *n, tensor *grad)
{
    sink dx = tape_sink(n, 0);
    if (dx.t)
        kernels_here()->gather_grad(dx, grad, *(const int *)n->saved, n->in[1]);
}

torc_tensor *torc_gather(torc_site at, torc_tensor *hx, int dim, torc_tensor *hindex)
{
    const call c = {at, __func__};
    torc_dtype dtype = op_float(&c, hx)->dtype;
    tensor *x = tensor_of(&c, torc_contiguous(at, torc_to(at, hx, op_compute_dtype(dtype))));
    const tensor *shape = tensor_of(&c, hindex);
    int d = shape_dim(&c, dim, x->ndim);
    bool fits = shape->ndim == x->ndim;
    for (int i = 0; fits && i < x->ndim; i++)
        fits = i == d || shape->shape[i] <= x->shape[i];
    if (!fits)
        call_die(&c, "expected an index no larger than %s but in dimension %d, found %s",
                 tensor_shape_text(x), d, tensor_shape_text(shape));
    tensor *index = checked_index(&c, hindex, x->shape[d]);
    tensor *y = tensor_create(&c, x->dtype, index->ndim, index->shape, OWNER_TAPE);
    kernels_here()->gather(y, x, d, index);
    int *saved = tape_record(&c, gather_backward, y, 2, (tensor *[]){x, index}, sizeof d);
    if (saved)
        *saved = d;
    return torc_to(at, tensor_handle(y), dtype);
}
