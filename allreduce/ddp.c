/*
 * ddp -- torc_ddp(): makes a module one replica of many.
 *
 *     verify      every rank built the same network: names, shapes, dtypes
 *     broadcast   rank 0's parameters and buffers go to all
 *     attach      a reducer hooks itself to the parameters (reducer.h)
 */
#include "allreduce/compressor.h"
#include "allreduce/job.h"
#include "allreduce/plan.h"
#include "allreduce/reducer.h"
#include "allreduce/replicas.h"
#include "allreduce/shard.h"
#include "allreduce/staging.h"
#include "allreduce/tune.h"
#include "core/loss_scale.h"
#include "core/nn/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct attached { /* the modules that torc_ddp() was called on */
    torc_module *net;
    reducer *reducer;
    int verify_every;
    struct attached *next;
} attached;

static attached *all;

/* ---- verify ---- */

/* A line an item: "0.weight float32 [256, 784]"; the last one is the loss scale. */
static char *describe(torc_module *net, size_t *size)
{
    int64_t count;
    char scale[128];
    loss_scale_describe(scale, sizeof scale);
    const module_item *items = module_items(net, &count);
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    for (int64_t i = 0; f && i < count; i++)
        fprintf(f, "%s%s %s %s%s\n", items[i].buffer ? "buffer " : "", items[i].name,
                torc_dtype_name(items[i].t->dtype), tensor_shape_text(items[i].t),
                items[i].t->requires_grad || items[i].buffer ? "" : " frozen");
    if (f)
        fprintf(f, "%s\n", scale);
    if (!f || fclose(f) != 0)
        die_at((torc_site){0}, "torc_ddp", "no memory to describe the network");
    return text;
}

/* The number of the first line in which two texts differ, or -1; *a and *b are moved there. */
static int64_t first_difference(const char **a, const char **b)
{
    for (int64_t line = 0;; line++) {
        size_t m = strcspn(*a, "\n"), n = strcspn(*b, "\n");
        if (m != n || memcmp(*a, *b, n))
            return line;
        if (!(*a)[m])
            return -1;
        *a += m + 1;
        *b += n + 1;
    }
}

/* The lowest rank that differs from rank 0 tells it; the others wait to be ended. */
static void verify(torc_site at, comm *c, torc_module *net)
{
    size_t size = 0, size0;
    char *mine = describe(net, &size);
    size0 = size;
    job_check(at, "torc_ddp", comm_broadcast(c, &size0, sizeof size0, 0, "size of the network"));
    char *text0 = base_alloc(size0 + 1, 1);
    if (comm_rank(c) == 0)
        memcpy(text0, mine, size0);
    job_check(at, "torc_ddp", comm_broadcast(c, text0, size0, 0, "description of the network"));
    const char *here = mine, *there = text0;
    int64_t line = first_difference(&here, &there);
    int64_t *lines = base_alloc((size_t)comm_size(c), sizeof *lines);
    job_check(at, "torc_ddp", comm_allgather(c, &line, lines, sizeof line, "comparison"));
    int differs = 0;
    while (differs < comm_size(c) && lines[differs] < 0)
        differs++;
    if (differs == comm_rank(c))
        die_at(at, "torc_ddp",
               "ranks built different networks; the first difference is item %lld: rank 0 has "
               "\"%.*s\", rank %d has \"%.*s\"",
               (long long)line, (int)strcspn(there, "\n"), there, differs, (int)strcspn(here, "\n"),
               here);
    if (differs <
        comm_size(c)) { /* the rank that tells ends the job; should it be gone already, end too */
        comm_barrier(c, "end after a difference");
        base_exit(1);
    }
    free(lines);
    free(text0);
    free(mine);
}

/* ---- broadcast ---- */

static void broadcast(torc_site at, comm *c, torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++) {
        tensor *t = items[i].t;
        if (!tensor_is_dense(t))
            die_at(at, "torc_ddp", "%s has gaps between its elements", items[i].name);
        job_check(at, "torc_ddp", staging_broadcast(c, t, items[i].name));
    }
    tensor_changed();
}

/* ---- attach ---- */

static bucket_plan plan_of(torc_site at, torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    tensor **parameter = base_alloc((size_t)count, sizeof *parameter);
    const char **name = base_alloc((size_t)count, sizeof *name);
    int n = 0;
    for (int64_t i = 0; i < count; i++) {
        tensor *t = items[i].t;
        if (items[i].buffer || !t->requires_grad)
            continue;
        if (t->hook)
            die_at(at, "torc_ddp", "%s belongs to a module that torc_ddp() has already",
                   items[i].name);
        if (t->dtype != TORC_F32 && t->dtype != TORC_F64)
            die_at(at, "torc_ddp", "expected float32 parameters, found %s, which is %s",
                   items[i].name, torc_dtype_name(t->dtype));
        parameter[n] = t;
        name[n++] = items[i].name;
    }
    bucket_plan plan;
    bucket_plan_open(&plan, n, parameter, name);
    free(parameter);
    free(name);
    return plan;
}

