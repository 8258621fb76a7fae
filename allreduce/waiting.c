/* waiting -- see waiting.h. */
#include "allreduce/waiting.h"

#include "allreduce/job.h"
#include "comm/watch.h"
#include "core/profile.h"

#include <stdio.h>

/* The reduction that everything waits for. The weights belong to the first bucket. */
static const reduction *oldest(const reducer *r)
{
    if (r->waits_for)
        return &r->single;
    if (!r->weights_done)
        return &r->weights;
    return r->finished < r->plan.buckets ? &r->active[r->finished % TEAM_ACTIVE] : &r->statistics;
}

static void describe_oldest(const void *of_reducer, char *text, size_t size)
{
    const reducer *r = of_reducer;
    if (r->waits_for)
        snprintf(text, size, "%s", r->waits_for);
    else if (r->finished < r->plan.buckets)
        snprintf(text, size, "%s", r->plan.bucket[r->finished].name);
    else
        snprintf(text, size, r->weights_done ? "running statistics" : "weights of the batch");
}

static void missing_in_oldest(const void *of_reducer, bool *missing)
{
    reduction_missing(oldest(of_reducer), missing);
}

void waiting_until(reducer *r, torc_site at, const char *op, bool (*over)(reducer *r))
{
    torc_status s = TORC_OK;
    comm_watch w = comm_watch_start(r->c);
    profile_enter(PROFILE_WAIT, at, op);
    r->waits_since = profile_clock();
    while (s == TORC_OK && !over(r)) {
        comm_awaited a = {COMM_IN_TRANSFER, oldest(r)->transfer, describe_oldest, missing_in_oldest,
                          r};
        s = comm_watch_turn(&w, &a);
    }
    comm_watch_end(&w);
    r->waits_since = 0;
    profile_leave();
    job_check(at, op, s);
}
