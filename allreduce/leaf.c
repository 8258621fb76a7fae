/* leaf -- see leaf.h. */
#include "allreduce/leaf.h"

#include "allreduce/staging.h"
#include "core/kernels.h"

#include <string.h>

static bool one_a_rank(const reducer *r)
{
    return r->how.leaves == 0;
}

/* ---- buffers: the running statistics, packed behind the buckets; and all of them, as they were
 * ----
 */

typedef enum which { STATISTICS, ALL } which; /* float32 ones; counters too */

static size_t bytes_of(const reducer *r, int i, which w)
{
    const tensor *t = r->how.buffer[i];
    bool taken = w == ALL || t->dtype == TORC_F32;
    return taken ? (size_t)tensor_numel(t) * tensor_item_size(t) : 0;
}

static size_t bytes_of_all(const reducer *r, which w)
{
    size_t bytes = 0;
    for (int i = 0; i < r->how.buffers; i++)
        bytes += bytes_of(r, i, w);
    return bytes;
}

size_t leaf_statistics_bytes(const reducer *r)
{
    return bytes_of_all(r, STATISTICS);
}

size_t leaf_buffer_bytes(const reducer *r)
{
    return bytes_of_all(r, ALL);
}

static void pack(const reducer *r, which w, char *to)
{
    for (int i = 0; i < r->how.buffers; to += bytes_of(r, i++, w))
        device_current()->to_host(to, tensor_data(r->how.buffer[i]), bytes_of(r, i, w));
}

static void unpack(const reducer *r, which w, const char *from)
{
    for (int i = 0; i < r->how.buffers; from += bytes_of(r, i++, w))
        if (bytes_of(r, i, w))
            tensor_put(r->how.buffer[i], from);
}

static char *packed(const reducer *r)
{
    return team_buffer(r->plan.t, r->plan.t->local, 0) + r->plan.tail_at;
}

static int64_t statistics_count(const reducer *r)
{
    return (int64_t)(r->plan.tail / sizeof(float));
}

void leaf_send_statistics(reducer *r)
{
    pack(r, STATISTICS, packed(r));
    leaf_merge(r, r->plan.tail_at, statistics_count(r), TORC_F32);
    reduction_start(&r->statistics, r->plan.t,
                    (reduction_what){.offset = r->plan.tail_at,
                                     .count = (size_t)statistics_count(r),
                                     .dtype = TORC_F32,
                                     .name = "running statistics",
                                     .scale = &r->statistics_scale});
}

void leaf_take_statistics(reducer *r)
{
    unpack(r, STATISTICS, packed(r));
}

/* ---- leaves ---- */

/* Every leaf moves the statistics from where they were before the first one: what it makes of them
 * must not depend on which rank saw the leaf before it. */
void leaf_forward(reducer *r)
{
    if (!r->collecting && !one_a_rank(r))
        pack(r, ALL, r->before);
    r->collecting = true;
}

/* The leaf that has to come after those that are kept. */
static int next_leaf(const reducer *r)
{
    const tree_stack *s = &r->stack;
    if (s->nodes == 0)
        return r->plan.t->mine.first;
    return s->node[s->nodes - 1].first + (1 << s->node[s->nodes - 1].level);
}

static void take_shard(reducer *r)
{
    int64_t handed_out;
    r->leaf = base_shard(&handed_out);
    bool fresh = handed_out > r->shards_taken;
    if (!fresh || (r->leaf != SHARD_EMPTY && r->leaf != next_leaf(r)))
        die_at(r->at, "torc_backward",
               "with .virtual_ranks there is one backward a batch of torc_loader_next(): expected "
               "micro-shard %d, found %s",
               next_leaf(r), fresh ? "another" : "none that is new");
    r->shards_taken = handed_out;
}

void leaf_begin(reducer *r)
{
    const team *t = r->plan.t;
    r->merges = 0;
    r->leaf = t->mine.first;
    r->sends = !r->no_sync;
    if (one_a_rank(r))
        return;
    if (r->no_sync)
        die_at(r->at, "TORC_NO_SYNC", "cannot be combined with .virtual_ranks, which accumulate");
    take_shard(r);
    if (r->leaf != SHARD_EMPTY)
        r->merges = tree_push(&r->stack, r->leaf, t->leaves);
    r->sends = r->leaf + 1 == t->mine.end;
    r->hook.partial = !r->sends;
}

/* Before leaf n joined, its siblings were the last nodes: the newest in the highest buffer. */
void leaf_merge(const reducer *r, size_t offset, int64_t count, torc_dtype dtype)
{
    const team *t = r->plan.t;
    int16_t steps[] = {0, 1, FOLD_ADD};
    const fold_order two = {3, steps};
    void *live = team_buffer(t, t->local, 0) + offset;
    for (int k = 0; k < r->merges; k++) {
        int newest = r->stack.nodes - 1 + r->merges - k;
        void *in[] = {live, team_buffer(t, t->local, newest) + offset};
        kernels_of_host()->fold(&two, in, &live, 1, count, dtype, 1, NULL);
    }
}

static void store(const reducer *r, size_t offset, size_t bytes)
{
    const team *t = r->plan.t;
    memcpy(team_buffer(t, t->local, r->stack.nodes) + offset, team_buffer(t, t->local, 0) + offset,
           bytes);
}

static void clear_gradients(const reducer *r)
{
    for (int i = 0; i < r->plan.parameters; i++)
        r->plan.parameter[i]->grad->zero_pending = true;
}

static void keep_gradients(const reducer *r)
{
    for (int i = 0; i < r->plan.parameters; i++)
        tensor_settle(r->plan.parameter[i]->grad);
    for (int i = 0; i < r->plan.buckets; i++) {
        const bucket *b = &r->plan.bucket[i];
        staging_read(&r->plan, i, bucket_data(&r->plan, b, 0));
        leaf_merge(r, b->offset, b->count, b->dtype);
        store(r, b->offset, bucket_bytes(b));
    }
    clear_gradients(r);
}

void leaf_keep(reducer *r)
{
    if (one_a_rank(r))
        return;                 /* TORC_NO_SYNC: they add up where they are */
    if (r->leaf == SHARD_EMPTY) /* a batch of nothing, so that all ranks make as many calls */
        clear_gradients(r);
    else {
        keep_gradients(r);
        pack(r, STATISTICS, packed(r));
        leaf_merge(r, r->plan.tail_at, statistics_count(r), TORC_F32);
        store(r, r->plan.tail_at, r->plan.tail);
    }
    unpack(r, ALL, r->before);
}
