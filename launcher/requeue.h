/*
 * requeue -- Slurm's job back into the queue: the rest of it is done in another piece of time.
 */
#ifndef LAUNCHER_REQUEUE_H
#define LAUNCHER_REQUEUE_H

#include "core/base.h"

/* Asks for the job that this process is part of; Slurm then ends it here soon. False with a
 * sentence in torc_last_error(). */
bool requeue(void);

#endif
