/*
 * outcome -- what one attempt came to.
 */
#ifndef LAUNCHER_OUTCOME_H
#define LAUNCHER_OUTCOME_H

#include "launcher/plan.h"
#include "launcher/ranks.h"
#include "launcher/starter.h"

typedef struct outcome {
    int code;          /* torcrun's, where nothing comes after it */
    bool failed;       /* by itself: a failure that another attempt may be spared */
    int rank;          /* the first that failed; -1: nobody knows */
    int64_t step;      /* where that one was; -1: it did not say */
    int64_t best_step; /* of all ranks; the same */
    bool nobody_came;  /* not one rank was started */
    bool *silent;      /* [hosts of the plan] all ranks there were lost, or never came */
} outcome;

/* What came from outside. */
typedef struct outcome_wish {
    int signal; /* with which the user ended the job; 0 */
    bool late;  /* not all ranks had started in time */
} outcome_wish;

/* Adds to `story` what torcrun's user should know of a failure. */
outcome outcome_of(const plan *p, const ranks *all, const starter *s, outcome_wish wish,
                   text *story);
void outcome_free(outcome *o);

#endif
