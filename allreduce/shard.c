/* shard -- see shard.h. */
#include "allreduce/shard.h"

#include "allreduce/job.h"

#include <math.h>
#include <string.h>

static reducer *of(tape_hook *h)
{
    return (reducer *)h;
}

static size_t offset_of(const reducer *r, const tensor *p)
{
    return r->plan.offset[p->hook_index];
}

/* A bucket's slice begins and ends anywhere: of a parameter it holds what lies inside. */
static void owned(tape_hook *h, const tensor *p, int64_t *first, int64_t *end)
{
    const reducer *r = of(h);
    const bucket *b = &r->plan.bucket[r->plan.bucket_of[p->hook_index]];
    int64_t start = (int64_t)((offset_of(r, p) - b->offset) / torc_dtype_size(b->dtype));
    size_t from, to;
    reduction_slice(r->plan.t, (size_t)b->count, b->dtype, &from, &to);
    *first = min_i64(max_i64((int64_t)from - start, 0), tensor_numel(p));
    *end = max_i64(min_i64((int64_t)to - start, tensor_numel(p)), *first);
}

static float *mean(tape_hook *h, const tensor *p, int64_t first, int64_t n, float *room)
{
    const reducer *r = of(h);
    size_t at = offset_of(r, p) + (size_t)first * sizeof *room;
    if (r->gathered)
        return (float *)(team_buffer(r->plan.t, r->plan.t->local, 0) + at);
    reduction_add(r->plan.t, at, n, TORC_F32, r->scale, room);
    return room;
}

/* ---- meeting the other ranks ---- */

/* Nothing travels but the message that this rank has come so far. */
static void meet(reducer *r, torc_site at, const char *name)
{
    reducer_reduce(r, at, (reduction_what){.dtype = TORC_F32, .name = name});
}

static void gather(tape_hook *h, torc_site at)
{
    reducer *r = of(h);
    double squares = 0;
    if (r->gathered)
        return;
    for (int i = 0; i < r->plan.buckets; i++) {
        const bucket *b = &r->plan.bucket[i];
        reducer_reduce(r, at,
                       (reduction_what){.offset = b->offset,
                                        .count = (size_t)b->count,
                                        .dtype = b->dtype,
                                        .name = "gathered gradients",
                                        .scale = &r->scale,
                                        .squares = true,
                                        .summed = true});
        squares += r->single.squares;
    }
    h->squares = r->plan.t->one_tree ? NAN : squares;
    r->gathered = true;
    h->apart = false;
}

/* Nobody reads a parameter, or overwrites a gradient, before all have updated theirs. */
static void updated(tape_hook *h, torc_site at)
{
    meet(of(h), at, "updated parameters");
    h->apart = false;
}

static const tape_sharding sharding = {owned, mean, gather, updated};

/* ---- shared parameters ---- */

static void let_go(storage *s)
{
    storage_release(s->owner);
}

void shard_attach(reducer *r, torc_site at)
{
    const team *t = r->plan.t;
    char *shared = team_buffer(t, 0, t->buffers);
    for (int i = 0; i < r->plan.parameters; i++) {
        const tensor *p = r->plan.parameter[i];
        if (t->local == 0)
            memcpy(shared + r->plan.offset[i], tensor_data(p),
                   (size_t)tensor_numel(p) * tensor_item_size(p));
    }
    job_check(at, "torc_ddp", comm_barrier(r->c, "shared parameters"));
    storage *s = storage_wrap(shared, t->bytes, let_go, storage_share(r->plan.memory));
    for (int i = 0; i < r->plan.parameters; i++) {
        tensor *p = r->plan.parameter[i];
        tensor_move(p, s, (int64_t)(r->plan.offset[i] / tensor_item_size(p)));
    }
    storage_release(s);
    r->hook.sharding = &sharding;
}
