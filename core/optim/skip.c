/*
 * skip -- steps that a loss scale left out, and when the host gets to know of them.
 *
 *     host     step 4 | forward, backward 5 | step 5: was 4 one?  Adam's t: 4 again, or 5
 *     device          | ... [step 4]--copy--> told | ...          over long ago
 *
 * A skipped step leaves parameters and their state as they are, and is none in Adam's correction of
 * bias, nor SGD's first. Those corrections are powers, which the host works out in double; were the
 * device to do so, they would have other bits than without a loss scale, and differ from device to
 * device. So the host takes back its count, a step later: by then the GPU has done, or does, the
 * work of a whole backward behind that step, and who looks for the end of the step before does not
 * keep it waiting for work.
 */
#include "core/loss_scale.h"
#include "core/optim/optimizer.h"
#include "core/status.h"

#include <stdlib.h>

enum { PAGE = 4096 }; /* memory is pinned by pages */

static torc_optimizer *learners; /* whose last steps the host knows nothing of */

/* Memory of the host that the device copies to; on a CPU it is the device's own. */
static clipping *make_room(void)
{
    void *room = aligned_alloc(PAGE, PAGE);
    if (!room)
        die_at((torc_site){0}, "torc_step", "no memory for a page");
    device_current()->pin(room, PAGE);
    return room;
}

void optimizer_tell(torc_optimizer *o)
{
    o->learns = loss_scale_here() != NULL;
    loss_scale_stepped();
    if (!o->learns)
        return;
    o->learns_too = learners;
    learners = o;
    if (device_is_host())
        return;
    if (!o->told)
        o->told = make_room();
    device_current()->fetch(o->told, o->clip->data, sizeof *o->told, DEVICE_STEP);
}

static void wait_for_copies(void)
{
    double seconds = base_setting_number("TORC_LONG_TIMEOUT", 1800, 0.001, 1e9);
    for (wait w = wait_start(seconds); !device_current()->is_done(DEVICE_STEP);) {
        base_breathe();
        if (!wait_once(&w)) {
            const status *s = status_here();
            die_at((torc_site){s->file, s->line}, "torc_step",
                   "the GPU did not end the step before in %g s", seconds);
        }
    }
}

static void take_back(torc_optimizer *o)
{
    const clipping *c = device_is_host() ? o->clip->data : o->told;
    loss_scale_learn(c);
    for (int64_t i = 0; c->skip && i < o->count; i++)
        o->steps[i] -= o->took[i];
    o->learns = false;
}

/* All learn at once, since they have one ticket: of two optimizers that step one after the other
 * the second would else wait for the first one's step, which has only been asked for. */
void optimizer_learn(torc_optimizer *o)
{
    if (!o->learns)
        return;
    if (!device_is_host())
        wait_for_copies();
    for (; learners; learners = learners->learns_too)
        take_back(learners);
}

void optimizer_drop_clipping(torc_optimizer *o)
{
    optimizer_learn(o);
    if (o->told) {
        device_current()->unpin(o->told);
        free(o->told);
    }
    if (o->clip)
        storage_release(o->clip);
}