static tensor **buffers_of(torc_module *net, int *n)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    tensor **buffer = base_alloc((size_t)count, sizeof *buffer);
    *n = 0;
    for (int64_t i = 0; i < count; i++)
        if (items[i].buffer)
            buffer[(*n)++] = items[i].t;
    return buffer;
}

static void detach(void *context)
{
    attached **at = &all;
    while (*at && *at != context)
        at = &(*at)->next;
    attached *a = *at;
    *at = a->next;
    reducer_free(a->reducer);
    free(a);
}

static void check_options(torc_site at, const comm *c, torc_ddp_options o)
{
    if (o.virtual_ranks < 0 || (o.virtual_ranks && o.virtual_ranks < comm_size(c)))
        die_at(at, "torc_ddp", "expected at least as many virtual ranks as ranks, %d, found %d",
               comm_size(c), o.virtual_ranks);
    if (o.virtual_ranks > 1 << TREE_LEVELS)
        die_at(at, "torc_ddp", "expected at most %d virtual ranks, found %d", 1 << TREE_LEVELS,
               o.virtual_ranks);
    if (o.compress != TORC_F32 && o.compress != TORC_BF16)
        die_at(at, "torc_ddp", "expected .compress = TORC_BF16, found %s",
               torc_dtype_name(o.compress));
    if (o.verify_every < 0)
        die_at(at, "torc_ddp", "expected .verify_every of 1 or more, found %d", o.verify_every);
}

/* From here on the loaders hand out micro-shards. */
static void tell_the_world(int virtual_ranks)
{
    world w = *base_world();
    w.virtual_ranks = virtual_ranks;
    base_set_world(w);
}

static reducer_options reducer_options_of(torc_module *net, torc_ddp_options o)
{
    reducer_options how = {.leaves = o.virtual_ranks,
                           .compress = o.compress == TORC_BF16,
                           .shard = o.shard_optimizer,
                           .net = net,
                           .compressor = o.compressor,
                           .compressor_context = o.compressor_context};
    how.bytes = o.bucket_bytes;
    how.first_bytes = o.first_bucket_bytes;
    how.buffer = buffers_of(net, &how.buffers);
    return how;
}

/* After a backward, before the step that changes them. */
static void verify_now_and_then(void *context, torc_site at)
{
    const attached *a = context;
    int64_t step = a->reducer->stats.steps;
    if (a->verify_every && step % a->verify_every == 0)
        replicas_verify(at, a->reducer->c, a->net, step);
}

torc_module *torc_ddp(torc_site at, torc_module *net, torc_ddp_options o)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    comm *c = job_comm(at, __func__);
    check_options(at, c, o);
    compressor_check(at, net, o);
    verify(at, c, net);
    broadcast(at, c, net);
    tell_the_world(o.virtual_ranks);
    if (base_setting_number("TORC_TUNE", 0, 0, 1) > 0)
        job_check(at, __func__, tune(c));
    attached *a = base_alloc(1, sizeof *a);
    *a = (attached){net, reducer_new(at, c, plan_of(at, net), reducer_options_of(net, o)),
                    o.verify_every, all};
    a->reducer->synchronised_step = verify_now_and_then;
    a->reducer->context = a;
    all = a;
    if (a->reducer->how.shard)
        shard_attach(a->reducer, at);
    if (o.graph && device_current()->graphs)
        device_current()->graphs();
    module_set_hook(net, &a->reducer->hook);
    module_on_free(net, detach, a);
    return net;
}

/* ---- what a user asks afterwards ---- */

static reducer *reducer_of(torc_site at, const char *op, torc_module *net)
{
    for (attached *a = all; a; a = a->next)
        if (a->net == net)
            return a->reducer;
    die_at(at, op, "expected a module that torc_ddp() returned");
}

void torc_ddp_mean(torc_site at, torc_module *net, float *values, int64_t n)
{
    compressor_mean(reducer_of(at, __func__, net), at, values, n);
}

static void leave_no_sync(void *what)
{
    ((reducer *)what)->no_sync = false;
}

torc_scope torc_no_sync_enter(torc_site at, torc_module *net)
{
    reducer *r = reducer_of(at, "TORC_NO_SYNC", net);
    r->no_sync = true;
    return (torc_scope){leave_no_sync, r, 1};
}

torc_ddp_stats torc_ddp_statistics(torc_site at, torc_module *net)
{
    return reducer_of(at, __func__, net)->stats;
}

void torc_ddp_plan(torc_site at, torc_module *net)
{
    const reducer *r = reducer_of(at, __func__, net);
    const team *t = r->plan.t;
    printf(
        "%d ranks on %d hosts, %s; a slice of 1/%d of each bucket a rank; %d buffers of %zu KiB\n",
        comm_size(t->c), comm_hosts(t->c), t->shared ? "memory shared" : "no shared memory",
        t->slices, t->buffers, t->bytes >> 10);
    if (t->hosts > 1)
        plan_print(t->hosts);
    bucket_plan_print(&r->plan);
}
