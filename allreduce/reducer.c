/* reducer -- see reducer.h. */
#include "allreduce/reducer.h"

#include "allreduce/compressor.h"
#include "allreduce/job.h"
#include "allreduce/leaf.h"
#include "allreduce/staging.h"
#include "allreduce/waiting.h"
#include "core/kernels.h"
#include "core/status.h"
#include "core/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char op_name[] = "torc_backward";

static reducer *of(tape_hook *h)
{
    return (reducer *)h;
}

static tensor *gradient(const reducer *r, int place)
{
    return r->plan.parameter[r->plan.order[place]]->grad;
}

/* ---- a backward begins ---- */

static bool is_cleared(const reducer *r, const bucket *b)
{
    bool any = false;
    for (int place = b->first; place < b->end; place++)
        any = any || !gradient(r, place)->zero_pending;
    return !any;
}

static void die_if_not_cleared(const reducer *r)
{
    for (int i = 0; i < r->plan.buckets; i++)
        if (!is_cleared(r, &r->plan.bucket[i]))
            die_at(r->at, op_name,
                   "with .shard_optimizer a second backward needs torc_step() or torc_zero_grad() "
                   "before it; TORC_NO_SYNC accumulates");
}

/* Every gradient of the bucket holds its value before it leaves: those of parameters that took no
 * part, zeros. */
static void settle(const reducer *r, const bucket *b)
{
    for (int place = b->first; place < b->end; place++)
        tensor_settle(gradient(r, place));
}

/* A mean that is already in place must not be summed again: it steps aside, and is added when the
 * new sum has arrived. */
static void carry_means(reducer *r)
{
    for (int i = 0; i < r->plan.buckets; i++) {
        bucket *b = &r->plan.bucket[i];
        if (is_cleared(r, b))
            continue;
        settle(r, b);
        for (int place = b->first; place < b->end; place++)
            gradient(r, place)->zero_pending = true;
        b->carried = base_alloc(bucket_bytes(b), 1);
        staging_read(&r->plan, i, b->carried);
    }
}

/* Two numbers before the first bucket: this rank's weight and its backward calls. */
static double *head(const reducer *r, int buffer)
{
    return (double *)team_buffer(r->plan.t, r->plan.t->local, buffer);
}

/* They are those of all leaves of this rank; what the last sum left in its other buffers goes. */
static void send_weights(reducer *r)
{
    head(r, 0)[0] = r->weight;
    head(r, 0)[1] = r->calls;
    for (int i = 1; i < r->plan.t->buffers; i++)
        head(r, i)[0] = head(r, i)[1] = 0;
    reduction_start(&r->weights, r->plan.t,
                    (reduction_what){.count = 2, .dtype = TORC_F64, .name = "weights"});
    r->weights_done = false;
    r->scale = NAN;
}

static void clear_counts(reducer *r)
{
    r->fetched = r->launched = r->finished = r->handed = 0;
    r->squares = 0;
    r->hook.squares = NAN;
    memset(r->is_ready, 0, (size_t)r->plan.parameters * sizeof *r->is_ready);
    for (int i = 0; i < r->plan.buckets; i++)
        r->plan.bucket[i].awaited = r->plan.bucket[i].end - r->plan.bucket[i].first;
}

static void forward(tape_hook *h)
{
    leaf_forward(of(h));
}

static void begin(tape_hook *h, torc_site at, double weight)
{
    reducer *r = of(h);
    r->at = at;
    r->began = torc_seconds();
    if (r->synchronised && r->how.shard)
        die_if_not_cleared(r);
    else if (r->synchronised)
        carry_means(r);
    r->synchronised = r->gathered = false;
    leaf_begin(r);
    r->weight += weight;
    r->calls += r->leaf >= 0;
    clear_counts(r);
    r->plan.t->batches = (uint64_t)status_here()->batches;
    if (r->sends)
        send_weights(r);
    if (r->sends && r->courier)
        courier_go(r->courier);
}

/* ---- moving ---- */

/* Their sum is cut by ranks: with virtual ranks, whose numbers must not depend on them, it is made
 * of the whole gradients instead. */
static bool wants_squares(const reducer *r)
{
    return r->hook.wants_squares && !r->plan.t->one_tree && !r->how.compressor &&
           r->plan.way != BUCKET_ON_GPUS;
}

