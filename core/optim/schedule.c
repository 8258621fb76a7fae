/* schedule -- learning rates as factors of the base rate, functions of the step alone. */
#include "core/base.h"

#include <math.h>

double torc_schedule_step(int64_t step, int64_t every, double gamma)
{
    return every > 0 ? pow(gamma, (double)(step / every)) : 1;
}

/* From 1 down to final_factor over half a cosine (Loshchilov & Hutter 2017). */
double torc_schedule_cosine(int64_t step, int64_t total, double final_factor)
{
    double done = total > 0 ? fmin(fmax((double)step / (double)total, 0), 1) : 1;
    return final_factor + (1 - final_factor) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

double torc_schedule_warmup_cosine(int64_t step, int64_t warmup, int64_t total, double final_factor)
{
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    return torc_schedule_cosine(step - warmup, total - warmup, final_factor);
}
