/* bucket -- see bucket.h. */
#include "allreduce/bucket.h"

#include "core/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* bytes: a gradient starts on a cache line */

void bucket_plan_open(bucket_plan *p, int parameters, tensor *const *parameter,
                      const char *const *name)
{
    size_t n = (size_t)parameters;
    *p = (bucket_plan){.parameters = parameters};
    p->parameter = base_alloc(n, sizeof *p->parameter);
    p->name = base_alloc(n, sizeof *p->name);
    p->order = base_alloc(n, sizeof *p->order);
    p->bucket_of = base_alloc(n, sizeof *p->bucket_of);
    p->offset = base_alloc(n, sizeof *p->offset);
    memcpy(p->parameter, parameter, n * sizeof *parameter);
    memcpy(p->name, name, n * sizeof *name);
}

/* Elements that a gradient takes, rounded up so that the next one is aligned. */
static int64_t room_of(const tensor *t)
{
    int64_t step = ALIGNMENT / (int64_t)torc_dtype_size(t->dtype);
    return (tensor_numel(t) + step - 1) / step * step;
}

static bucket *add_bucket(bucket_plan *p, torc_dtype dtype, int place)
{
    p->bucket = base_grow(p->bucket, (size_t)p->buckets + 1, sizeof *p->bucket);
    bucket *b = &p->bucket[p->buckets++];
    *b = (bucket){.dtype = dtype, .extras = -1, .first = place, .end = place};
    return b;
}

/* Decides who goes where; no memory moves yet. */
static void assign(bucket_plan *p, size_t first_bytes, size_t bytes)
{
    bucket *b = NULL;
    for (int place = 0; place < p->parameters; place++) {
        int i = p->order[place];
        const tensor *t = p->parameter[i];
        size_t limit = p->buckets <= 1 ? first_bytes : bytes, item = torc_dtype_size(t->dtype);
        bool full = b && (size_t)(b->count + room_of(t)) * item > limit;
        if (!b || full || b->dtype != t->dtype)
            b = add_bucket(p, t->dtype, place);
        p->bucket_of[i] = p->buckets - 1;
        p->offset[i] = b->count;
        b->count += room_of(t);
        b->end = place + 1;
    }
    if (!b)
        b = add_bucket(p, TORC_F32, 0); /* nothing to train, but the weights still travel */
    p->bucket[0].extras = p->bucket[0].count;
    p->bucket[0].count += BUCKET_EXTRAS;
}

static void release(bucket *buckets, int count)
{
    for (int i = 0; i < count; i++) {
        storage_release(buckets[i].memory);
        free(buckets[i].carried);
    }
    free(buckets);
}

void bucket_plan_lay(bucket_plan *p, const int *order, size_t first_bytes, size_t bytes)
{
    bucket *old = p->bucket;
    int old_count = p->buckets;
    memmove(p->order, order, (size_t)p->parameters * sizeof *order);
    p->bucket = NULL;
    p->buckets = 0;
    assign(p, first_bytes, bytes);
    for (int i = 0; i < p->buckets; i++) {
        bucket *b = &p->bucket[i];
        size_t size = (size_t)b->count * torc_dtype_size(b->dtype);
        b->memory = storage_new(size);
        memset(b->memory->data, 0, size); /* the gaps between gradients travel too */
        for (int place = b->first; place < b->end; place++)
            tape_place_gradient(p->parameter[p->order[place]], b->memory,
                                p->offset[p->order[place]]);
    }
    release(old, old_count);
}

void bucket_plan_free(bucket_plan *p)
{
    release(p->bucket, p->buckets);
    free(p->parameter);
    free(p->name);
    free(p->order);
    free(p->bucket_of);
    free(p->offset);
    *p = (bucket_plan){0};
}

void *bucket_data(const bucket *b)
{
    return b->memory->data;
}

void bucket_plan_print(const bucket_plan *p)
{
    printf("%6s %12s %10s  %s\n", "bucket", "bytes", "parameters", "first .. last");
    for (int i = 0; i < p->buckets; i++) {
        const bucket *b = &p->bucket[i];
        printf("%6d %12zu %10d  ", i, (size_t)b->count * torc_dtype_size(b->dtype),
               b->end - b->first);
        if (b->end > b->first)
            printf("%s .. %s", p->name[p->order[b->first]], p->name[p->order[b->end - 1]]);
        printf("\n");
    }
}
