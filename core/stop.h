/*
 * stop -- the wish that a run may end early, saved.
 *
 *     SIGUSR1 to rank 2 --> noted --> end of the step: sum over all ranks --> all leave
 *
 * A signal reaches each rank at another moment, and a rank that left alone would leave the others
 * waiting. So a wish is only noted, and the ranks agree on it where all are at the same point.
 */
#ifndef TORC_STOP_H
#define TORC_STOP_H

#include "core/base.h"

/* Notes the wish, as the signal does. Safe in a signal handler. */
void stop_wish(void);
/* Forgets it; torc_finalize() calls this. */
void stop_forget(void);

#endif
