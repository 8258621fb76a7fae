/*
 * reducer_move -- a bucket's way through a backward (reducer.h).
 *
 *     full --> in the host's reach --> launched --> summed --> finished --> handed over
 *              fetched                              is_summed  the mean     to optimizers that wait
 *
 * Buckets go this way in their order, and each as far as it can whenever somebody calls
 * reducer_move(): the hook between two ops of backward, the courier's thread, or whoever waits at
 * the end.
 */
#include "allreduce/job.h"
#include "allreduce/leaf.h"
#include "allreduce/reducer.h"
#include "allreduce/staging.h"
#include "core/profile.h"

#include <math.h>
#include <stdlib.h>

static const char op_name[] = "torc_backward";

double *reducer_head(const reducer *r, int buffer)
{
    return (double *)team_buffer(r->plan.t, r->plan.t->local, buffer);
}

void reducer_settle(const reducer *r, const bucket *b)
{
    for (int place = b->first; place < b->end; place++)
        tensor_settle(r->plan.parameter[r->plan.order[place]]->grad);
}

bool reducer_wants_squares(const reducer *r)
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
                                     .keep_slices = reducer_shares_parameters(r),
                                     .squares = reducer_wants_squares(r),
                                     .compress = r->how.compress});
}

/* A bucket that is full comes to the host, if it is not there anyway, and then is launched. */
static void launch_full(reducer *r)
{
    while (!r->how.compressor && r->fetched < r->plan.buckets &&
           r->plan.bucket[r->fetched].awaited == 0) {
        reducer_settle(r, &r->plan.bucket[r->fetched]);
        job_check(r->at, op_name, staging_start(&r->plan, r->fetched++));
    }
    while (r->launched < r->fetched && r->launched - r->finished < TEAM_ACTIVE &&
           staging_is_here(&r->plan, r->launched))
        launch(r, r->launched);
}

bool reducer_poll(reducer *r, reduction *one)
{
    bool done;
    torc_status s = reduction_poll(one, &done);
    if (s != TORC_OK)
        job_check(r->at, op_name, s);
    return done;
}

static void take_weights(reducer *r)
{
    double total = reducer_head(r, 0)[0], calls = reducer_head(r, 0)[1];
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

void reducer_finish(reducer *r)
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

/* Between GPUs whatever is queued behind a sum waits for it, so that the rest of backward must not
 * be: a bucket is taken before the end only if its sum is over, and an optimizer wants it now. */
static bool may_join(const reducer *r, int i)
{
    const bucket *b = &r->plan.bucket[i];
    bool wanted = b->end > b->first && r->plan.parameter[r->plan.order[b->first]]->taker;
    return r->ending || (wanted && staging_is_summed(&r->plan, i));
}

/* Bucket i is a sum: of GPUs, once the hosts know what to multiply it with. */
static bool is_summed(reducer *r, int i)
{
    if (r->plan.way == BUCKET_ON_GPUS)
        return r->weights_done && may_join(r, i);
    return reducer_poll(r, &r->active[i % TEAM_ACTIVE]);
}

void reducer_move(reducer *r)
{
    if (!r->weights_done && reducer_poll(r, &r->weights))
        take_weights(r);
    for (bool progress = true; progress;) {
        launch_full(r);
        progress = false;
        for (int i = r->finished; i < r->launched; i++)
            if (is_summed(r, i) && i == r->finished) {
                reducer_finish(r);
                progress = true;
            }
    }
}

/* An optimizer has used it up, and those before it. */
static void vacate_up_to(reducer *r, const bucket *b)
{
    if (r->vacated != r->handed || !reducer_is_cleared(r, b))
        return;
    r->vacated++;
    if (!bucket_plan_vacate(&r->plan, r->vacated))
        return;
    r->hook.vacant += bucket_bytes(b);
    storage_make_room(-(int64_t)bucket_bytes(b));
}

void reducer_hand_over(reducer *r)
{
    for (; r->handed < r->finished; r->handed++) {
        const bucket *b = &r->plan.bucket[r->handed];
        for (int place = b->first; place < b->end; place++) {
            tensor *p = r->plan.parameter[r->plan.order[place]];
            if (p->taker)
                p->taker->take(p->taker, p, r->at);
        }
        if (tape_is_sparing())
            vacate_up_to(r, b);
    }
}
