/*
 * schedule -- learning rates as factors of the base rate, functions of the step alone: a run that
 * is taken up again at step k goes on with the rate it would have had.
 *
 *     step           cosine             warmup_cosine
 *     ____           __                     .-._
 *         |____        `.                 .'    `.
 *              |___      `-.__          .'        `-.__
 */
#include "core/base.h"

#include <math.h>

/* times gamma after every `every` steps; 1 for ever where that is not above 0 */
double torc_schedule_step(int64_t step, int64_t every, double gamma)
{
    return every > 0 ? pow(gamma, (double)(step / every)) : 1;
}

/* From 1 down to final_factor over half a cosine (Loshchilov & Hutter 2017); there it stays. */
double torc_schedule_cosine(int64_t step, int64_t total, double final_factor)
{
    double done = total > 0 ? fmin(fmax((double)step / (double)total, 0), 1) : 1;
    return final_factor + (1 - final_factor) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

/* Up in even steps, the last of which is 1, then the cosine. Step 0 is a step already: its factor
 * is 1 / warmup, not 0, or its work would be for nothing. */
double torc_schedule_warmup_cosine(int64_t step, int64_t warmup, int64_t total, double final_factor)
{
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    return torc_schedule_cosine(step - warmup, total - warmup, final_factor);
}
