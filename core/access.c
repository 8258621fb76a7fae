/*
 * access -- the public calls that make, ask, read and write tensors. (Shapes and lifetimes:
 * tensor.c; text: print.c.)
 */
#include "core/kernels.h"
#include "core/ops/ops.h"
#include "core/rng.h"
#include "core/status.h"

#include <stdlib.h>
#include <string.h>

/* ---- dtypes ---- */

static const struct {
    const char *name;
    size_t size;
} dtypes[TORC_DTYPES] = {
    [TORC_F32] = {"float32", 4}, [TORC_F64] = {"float64", 8}, [TORC_BF16] = {"bfloat16", 2},
    [TORC_I64] = {"int64", 8},   [TORC_I32] = {"int32", 4},   [TORC_U8] = {"uint8", 1},
    [TORC_BOOL] = {"bool", 1},   [TORC_F16] = {"float16", 2},
};

const char *torc_dtype_name(torc_dtype dtype)
{
    return (unsigned)dtype < TORC_DTYPES ? dtypes[dtype].name : "unknown";
}

size_t torc_dtype_size(torc_dtype dtype)
{
    return (unsigned)dtype < TORC_DTYPES ? dtypes[dtype].size : 0;
}

static void check_dtype(const call *c, torc_dtype dtype)
{
    if ((unsigned)dtype >= TORC_DTYPES)
        call_die(c, "expected a dtype, found the number %d", (int)dtype);
}

/* ---- making ---- */

torc_tensor *torc_tensor_new(torc_site at, torc_shape shape, torc_tensor_options o)
{
    const call c = {at, __func__};
    check_dtype(&c, o.dtype);
    tensor *t = tensor_create(&c, o.dtype, shape.ndim, shape.dim, OWNER_USER);
    if (o.data)
        tensor_put(t, o.data);
    else
        kernels_here()->fill(t, 0);
    if (o.requires_grad)
        torc_set_requires_grad(at, tensor_handle(t), true);
    return tensor_handle(t);
}

void torc_tensor_free(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    if (t->owner != OWNER_USER)
        call_die(&c, "this tensor is not yours to free: an op returned it, so the tape frees it");
    tensor_release(t, at);
}

torc_tensor *torc_keep(torc_site at, torc_tensor *handle)
{
    tensor *t = tensor_of(&(call){at, __func__}, handle);
    if (t->owner == OWNER_TAPE)
        tensor_set_owner(t, OWNER_USER);
    return handle;
}

static tensor *create(const call *c, torc_shape shape, torc_create_options o)
{
    check_dtype(c, o.dtype);
    return tensor_create(c, o.dtype, shape.ndim, shape.dim, OWNER_TAPE);
}

torc_tensor *torc_full(torc_site at, torc_shape shape, double value, torc_create_options o)
{
    const call c = {at, __func__};
    tensor *t = create(&c, shape, o);
    kernels_here()->fill(t, value);
    return tensor_handle(t);
}

torc_tensor *torc_zeros(torc_site at, torc_shape shape, torc_create_options o)
{
    return torc_full(at, shape, 0, o);
}

torc_tensor *torc_ones(torc_site at, torc_shape shape, torc_create_options o)
{
    return torc_full(at, shape, 1, o);
}

torc_tensor *torc_arange(torc_site at, int64_t n, torc_create_options o)
{
    const call c = {at, __func__};
    tensor *t = create(&c, (torc_shape){1, {n}}, o);
    int64_t *count = base_alloc((size_t)max_i64(n, 1), sizeof *count);
    for (int64_t i = 0; i < n; i++)
        count[i] = i;
    torc_write(at, tensor_handle(t), TORC_I64, count, n);
    free(count);
    return tensor_handle(t);
}

/* Random values are f32 or f64; other dtypes get the f32 values converted. */
static torc_tensor *random_values(const call *c, torc_shape shape, torc_create_options o,
                                  bool normal)
{
    tensor *t = create(c, shape, o);
    if (!tensor_is_float(t))
        call_die(c, "expected a float dtype, found %s", torc_dtype_name(o.dtype));
    torc_dtype drawn = o.dtype == TORC_F64 ? TORC_F64 : TORC_F32;
    tensor *values = o.dtype == drawn ? tensor_share(t)
                                      : tensor_create(c, drawn, shape.ndim, shape.dim, OWNER_HOUSE);
    uint64_t key, counter = rng_take(tensor_numel(t), &key);
    if (normal)
        kernels_here()->normal(values, key, counter, 0, 1);
    else
        kernels_here()->uniform(values, key, counter, 0, 1);
    if (values != t)
        kernels_here()->copy(t, values);
    tensor_drop(values);
    return tensor_handle(t);
}

