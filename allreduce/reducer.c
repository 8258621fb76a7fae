/* reducer -- see reducer.h. */
#include "allreduce/reducer.h"

#include "allreduce/compressor.h"
#include "allreduce/job.h"
#include "allreduce/leaf.h"
#include "allreduce/shard.h"
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

bool reducer_is_cleared(const reducer *r, const bucket *b)
{
    bool any = false;
    for (int place = b->first; place < b->end; place++)
        any = any || !gradient(r, place)->zero_pending;
    return !any;
}

static void die_if_not_cleared(const reducer *r)
{
    for (int i = 0; i < r->plan.buckets; i++)
        if (!reducer_is_cleared(r, &r->plan.bucket[i]))
            die_at(r->at, op_name,
                   "with .shard_optimizer a second backward needs torc_step() or torc_zero_grad() "
                   "before it; TORC_NO_SYNC accumulates");
}

/* A mean that is already in place must not be summed again: it steps aside, and is added when the
 * new sum has arrived. */
static void carry_means(reducer *r)
{
    for (int i = 0; i < r->plan.buckets; i++) {
        bucket *b = &r->plan.bucket[i];
        if (reducer_is_cleared(r, b))
            continue;
        reducer_settle(r, b);
        for (int place = b->first; place < b->end; place++)
            gradient(r, place)->zero_pending = true;
        b->carried = base_alloc(bucket_bytes(b), 1);
        staging_read(&r->plan, i, b->carried);
    }
}

/* Two numbers before the first bucket: this rank's weight and its backward calls. */
/* They are those of all leaves of this rank; what the last sum left in its other buffers goes. */
static void send_weights(reducer *r)
{
    reducer_head(r, 0)[0] = r->weight;
    reducer_head(r, 0)[1] = r->calls;
    for (int i = 1; i < r->plan.t->buffers; i++)
        reducer_head(r, i)[0] = reducer_head(r, i)[1] = 0;
    reduction_start(&r->weights, r->plan.t,
                    (reduction_what){.count = 2, .dtype = TORC_F64, .name = "weights"});
    r->weights_done = false;
    r->scale = NAN;
}

static void clear_counts(reducer *r)
{
    r->fetched = r->launched = r->finished = r->handed = r->vacated = 0;
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

/* ---- while it runs ---- */

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
    reducer_move(r);
    reducer_hand_over(r);
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
    return r->statistics_sent && reducer_poll(r, &r->statistics);
}

static bool all_is_over(reducer *r)
{
    reducer_move(r);
    bool gradients = r->finished == r->plan.buckets && r->weights_done;
    return gradients && (r->plan.tail == 0 || r->plan.t->leaves == 1 || move_statistics(r));
}

static bool single_is_over(reducer *r)
{
    return reducer_poll(r, &r->single);
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
    reducer_move(r);
    return r->weights_done;
}

/* The user's function in place of the buckets' journey. */
static void call_compressor(reducer *r, torc_site at)
{
    waiting_until(r, at, op_name, weights_are_there);
    compressor_run(r);
    r->fetched = r->launched = r->plan.buckets;
    while (r->finished < r->plan.buckets)
        reducer_finish(r);
}

static void wait_for_all(reducer *r, torc_site at)
{
    r->statistics_sent = false;
    r->ending = true;
    waiting_until(r, at, op_name, all_is_over);
    r->ending = false;
    if (r->plan.gpus) /* a sum that never ends shall not be met by whoever waits for a number */
        job_check(at, op_name, comm_gpus_look(r->plan.gpus));
    if (r->statistics_sent)
        leaf_take_statistics(r);
    /* a rank may still read parameters that nobody's gradients wait for */
    if (reducer_shares_parameters(r))
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
    reducer_hand_over(r);
    r->stats.steps++;
    r->weight = 0;
    r->calls = 0;
    r->stack.nodes = 0;
    r->collecting = false;
    r->synchronised = true;
    h->apart = r->how.shard && r->plan.way != BUCKET_STAGED;
    h->squares = reducer_wants_squares(r) && !h->apart ? r->squares : NAN;
    if (!r->rebuilt)
        rebuild(r, at);
    r->synchronised_step(r->context, at);
}

/* Several optimizers may have steps of their own: the last one's clears the last gradient. */
static void vacate(tape_hook *h)
{
    reducer *r = of(h);
    for (int i = 0; i < r->plan.buckets; i++)
        if (!reducer_is_cleared(r, &r->plan.bucket[i]))
            return;
    h->vacant = bucket_plan_vacate(&r->plan, r->plan.buckets);
}

/* ---- attaching ---- */

static void move_for_courier(void *of_reducer)
{
    reducer_move(of_reducer);
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

/* What the way decides: who owns what of the optimizer's work, and how large buckets are. */
static void suit_the_way(torc_site at, reducer *r)
{
    bucket_plan *p = &r->plan;
    size_t first_bytes, bytes;
    p->way = way_of(at, r);
    p->gpus = p->way == BUCKET_ON_GPUS ? job_gpus(at) : NULL;
    if (p->way != BUCKET_IN_TEAM) /* alone there is nobody to divide it with */
        r->how.shard = r->how.shard && comm_size(r->c) > 1;
    if (p->way != BUCKET_IN_TEAM && r->how.shard) {
        p->parts = comm_size(r->c);
        p->part = comm_rank(r->c);
    }
    p->spare = reducer_shares_parameters(r) || r->how.compressor;
    bucket_usual_bytes(p->way, &first_bytes, &bytes);
    r->how.first_bytes = r->how.first_bytes ? r->how.first_bytes : first_bytes;
    r->how.bytes = r->how.bytes ? r->how.bytes : bytes;
}

reducer *reducer_new(torc_site at, comm *c, bucket_plan plan, reducer_options how)
{
    reducer *r = base_alloc(1, sizeof *r);
    *r = (reducer){.hook = {.forward = forward,
                            .begin = begin,
                            .ready = ready,
                            .poll = poll,
                            .end = end,
                            .vacate = vacate,
                            .order = order,
                            .arrange = arrange,
                            .parameters = plan.parameters},
                   .c = c,
                   .plan = plan,
                   .how = how,
                   .at = at};
    size_t n = (size_t)plan.parameters;
    r->ready_order = base_alloc(n, sizeof *r->ready_order);
    r->is_ready = base_alloc(n, sizeof *r->is_ready);
    r->plan.tail = leaf_statistics_bytes(r);
    suit_the_way(at, r);
    r->before = base_alloc(leaf_buffer_bytes(r), 1);
    int *reverse = base_alloc(n, sizeof *reverse);
    for (int i = 0; i < plan.parameters; i++) {
        reverse[i] = plan.parameters - 1 - i;
        plan.parameter[i]->hook = &r->hook;
        plan.parameter[i]->hook_index = i;
    }
    job_check(at, "torc_ddp",
              bucket_plan_lay(&r->plan, c, how.leaves, reverse, r->how.first_bytes, r->how.bytes));
    free(reverse);
    vacate(&r->hook);
    if (reducer_shares_parameters(r) && !r->plan.t->shared) {
        log_line(LOG_WARN, "the ranks of a host share no memory: the optimizer is not sharded");
        r->how.shard = false;
    }
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
    shard_detach(r);
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
