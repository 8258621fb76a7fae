/*
 * tune -- see tune.h.
 *
 *     for every size                      4 KiB, 16 KiB, .. 4 MiB a slice
 *         for every algorithm             a warm-up, then ROUNDS sums one after the other
 *         all take that whose slowest rank was fastest
 */
#include "allreduce/tune.h"

#include "allreduce/plan.h"
#include "allreduce/reduction.h"

#define SMALLEST ((size_t)4 << 10)
#define LARGEST ((size_t)4 << 20)
#define SMALL_LARGEST ((size_t)16 << 10)
#define ROUNDS 5

static torc_status sum_once(team *t, reduction *r, size_t count, const wire_algorithm *by)
{
    bool done = false;
    torc_status s = TORC_OK;
    reduction_start(
        r, t,
        (reduction_what){.count = count, .dtype = TORC_F32, .name = "tuning", .algorithm = by});
    wait w = wait_start(base_setting_number("TORC_TIMEOUT", 120, 0.1, 1e6));
    while (s == TORC_OK && !done) {
        s = reduction_poll(r, &done);
        if (s == TORC_OK && !done && !wait_once(&w))
            s = fail(TORC_ERR_TIMEOUT, "tuning: a rank does not take part");
    }
    return s;
}

/* Seconds of a sum on the slowest rank. */
static torc_status time_of(team *t, reduction *r, size_t count, const wire_algorithm *by,
                           double *seconds)
{
    torc_status s = sum_once(t, r, count, by);
    double start = torc_seconds();
    for (int i = 0; i < ROUNDS && s == TORC_OK; i++)
        s = sum_once(t, r, count, by);
    *seconds = (torc_seconds() - start) / ROUNDS;
    return s == TORC_OK ? comm_allreduce(t->c, seconds, 1, TORC_F64, COMM_MAX, "tuning") : s;
}

static torc_status learn_size(team *t, reduction *r, size_t slice)
{
    const wire_algorithm *best = NULL;
    double least = 0, seconds;
    for (int i = 0; plan_algorithm(i); i++) {
        size_t count = slice / sizeof(float) * (size_t)t->slices;
        torc_status s = time_of(t, r, count, plan_algorithm(i), &seconds);
        if (s != TORC_OK)
            return s;
        if (!best || seconds < least) {
            best = plan_algorithm(i);
            least = seconds;
        }
    }
    log_line(LOG_INFO, "tuning: slices up to %zu KiB: %s, %.3f ms", slice >> 10, best->name,
             1e3 * least);
    plan_learn(slice, best);
    return TORC_OK;
}

torc_status tune(comm *c)
{
    static bool done;
    size_t largest = base_limit(LARGEST, SMALL_LARGEST);
    team *t;
    reduction r = {0};
    if (done)
        return TORC_OK;
    done = true;
    torc_status s = team_open(c, largest * (size_t)comm_size(c), 0, 0, &t);
    if (s != TORC_OK)
        return s;
    for (size_t slice = SMALLEST; s == TORC_OK && t->hosts > 1 && slice <= largest; slice *= 4)
        s = learn_size(t, &r, slice);
    reduction_free(&r);
    team_close(t);
    return s;
}
