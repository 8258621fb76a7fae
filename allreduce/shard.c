/* shard -- see shard.h. */
#include "allreduce/shard.h"

#include "allreduce/job.h"
#include "allreduce/staging.h"
#include "core/kernels.h"

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

static const bucket *bucket_of(const reducer *r, const tensor *p)
{
    return &r->plan.bucket[r->plan.bucket_of[p->hook_index]];
}

/* Elements [from, to) of a bucket begin and end anywhere: of a parameter they hold what lies
 * inside. */
static void overlap(const reducer *r, const tensor *p, int64_t from, int64_t to, int64_t *first,
                    int64_t *end)
{
    const bucket *b = bucket_of(r, p);
    int64_t start = (int64_t)((offset_of(r, p) - b->offset) / torc_dtype_size(b->dtype));
    *first = min_i64(max_i64(from - start, 0), tensor_numel(p));
    *end = max_i64(min_i64(to - start, tensor_numel(p)), *first);
}

/* ---- on CPUs ---- */

static void owned(tape_hook *h, const tensor *p, int64_t *first, int64_t *end)
{
    const reducer *r = of(h);
    const bucket *b = bucket_of(r, p);
    size_t from, to;
    reduction_slice(r->plan.t, (size_t)b->count, b->dtype, &from, &to);
    overlap(r, p, (int64_t)from, (int64_t)to, first, end);
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

static const tape_sharding on_cpus = {
    .owned = owned, .mean = mean, .gather = gather, .updated = updated};

/* ---- on GPUs ---- */

static void owned_part(tape_hook *h, const tensor *p, int64_t *first, int64_t *end)
{
    const reducer *r = of(h);
    int64_t from, n;
    bucket_part(&r->plan, bucket_of(r, p), &from, &n);
    overlap(r, p, from, from + n, first, end);
}

static void gather_bucket(reducer *r, torc_site at, int i, storage *memory, const char *name)
{
    job_check(at, "torc_step", staging_gather(&r->plan, r->c, i, memory, name));
}

static void gather_gradients(tape_hook *h, torc_site at)
{
    reducer *r = of(h);
    if (!h->apart)
        return;
    for (int i = 0; i < r->plan.buckets; i++)
        gather_bucket(r, at, i, r->plan.memory, "gathered gradients");
    staging_rejoin(&r->plan, r->plan.buckets - 1);
    h->apart = false;
}

static void add_up(tape_hook *h, torc_site at, double *value)
{
    job_check(at, "torc_step", staging_add_up(&of(h)->plan, value));
}

/* They came one after the other, the last bucket first: with one are all that follow it. */
static void arrive(storage *s, size_t first)
{
    reducer *r = s->owner;
    const bucket *b = r->plan.bucket;
    int wanted = r->late;
    while (wanted > 0 && b[wanted - 1].offset + bucket_bytes(&b[wanted - 1]) > first)
        wanted--;
    if (wanted < r->late)
        staging_rejoin(&r->plan, wanted);
    r->late = wanted;
    if (wanted == 0)
        s->arrive = NULL;
}

static void gather_parameters(tape_hook *h, torc_site at)
{
    reducer *r = of(h);
    for (int i = r->plan.buckets - 1; i >= 0; i--)
        gather_bucket(r, at, i, r->parameters, "updated parameters");
    r->late = r->plan.buckets;
    r->parameters->arrive = arrive;
    h->apart = false;
}

static const tape_sharding on_gpus = {.owned = owned_part,
                                      .gather = gather_gradients,
                                      .add_up = add_up,
                                      .updated = gather_parameters};

/* ---- parameters where the buckets are ---- */

static void move_parameters(reducer *r, storage *s)
{
    for (int i = 0; i < r->plan.parameters; i++) {
        tensor *p = r->plan.parameter[i];
        tensor_move(p, s, (int64_t)(r->plan.offset[i] / tensor_item_size(p)));
    }
    storage_release(s);
}

static void lay_on_gpu(reducer *r)
{
    storage *s = staging_memory(r->plan.memory->bytes);
    for (int i = 0; i < r->plan.parameters; i++) {
        const tensor *p = r->plan.parameter[i];
        tensor there = *p;
        there.store = s;
        there.offset = (int64_t)(r->plan.offset[i] / tensor_item_size(p));
        kernels_here()->copy(&there, p);
    }
    s->owner = r;
    r->parameters = storage_share(s);
    move_parameters(r, s);
}

static void let_go(storage *s)
{
    storage_release(s->owner);
}

/* Shared by the ranks of the host. */
static void lay_in_team(reducer *r, torc_site at)
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
    move_parameters(r, storage_wrap(shared, t->bytes, let_go, storage_share(r->plan.memory)));
}

void shard_attach(reducer *r, torc_site at)
{
    if (reducer_shares_parameters(r))
        lay_in_team(r, at);
    else
        lay_on_gpu(r);
    r->hook.sharding = reducer_shares_parameters(r) ? &on_cpus : &on_gpus;
}

void shard_detach(reducer *r)
{
    if (!r->parameters)
        return;
    if (r->parameters->arrive)
        arrive(r->parameters, 0);
    storage_release(r->parameters);
}
