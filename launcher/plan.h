/*
 * plan -- from what the user asked for to a job: which hosts, how many ranks on each, started by
 * what, and where the shims find torcrun.
 *
 *     --hosts, --hostfile --.
 *     Slurm's job ----------+--> hosts --> place --> ranks on each --> backend, address
 *     this host ------------'
 */
#ifndef LAUNCHER_PLAN_H
#define LAUNCHER_PLAN_H

#include "launcher/backend.h"
#include "launcher/options.h"

typedef struct plan {
    job job;
    const backend *backend;
} plan;

/* Quits with a sentence and an exit code (say.h) where the wishes cannot be met. */
plan plan_make(const options *o);
void plan_free(plan *p);

/* The host of a rank. */
const host *plan_host(const job *j, int rank);

#endif