static void launch(reducer *r, int i)
{
    const bucket *b = &r->plan.bucket[i];
    r->stats.bytes += (double)bucket_bytes(b);
    r->launched++;
    r->posted[i % TEAM_ACTIVE] = profile_clock();
    if (r->plan.way == BUCKET_ON_GPUS)
        return;
    leaf_merge(r, b->offset, b->count, b->dtype);
    reduction_start(&r->active[i % TEAM_ACTIVE], r->plan.t,
                    (reduction_what){.offset = b->offset,
                                     .count = (size_t)b->count,
                                     .dtype = b->dtype,
                                     .name = b->name,
                                     .scale = &r->scale,
                                     .keep_slices = r->how.shard,
                                     .squares = wants_squares(r),
                                     .compress = r->how.compress});
}

/* A bucket that is full comes to the host, if it is not there anyway, and then is launched. */
static void launch_full(reducer *r)
{
    while (!r->how.compressor && r->fetched < r->plan.buckets &&
           r->plan.bucket[r->fetched].awaited == 0) {
        settle(r, &r->plan.bucket[r->fetched]);
        job_check(r->at, op_name, staging_start(&r->plan, r->fetched++));
    }
    while (r->launched < r->fetched && r->launched - r->finished < TEAM_ACTIVE &&
           staging_is_here(&r->plan, r->launched))
        launch(r, r->launched);
}

static bool poll_one(reducer *r, reduction *one)
{
    bool done;
    torc_status s = reduction_poll(one, &done);
    if (s != TORC_OK)
        job_check(r->at, op_name, s);
    return done;
}

static void take_weights(reducer *r)
{
    double total = head(r, 0)[0], calls = head(r, 0)[1];
    r->weights_done = true;
    r->scale = total > 0 ? calls / r->plan.t->leaves / total : 0;
}

/* The next bucket in order has arrived; a wait goes on with the one behind it. */
static void tell_profile(reducer *r)
{
    double now = profile_clock(), posted = r->posted[r->finished % TEAM_ACTIVE];
    torc_site which = profile_bucket(r->finished);
    profile_span(PROFILE_TRAVEL, which, "gradient bucket", posted, now);
    profile_span(PROFILE_WAIT, which, "gradient bucket", r->waits_since, now);
    r->waits_since = r->waits_since != 0 ? now : 0;
}

/* The next bucket in order holds its mean. */
static void finish(reducer *r)
{
    tell_profile(r);
    r->squares += r->active[r->finished % TEAM_ACTIVE].squares;
    bucket *b = &r->plan.bucket[r->finished];
    if (b->carried)
        r->squares = NAN;
    staging_end(&r->plan, r->finished++, r->scale, b->carried);
    free(b->carried);
    b->carried = NULL;
}

/* Bucket i is a sum: of GPUs, as soon as the hosts know what to multiply it with. */
static bool is_summed(reducer *r, int i)
{
    if (r->plan.way == BUCKET_ON_GPUS)
        return r->weights_done;
    return poll_one(r, &r->active[i % TEAM_ACTIVE]);
}

static void move(reducer *r)
{
    if (!r->weights_done && poll_one(r, &r->weights))
        take_weights(r);
    for (bool progress = true; progress;) {
        launch_full(r);
        progress = false;
        for (int i = r->finished; i < r->launched; i++)
            if (is_summed(r, i) && i == r->finished) {
                finish(r);
                progress = true;
            }
    }
}

/* Buckets that hold their mean are handed to optimizers that wait for it (tape.h: taker). */
static void hand_over(reducer *r)
{
    for (; r->handed < r->finished; r->handed++) {
        const bucket *b = &r->plan.bucket[r->handed];
        for (int place = b->first; place < b->end; place++) {
            tensor *p = r->plan.parameter[r->plan.order[place]];
            if (p->taker)
                p->taker->take(p->taker, p, r->at);
        }
    }
}

static void ready(tape_hook *h, tensor *parameter)
{
    reducer *r = of(h);
    int i = (int)parameter->hook_index;
    if (r->is_ready[i])
        bug("the gradient of %s became final twice", r->plan.name[i]);
    r->is_ready[i] = true;
    if (!r->rebuilt && r->sends)
        r->ready_order[r->ready_count++] = i;
    r->plan.bucket[r->plan.bucket_of[i]].awaited--;
}

static void poll(tape_hook *h)
{
    reducer *r = of(h);
    if (!r->sends || r->courier)
        return;
    double start = torc_seconds();
    profile_enter(PROFILE_MOVE, r->at, op_name);
    move(r);
    hand_over(r);
    profile_leave();
    r->stats.overlapped_seconds += torc_seconds() - start;
}