torc_tensor *torc_rand(torc_site at, torc_shape shape, torc_create_options o)
{
    return random_values(&(call){at, __func__}, shape, o, false);
}

torc_tensor *torc_randn(torc_site at, torc_shape shape, torc_create_options o)
{
    return random_values(&(call){at, __func__}, shape, o, true);
}

/* ---- asking ---- */

int torc_ndim(torc_site at, torc_tensor *t)
{
    return tensor_of(&(call){at, __func__}, t)->ndim;
}

int64_t torc_size(torc_site at, torc_tensor *handle, int dim)
{
    const call c = {at, __func__};
    const tensor *t = tensor_of(&c, handle);
    return t->shape[shape_dim(&c, dim, t->ndim)];
}

int64_t torc_numel(torc_site at, torc_tensor *t)
{
    return tensor_numel(tensor_of(&(call){at, __func__}, t));
}

torc_shape torc_shape_of(torc_site at, torc_tensor *handle)
{
    const tensor *t = tensor_of(&(call){at, __func__}, handle);
    torc_shape shape = {.ndim = t->ndim};
    memcpy(shape.dim, t->shape, (size_t)t->ndim * sizeof *t->shape);
    return shape;
}

torc_dtype torc_dtype_of(torc_site at, torc_tensor *t)
{
    return tensor_of(&(call){at, __func__}, t)->dtype;
}

/* ---- reading and writing ---- */

void tensor_read(const call *c, tensor *t, torc_dtype dtype, void *buffer)
{
    tensor *as = tensor_cast(c, t, dtype), *row_major = tensor_contiguous(c, as);
    size_t bytes = (size_t)tensor_numel(t) * torc_dtype_size(dtype);
    if (bytes)
        device_current()->to_host(buffer, tensor_data(row_major), bytes);
    tensor_drop(row_major);
    tensor_drop(as);
}

void tensor_write(const call *c, tensor *t, torc_dtype dtype, const void *buffer)
{
    bool as_it_is = dtype == t->dtype && tensor_is_contiguous(t);
    tensor *given =
        as_it_is ? tensor_share(t) : tensor_create(c, dtype, t->ndim, t->shape, OWNER_HOUSE);
    tensor_put(given, buffer);
    if (!as_it_is)
        kernels_here()->copy(t, given);
    t->zero_pending = false;
    tensor_changed();
    tensor_drop(given);
}

static void check_count(const call *c, const tensor *t, int64_t count)
{
    if (count != tensor_numel(t))
        call_die(c, "expected a buffer of %lld elements for %s, found %lld",
                 (long long)tensor_numel(t), tensor_shape_text(t), (long long)count);
}

double torc_item(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    if (tensor_numel(t) != 1)
        call_die(&c, "expected one element, found %s", tensor_shape_text(t));
    double value;
    tensor_read(&c, t, TORC_F64, &value);
    if (t->requires_grad && t->maker) /* one number that gradients come from: a loss */
        status_loss(value);
    return value;
}

void torc_read(torc_site at, torc_tensor *handle, torc_dtype dtype, void *buffer, int64_t count)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    check_dtype(&c, dtype);
    check_count(&c, t, count);
    tensor_read(&c, t, dtype, buffer);
}

void torc_write(torc_site at, torc_tensor *handle, torc_dtype dtype, const void *buffer,
                int64_t count)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    check_dtype(&c, dtype);
    check_count(&c, t, count);
    tensor_write(&c, t, dtype, buffer);
}

void *torc_data(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    const tensor *t = tensor_of(&c, handle);
    if (!tensor_is_contiguous(t))
        call_die(&c,
                 "expected a contiguous tensor, found a view of %s with other strides; "
                 "torc_contiguous() copies it",
                 tensor_shape_text(t));
    tensor_changed(); /* it may be written to at once */
    tensor_forget_mirror(t);
    return tensor_data(t);
}
