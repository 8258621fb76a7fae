/* compressor -- see compressor.h. */
#include "allreduce/compressor.h"

#include "allreduce/staging.h"
#include "core/kernels.h"
#include "core/nn/module.h"

#include <stdlib.h>
#include <string.h>

/* ---- what does not go together ---- */

static void refuse(torc_site at, bool also, const char *option)
{
    if (also)
        die_at(at, "torc_ddp", "expected .compressor or %s, found both", option);
}

void compressor_check(torc_site at, torc_module *net, torc_ddp_options o)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    if (!o.compressor)
        return;
    refuse(at, o.virtual_ranks, ".virtual_ranks");
    refuse(at, o.shard_optimizer, ".shard_optimizer");
    refuse(at, o.compress, ".compress");
    for (int64_t i = 0; i < count; i++)
        if (!items[i].buffer && items[i].t->requires_grad && items[i].t->dtype != TORC_F32)
            die_at(at, "torc_ddp",
                   "with .compressor expected float32 parameters, found %s, "
                   "which is %s",
                   items[i].name, torc_dtype_name(items[i].t->dtype));
}

/* ---- the call ---- */

/* Gradients of parameters that took no part are zeros that nobody has written yet. */
static void settle_and_scale(const reducer *r)
{
    int16_t step = 0;
    const fold_order only = {1, &step};
    double scale = r->scale * comm_size(r->c);
    for (int i = 0; i < r->plan.parameters; i++)
        tensor_settle(r->plan.parameter[i]->grad);
    for (int i = 0; i < r->plan.buckets; i++) {
        const bucket *b = &r->plan.bucket[i];
        void *data = bucket_data(&r->plan, b, 0);
        staging_read(&r->plan, i, data);
        kernels_of_host()->fold(&only, &data, &data, 1, b->count, b->dtype, scale, NULL);
    }
}

static torc_gradient gradient_of(const reducer *r, int i)
{
    const tensor *t = r->plan.parameter[i];
    char *values = team_buffer(r->plan.t, r->plan.t->local, 0) + r->plan.offset[i];
    torc_gradient g = {r->plan.name[i], {.ndim = t->ndim}, (float *)values};
    memcpy(g.shape.dim, t->shape, (size_t)t->ndim * sizeof *t->shape);
    return g;
}

void compressor_run(reducer *r)
{
    int n = r->plan.parameters;
    torc_gradient *gradients = base_alloc((size_t)n, sizeof *gradients);
    settle_and_scale(r);
    for (int i = 0; i < n; i++)
        gradients[i] = gradient_of(r, i);
    r->how.compressor(r->how.net, gradients, n, r->how.compressor_context);
    free(gradients);
}

/* ---- what it may ask for ---- */

static void check_mean(const reducer *r, torc_site at, const float *values, int64_t n)
{
    static const char op[] = "torc_ddp_mean";
    if (!r->how.compressor)
        die_at(at, op, "expected a module with a .compressor, found one without");
    if (n < 0 || (n && !values))
        die_at(at, op, "expected values and their number, found %s and %lld",
               values ? "values" : "NULL", (long long)n);
}

/* The spare buffer stands behind the ordinary ones, so it is one large offset from the first. What
 * a rank puts there next disturbs nobody: a reduction is over when all that read it have read. */
void compressor_mean(reducer *r, torc_site at, float *values, int64_t n)
{
    check_mean(r, at, values, n);
    const team *t = r->plan.t;
    const double share = 1.0 / comm_size(r->c);
    char *room = team_buffer(t, t->local, t->buffers);
    int64_t most = (int64_t)(t->bytes / sizeof *values);
    for (int64_t done = 0; done < n; done += most) {
        size_t count = (size_t)min_i64(n - done, most);
        memcpy(room, values + done, count * sizeof *values);
        reducer_reduce(r, at,
                       (reduction_what){.offset = (size_t)t->buffers * t->bytes,
                                        .count = count,
                                        .dtype = TORC_F32,
                                        .name = "mean in a compressor",
                                        .scale = &share});
        memcpy(values + done, room, count * sizeof *values);
    }
    r->stats.bytes += (double)n * sizeof *values;
}
