/* staging -- see staging.h. */
#include "allreduce/staging.h"

#include "core/kernels.h"
#include "core/profile.h"

#include <stdlib.h>

static char *here(const team *t)
{
    return team_buffer(t, t->local, 0);
}

static char *there(const bucket_plan *p, const bucket *b)
{
    return (char *)p->memory->data + b->offset;
}

storage *staging_open(bucket_plan *p, size_t bytes)
{
    if (p->way == BUCKET_STAGED)
        device_current()->pin(here(p->t), bytes);
    return staging_memory(bytes); /* what lies between gradients is summed with them */
}

storage *staging_memory(size_t bytes)
{
    storage *s = storage_new(bytes);
    tensor all = {
        .ndim = 1, .dtype = TORC_U8, .shape = {(int64_t)bytes}, .stride = {1}, .store = s};
    kernels_here()->fill(&all, 0);
    return s;
}

void staging_close(bucket_way way, team *t)
{
    if (way == BUCKET_STAGED)
        device_current()->unpin(here(t));
    team_close(t);
}

static torc_status sum_on_gpus(const bucket_plan *p, int i)
{
    const bucket *b = &p->bucket[i];
    int64_t first, n;
    bucket_part(p, b, &first, &n);
    torc_status s;
    void *stream = device_current()->branch(i);
    profile_beside_begins(profile_bucket(i), p->parts ? "reduce-scatter" : "all-reduce");
    if (p->parts)
        s = comm_gpus_reduce_scatter(p->gpus, there(p, b), (size_t)n, b->dtype, stream);
    else
        s = comm_gpus_sum(p->gpus, there(p, b), (size_t)n, b->dtype, stream);
    profile_beside_ends((int64_t)bucket_bytes(b));
    device_current()->branched(i);
    return s;
}

torc_status staging_start(const bucket_plan *p, int i)
{
    const bucket *b = &p->bucket[i];
    if (p->way == BUCKET_STAGED)
        device_current()->fetch(bucket_data(p, b, 0), there(p, b), bucket_bytes(b), i);
    return p->way == BUCKET_ON_GPUS && p->gpus ? sum_on_gpus(p, i) : TORC_OK;
}

bool staging_is_here(const bucket_plan *p, int i)
{
    return p->way != BUCKET_STAGED || device_current()->is_done(i);
}

bool staging_is_summed(const bucket_plan *p, int i)
{
    return !p->gpus || device_current()->is_done(i);
}

void staging_read(const bucket_plan *p, int i, void *to)
{
    const bucket *b = &p->bucket[i];
    char *from = there(p, b);
    if (to != from) /* on a CPU it may be asked to stay where it is */
        device_current()->to_host(to, from, bucket_bytes(b));
}

/* ---- the end ---- */

/* at = scale * at + carried, n elements where the kernels work. */
static void finish(const kernels *k, void *at, int64_t n, torc_dtype dtype, double scale,
                   void *carried)
{
    int16_t one[] = {0}, two[] = {0, 1, FOLD_ADD};
    const fold_order alone = {1, one}, sum = {3, two};
    void *in[] = {at, carried};
    if (scale != 1)
        k->fold(&alone, in, in, 1, n, dtype, scale, NULL);
    if (carried)
        k->fold(&sum, in, in, 1, n, dtype, 1, NULL);
}

/* Of a divided bucket nothing is carried (reducer.c: die_if_not_cleared()). */
static void finish_on_gpu(const bucket_plan *p, int i, double scale, void *carried)
{
    const bucket *b = &p->bucket[i];
    int64_t first, n;
    bucket_part(p, b, &first, &n);
    char *at = there(p, b) + (size_t)first * torc_dtype_size(b->dtype);
    storage *more = carried ? storage_new(bucket_bytes(b)) : NULL;
    if (more)
        device_current()->from_host(more->data, carried, bucket_bytes(b));
    if (p->gpus)
        device_current()->rejoin(i);
    finish(kernels_here(), at, n, b->dtype, scale, more ? more->data : NULL);
    if (more)
        storage_release(more);
}

void staging_end(const bucket_plan *p, int i, double scale, void *carried)
{
    const bucket *b = &p->bucket[i];
    if (p->way == BUCKET_ON_GPUS) {
        finish_on_gpu(p, i, scale, carried);
        return;
    }
    /* it was scaled as it came */
    finish(kernels_of_host(), bucket_data(p, b, 0), b->count, b->dtype, 1, carried);
    if (p->way == BUCKET_STAGED)
        device_current()->put(there(p, b), bucket_data(p, b, 0), bucket_bytes(b));
}

/* ---- parts ---- */

static torc_status gather_on_gpus(const bucket_plan *p, int i, storage *memory)
{
    const bucket *b = &p->bucket[i];
    int64_t first, n;
    bucket_part(p, b, &first, &n);
    void *stream = device_current()->branch(i);
    profile_beside_begins(profile_bucket(i), "all-gather");
    torc_status s =
        comm_gpus_allgather(p->gpus, (char *)memory->data + b->offset, (size_t)n, b->dtype, stream);
    profile_beside_ends((int64_t)bucket_bytes(b));
    device_current()->branched(i);
    return s;
}

static torc_status gather_staged(const bucket_plan *p, comm *c, int i, storage *memory,
                                 const char *name)
{
    const bucket *b = &p->bucket[i];
    int64_t first, n;
    bucket_part(p, b, &first, &n);
    size_t size = torc_dtype_size(b->dtype), bytes = (size_t)n * size;
    char *at = (char *)memory->data + b->offset;
    char *mine = base_alloc(bytes, 1), *all = base_alloc(bucket_bytes(b), 1);
    device_current()->to_host(mine, at + (size_t)first * size, bytes);
    torc_status s = comm_allgather(c, mine, all, bytes, name);
    if (s == TORC_OK)
        device_current()->from_host(at, all, bucket_bytes(b));
    free(mine);
    free(all);
    return s;
}

torc_status staging_gather(const bucket_plan *p, comm *c, int i, storage *memory, const char *name)
{
    return p->gpus ? gather_on_gpus(p, i, memory) : gather_staged(p, c, i, memory, name);
}

void staging_rejoin(const bucket_plan *p, int i)
{
    if (p->gpus)
        device_current()->rejoin(i);
}

torc_status staging_add_up(const bucket_plan *p, double *value)
{
    torc_status s = comm_gpus_sum(p->gpus, value, 1, TORC_F64, device_current()->branch(0));
    device_current()->branched(0);
    device_current()->rejoin(0);
    return s;
}

/* ---- whole tensors ---- */

static size_t bytes_of(const tensor *t)
{
    return (size_t)tensor_numel(t) * tensor_item_size(t);
}

void *staging_host(const tensor *t)
{
    if (device_is_host())
        return tensor_data(t);
    void *values = base_alloc(bytes_of(t), 1);
    device_current()->to_host(values, tensor_data(t), bytes_of(t));
    return values;
}

void staging_host_free(const tensor *t, void *values)
{
    if (values != tensor_data(t))
        free(values);
}

torc_status staging_broadcast(comm *c, tensor *t, const char *name)
{
    void *values = staging_host(t);
    torc_status s = comm_broadcast(c, values, bytes_of(t), 0, name);
    if (s == TORC_OK && values != tensor_data(t))
        tensor_put(t, values);
    staging_host_free(t, values);
    return s;
}