/* ---- backward is over ---- */

static void lay_again(reducer *r, torc_site at)
{
    job_check(at, op_name,
              bucket_plan_lay(&r->plan, r->c, r->how.leaves, r->ready_order, r->how.first_bytes,
                              r->how.bytes));
    r->rebuilt = true;
    r->stats.buckets = r->plan.buckets;
}

/* The buckets are laid again, once, in the order in which rank 0's gradients became final; those
 * that did not follow. */
static void rebuild(reducer *r, torc_site at)
{
    bucket_plan *p = &r->plan;
    bool *seen = base_alloc((size_t)p->parameters, sizeof *seen);
    for (int i = 0; i < r->ready_count; i++)
        seen[r->ready_order[i]] = true;
    for (int place = 0; place < p->parameters; place++)
        if (!seen[p->order[place]])
            r->ready_order[r->ready_count++] = p->order[place];
    free(seen);
    job_check(at, op_name,
              comm_broadcast(r->c, r->ready_order, (size_t)p->parameters * sizeof *r->ready_order,
                             0, "order of gradients"));
    lay_again(r, at);
}

static int order(tape_hook *h, int *order)
{
    const reducer *r = of(h);
    int n = r->rebuilt ? r->ready_count : 0;
    if (order)
        memcpy(order, r->ready_order, (size_t)n * sizeof *order);
    return n;
}

/* An order that is none of these parameters is of another network: its own will be found. */
static void arrange(tape_hook *h, torc_site at, const int *order, int count)
{
    reducer *r = of(h);
    bool *seen = base_alloc((size_t)r->plan.parameters, sizeof *seen);
    bool right = count == r->plan.parameters && !r->how.shard && !r->how.compressor;
    for (int i = 0; right && i < count; i++) {
        right = order[i] >= 0 && order[i] < count && !seen[order[i]];
        if (right)
            seen[order[i]] = true;
    }
    free(seen);
    if (!right)
        return;
    memcpy(r->ready_order, order, (size_t)count * sizeof *order);
    r->ready_count = count;
    lay_again(r, at);
}

/* The statistics follow the last bucket, where there are any and several leaves to average. */
static bool move_statistics(reducer *r)
{
    if (!r->statistics_sent && r->finished == r->plan.buckets) {
        leaf_send_statistics(r);
        r->statistics_sent = true;
    }
    return r->statistics_sent && poll_one(r, &r->statistics);
}

static bool all_is_over(reducer *r)
{
    move(r);
    bool gradients = r->finished == r->plan.buckets && r->weights_done;
    return gradients && (r->plan.tail == 0 || r->plan.t->leaves == 1 || move_statistics(r));
}

static bool single_is_over(reducer *r)
{
    return poll_one(r, &r->single);
}

void reducer_reduce(reducer *r, torc_site at, reduction_what what)
{
    r->at = at;
    r->waits_for = what.name;
    r->plan.t->batches = (uint64_t)status_here()->batches;
    reduction_start(&r->single, r->plan.t, what);
    waiting_until(r, at, op_name, single_is_over);
    r->waits_for = NULL;
}

static bool weights_are_there(reducer *r)
{
    move(r);
    return r->weights_done;
}

/* The user's function in place of the buckets' journey. */
static void call_compressor(reducer *r, torc_site at)
{
    waiting_until(r, at, op_name, weights_are_there);
    compressor_run(r);
    r->fetched = r->launched = r->plan.buckets;
    while (r->finished < r->plan.buckets)
        finish(r);
}

static void wait_for_all(reducer *r, torc_site at)
{
    r->statistics_sent = false;
    waiting_until(r, at, op_name, all_is_over);
    if (r->statistics_sent)
        leaf_take_statistics(r);
    if (r->how.shard) /* a rank may still read parameters that nobody's gradients wait for */
        reducer_reduce(r, at, (reduction_what){.dtype = TORC_F32, .name = "end of backward"});
}

