/* budget -- see budget.h. */
#include "launcher/budget.h"

#include <math.h>

static const double longest_wait = 60;

budget budget_new(int most, double delay)
{
    return (budget){.most = most, .delay = delay, .best = -1, .rank = -1, .step = -1};
}

static void count_same(budget *b, int rank, int64_t step)
{
    bool same = rank >= 0 && step >= 0 && rank == b->rank && step == b->step;
    b->same = same ? b->same + 1 : 1;
    b->rank = rank;
    b->step = step;
}

verdict budget_failure(budget *b, int rank, int64_t step, int64_t best)
{
    count_same(b, rank, step);
    if (best > b->best) {
        b->best = best;
        b->used = 0;
    }
    if (b->same >= BUDGET_LOOP)
        return VERDICT_LOOP;
    if (b->used >= b->most)
        return VERDICT_SPENT;
    b->used++;
    return VERDICT_RESTART;
}

double budget_wait(const budget *b)
{
    return fmin(longest_wait, ldexp(b->delay, (int)min_i64(b->used, 64) - 1));
}
