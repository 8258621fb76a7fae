/* pace -- see pace.h. */
#include "launcher/pace.h"

#include <math.h>

static const double patience = 0.5; /* seconds: the clock of steps is a coarse one */

/* Counted from the last one back. */
static const struct pace_note *note(const pace *p, int64_t back)
{
    return &p->note[(p->notes - 1 - back) % PACE_NOTES];
}

static const struct pace_note *oldest(const pace *p)
{
    return note(p, min_i64(p->notes, PACE_NOTES) - 1);
}

/* A step that goes back is another program in the same place, or one that loaded a checkpoint. */
void pace_note(pace *p, int64_t step, double at, double waited)
{
    if (p->notes > 0 && (step < note(p, 0)->step || at < note(p, 0)->at))
        p->notes = 0;
    if (p->notes > 0 && step == note(p, 0)->step)
        return;
    p->note[p->notes++ % PACE_NOTES] = (struct pace_note){step, at, waited};
}

double pace_rate(const pace *p, double now)
{
    if (p->notes < 2)
        return NAN;
    const struct pace_note *first = oldest(p), *last = note(p, 0);
    double rate = (double)(last->step - first->step) / fmax(1e-3, last->at - first->at);
    double quiet = now - last->at - patience;
    return rate * quiet > 1 ? 1 / quiet : rate;
}

double pace_waiting(const pace *p)
{
    if (p->notes < 2)
        return NAN;
    const struct pace_note *first = oldest(p), *last = note(p, 0);
    double share = (last->waited - first->waited) / fmax(1e-3, last->at - first->at);
    return fmin(1, fmax(0, share));
}
