/*
 * waiting -- where a reducer waits for other ranks, and the words for it: which bucket, of which
 * parameters, and who has not done his part.
 */
#ifndef TORC_WAITING_H
#define TORC_WAITING_H

#include "allreduce/reducer.h"

/* Polls until it is over, within TORC_TIMEOUT, which is counted anew whenever the oldest reduction
 * under way has changed; else ends the job with a sentence (comm/watch.h). */
void waiting_until(reducer *r, torc_site at, const char *op, bool (*over)(reducer *r));

#endif
