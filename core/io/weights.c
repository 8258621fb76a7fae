/* weights -- a module's parameters and buffers to and from safetensors. */
#include "core/io/weights.h"

#include "core/ops/ops.h"
#include "core/status.h"

#include <stdlib.h>
#include <string.h>

torc_shape weights_shape(const tensor *t)
{
    torc_shape shape = {.ndim = t->ndim};
    memcpy(shape.dim, t->shape, (size_t)t->ndim * sizeof *t->shape);
    return shape;
}

/* Only rank 0 writes: the replicas are equal. */
torc_status torc_try_save(torc_module *net, const char *path)
{
    if (base_world()->rank != 0)
        return TORC_OK;
    status_enter("saving");
    const call c = {{0}, "torc_save"};
    int64_t count;
    const module_item *items = module_items(net, &count);
    saved_tensor *out = base_alloc((size_t)count, sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        tensor *t = items[i].t;
        size_t bytes = (size_t)tensor_numel(t) * tensor_item_size(t);
        void *values = base_alloc(bytes, 1);
        tensor_read(&c, t, t->dtype, values);
        out[i] = (saved_tensor){(char *)items[i].name, t->dtype, weights_shape(t), values, bytes};
    }
    torc_status s = safetensors_write(path, out, count);
    for (int64_t i = 0; i < count; i++)
        free((void *)out[i].data);
    free(out);
    status_leave();
    return s;
}

torc_status weights_check(const saved_file *f, const char *path, torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++) {
        const tensor *t = items[i].t;
        const saved_tensor *saved = safetensors_find(f, items[i].name);
        if (!saved)
            return fail(TORC_ERR_MISMATCH, "%s: has no \"%s\", which the network needs", path,
                        items[i].name);
        torc_shape shape = weights_shape(t);
        if (saved->dtype != t->dtype || saved->shape.ndim != shape.ndim ||
            memcmp(saved->shape.dim, shape.dim, (size_t)shape.ndim * sizeof *shape.dim))
            return fail(TORC_ERR_MISMATCH, "%s: expected %s %s for \"%s\", found %s %s", path,
                        torc_dtype_name(t->dtype), tensor_shape_text(t), items[i].name,
                        torc_dtype_name(saved->dtype),
                        shape_text(saved->shape.ndim, saved->shape.dim));
    }
    for (int64_t k = 0; k < f->count && f->count != count; k++) {
        int64_t i = 0;
        while (i < count && strcmp(items[i].name, f->tensors[k].name))
            i++;
        if (i == count)
            return fail(TORC_ERR_MISMATCH, "%s: has \"%s\", which the network does not know", path,
                        f->tensors[k].name);
    }
    return TORC_OK;
}

void weights_take(const call *c, torc_module *net, const saved_file *f)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++)
        tensor_write(c, items[i].t, items[i].t->dtype, safetensors_find(f, items[i].name)->data);
}

torc_status torc_try_load(torc_module *net, const char *path)
{
    const call c = {{0}, "torc_load"};
    saved_file f;
    torc_status s = safetensors_open(path, &f);
    if (s != TORC_OK)
        return s;
    s = weights_check(&f, path, net);
    if (s == TORC_OK)
        weights_take(&c, net, &f);
    safetensors_close(&f);
    return s;
}

void torc_save(torc_site at, torc_module *net, const char *path)
{
    status_op(STATUS_IDLE, at, __func__);
    die_unless_ok(at, __func__, torc_try_save(net, path));
}

void torc_load(torc_site at, torc_module *net, const char *path)
{
    die_unless_ok(at, __func__, torc_try_load(net, path));
}