static void end(tape_hook *h, torc_site at)
{
    reducer *r = of(h);
    double start = torc_seconds();
    r->stats.backward_seconds += start - r->began;
    if (!r->sends) {
        leaf_keep(r);
        return;
    }
    if (r->courier)
        courier_stop(r->courier);
    for (int i = 0; i < r->plan.buckets; i++)
        r->plan.bucket[i].awaited = 0; /* whoever took no part is final as well */
    if (r->how.compressor)
        call_compressor(r, at);
    wait_for_all(r, at);
    double waited = torc_seconds() - start;
    r->stats.wait_seconds += waited;
    status_waited(waited);
    hand_over(r);
    r->stats.steps++;
    r->weight = 0;
    r->calls = 0;
    r->stack.nodes = 0;
    r->collecting = false;
    r->synchronised = true;
    h->apart = r->how.shard;
    h->squares = wants_squares(r) && !r->how.shard ? r->squares : NAN;
    if (!r->rebuilt)
        rebuild(r, at);
    r->synchronised_step(r->context, at);
}

/* ---- attaching ---- */

static void move_for_courier(void *of_reducer)
{
    move(of_reducer);
}

/* A core that nobody computes with, and nothing to send over MPI (courier.h). */
static courier *courier_if_worth(reducer *r)
{
    bool spare = comm_cores(r->c) > torc_threads();
    bool here = r->plan.t->hosts == 1 && r->plan.t->locals > 1 && !r->how.compressor &&
                r->plan.way == BUCKET_IN_TEAM;
    bool wanted = base_setting_number("TORC_COURIER", spare, 0, 1) > 0;
    return here && wanted ? courier_new(move_for_courier, r) : NULL;
}

/* NCCL adds in an order of its own; a rank alone has nothing to add, and stays on its GPU. */
static bucket_way way_of(torc_site at, const reducer *r)
{
    if (device_is_host())
        return BUCKET_IN_TEAM;
    if (r->how.leaves || r->how.compressor)
        return BUCKET_STAGED;
    return comm_size(r->c) == 1 || job_gpus(at) ? BUCKET_ON_GPUS : BUCKET_STAGED;
}

reducer *reducer_new(torc_site at, comm *c, bucket_plan plan, reducer_options how)
{
    reducer *r = base_alloc(1, sizeof *r);
    *r = (reducer){.hook = {.forward = forward,
                            .begin = begin,
                            .ready = ready,
                            .poll = poll,
                            .end = end,
                            .order = order,
                            .arrange = arrange},
                   .c = c,
                   .plan = plan,
                   .how = how,
                   .at = at};
    size_t n = (size_t)plan.parameters;
    r->ready_order = base_alloc(n, sizeof *r->ready_order);
    r->is_ready = base_alloc(n, sizeof *r->is_ready);
    r->plan.tail = leaf_statistics_bytes(r);
    r->plan.spare = how.shard || how.compressor;
    r->plan.way = way_of(at, r);
    r->plan.gpus = r->plan.way == BUCKET_ON_GPUS ? job_gpus(at) : NULL;
    r->before = base_alloc(leaf_buffer_bytes(r), 1);
    int *reverse = base_alloc(n, sizeof *reverse);
    for (int i = 0; i < plan.parameters; i++) {
        reverse[i] = plan.parameters - 1 - i;
        plan.parameter[i]->hook = &r->hook;
        plan.parameter[i]->hook_index = i;
    }
    job_check(at, "torc_ddp",
              bucket_plan_lay(&r->plan, c, how.leaves, reverse, how.first_bytes, how.bytes));
    free(reverse);
    r->how.shard = how.shard && r->plan.t->shared && r->plan.way == BUCKET_IN_TEAM;
    if (how.shard && !r->how.shard)
        log_line(LOG_WARN, "the ranks of a host share no memory: the optimizer is not sharded");
    /* where there is no overlap its order does not matter */
    r->rebuilt = r->how.shard || r->how.compressor;
    r->statistics_scale = 1.0 / r->plan.t->leaves;
    r->courier = courier_if_worth(r);
    r->stats.buckets = r->plan.buckets;
    tape_attach(&r->hook);
    return r;
}

void reducer_free(reducer *r)
{
    courier_free(r->courier);
    tape_detach(&r->hook);
    for (int i = 0; i < r->plan.parameters; i++)
        r->plan.parameter[i]->hook = NULL;
    for (int i = 0; i < TEAM_ACTIVE; i++)
        reduction_free(&r->active[i]);
    reduction_free(&r->weights);
    reduction_free(&r->statistics);
    reduction_free(&r->single);
    bucket_plan_free(&r->plan);
    free(r->how.buffer);
    free(r->ready_order);
    free(r->is_ready);
    free(r->before);
    free(r);
}
