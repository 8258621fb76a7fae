/*
 * budget -- how often a job is started again.
 *
 *     failure at step   57   57   58   58   58
 *     restart            1    2    1    2    -     rank 3 failed three times at step 58
 *
 * Words
 *   progress   some rank came beyond the best step of all failures before. It refills the budget: a
 *              job that gets on may fail as often as it likes.
 *   loop       the same rank failed three times in a row at the same step: it will do so again.
 *
 * A step is what the ranks tell of themselves (pulse.h); -1: they tell nothing, and then there is
 * neither progress nor a loop to be seen.
 */
#ifndef LAUNCHER_BUDGET_H
#define LAUNCHER_BUDGET_H

#include "core/base.h"

enum { BUDGET_LOOP = 3 };

typedef struct budget {
    int most;     /* restarts without progress */
    double delay; /* seconds before the first of them; doubled each time, up to a minute */
    int used;     /* since the last progress */
    int64_t best; /* step of all failures so far */
    int rank, same;
    int64_t step; /* `rank` has failed there, `same` times in a row */
} budget;

typedef enum verdict { VERDICT_RESTART, VERDICT_SPENT, VERDICT_LOOP } verdict;

budget budget_new(int most, double delay);
/* A rank has failed (-1: nobody knows which) at its step `step`, while the best rank was at `best`.
 * VERDICT_RESTART uses one restart up. */
verdict budget_failure(budget *b, int rank, int64_t step, int64_t best);
/* Seconds to wait before the restart that was just granted. */
double budget_wait(const budget *b);

#endif
