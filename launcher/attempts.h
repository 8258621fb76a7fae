/*
 * attempts -- a job, started again where it failed.
 *
 *     attempt 0 -- rank 3 fails -- attempt 1 -- a host goes -- attempt 2 on the others -- 0
 *                                budget.h                    survive.h
 *
 * An attempt is a job of its own (supervisor.h): all its ranks, a new mpirun, a new token. What it
 * has in common with the one before is the command line and what the program finds again in its
 * checkpoint; TORC_ATTEMPT tells it which attempt it is, so that what is left of an earlier one
 * cannot write over the checkpoints of this one.
 */
#ifndef LAUNCHER_ATTEMPTS_H
#define LAUNCHER_ATTEMPTS_H

#include "launcher/plan.h"

/* Runs the job to its end, restarts included; the plan follows the hosts that are left. Returns
 * torcrun's exit code. */
int attempts_run(plan *p, const options *o);

#endif
