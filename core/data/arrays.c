/* arrays -- datasets over values in memory: arrays, and a stretch of another dataset. */
#include "core/data/dataset.h"
#include "core/ops/ops.h"

#include <stdlib.h>
#include <string.h>

size_t sample_bytes(const sample_part *p)
{
    size_t n = torc_dtype_size(p->dtype);
    for (int i = 0; i < p->shape.ndim; i++)
        n *= (size_t)p->shape.dim[i];
    return n;
}

static torc_dataset *all;

torc_dataset *dataset_new(const torc_dataset *fields)
{
    torc_dataset *d = base_alloc(1, sizeof *d);
    *d = *fields;
    d->prev = NULL;
    d->next = all;
    if (all)
        all->prev = d;
    all = d;
    return d;
}

int64_t torc_dataset_size(torc_dataset *d)
{
    return d->size;
}

void torc_dataset_free(torc_dataset *d)
{
    if (!d)
        return;
    if (d->prev)
        d->prev->next = d->next;
    else
        all = d->next;
    if (d->next)
        d->next->prev = d->prev;
    if (d->free)
        d->free(d);
    free(d);
}

/* Loaders first: their threads read the datasets. */
void data_free_all(void)
{
    loader_free_all();
    while (all)
        torc_dataset_free(all);
}

/* ---- arrays ---- */

typedef struct arrays {
    char *x, *y;
} arrays;

static void read_part(const char *from, size_t bytes, const int64_t *index, int64_t n, char *to)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * bytes, from + (size_t)index[i] * bytes, bytes);
}

static void arrays_read(const torc_dataset *d, const int64_t *index, int64_t n, void *x, void *y)
{
    const arrays *a = d->self;
    read_part(a->x, sample_bytes(&d->x), index, n, x);
    if (d->has_y)
        read_part(a->y, sample_bytes(&d->y), index, n, y);
}

static void arrays_free(torc_dataset *d)
{
    arrays *a = d->self;
    free(a->x);
    free(a->y);
    free(a);
}

static char *copy_part(const call *c, torc_tensor *handle, sample_part *part, int64_t *size)
{
    tensor *t = tensor_of(c, handle);
    if (t->ndim < 1)
        call_die(c, "expected [N, ...], found a scalar");
    *size = t->shape[0];
    part->dtype = t->dtype;
    part->shape.ndim = t->ndim - 1;
    memcpy(part->shape.dim, t->shape + 1, (size_t)(t->ndim - 1) * sizeof *t->shape);
    char *values = base_alloc((size_t)tensor_numel(t), tensor_item_size(t));
    tensor_read(c, t, t->dtype, values);
    return values;
}

torc_dataset *torc_arrays(torc_site at, torc_tensor *x, torc_tensor *y)
{
    const call c = {at, __func__};
    torc_dataset d = {.has_y = y, .read = arrays_read, .free = arrays_free};
    arrays *a = base_alloc(1, sizeof *a);
    int64_t size_y;
    a->x = copy_part(&c, x, &d.x, &d.size);
    if (y) {
        a->y = copy_part(&c, y, &d.y, &size_y);
        if (size_y != d.size)
            call_die(&c, "expected as many x as y, found %lld and %lld", (long long)d.size,
                     (long long)size_y);
    }
    d.self = a;
    return dataset_new(&d);
}

/* ---- subset ---- */

typedef struct subset {
    const torc_dataset *of;
    int64_t first;
} subset;

static void subset_read(const torc_dataset *d, const int64_t *index, int64_t n, void *x, void *y)
{
    const subset *s = d->self;
    size_t x_bytes = sample_bytes(&d->x), y_bytes = d->has_y ? sample_bytes(&d->y) : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = s->first + index[i];
        s->of->read(s->of, &at, 1, (char *)x + (size_t)i * x_bytes,
                    y ? (char *)y + (size_t)i * y_bytes : NULL);
    }
}

static void subset_free(torc_dataset *d)
{
    free(d->self);
}

torc_dataset *torc_subset(torc_site at, torc_dataset *of, int64_t first, int64_t count)
{
    if (!of)
        die_at(at, __func__, "expected a dataset, found NULL");
    if (first < 0 || count < 0 || first > of->size - count)
        die_at(at, __func__, "expected a stretch of %lld samples, found %lld from %lld",
               (long long)of->size, (long long)count, (long long)first);
    subset *s = base_alloc(1, sizeof *s);
    *s = (subset){of, first};
    torc_dataset d = *of;
    d.size = count;
    d.read = subset_read;
    d.free = subset_free;
    d.self = s;
    return dataset_new(&d);
}
