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
#include "launcher/place.h"
#include "launcher/survey.h"

typedef struct plan {
    job job;
    const backend *backend;
    hosts known; /* all that the job may use, also those that got no rank */
    wish wish;
} plan;

/* The hosts that the options, Slurm or nobody names: this one then. Quits where a name is none. */
hosts plan_hosts(const options *o);
/* Quits with a sentence and an exit code (say.h) where the wishes cannot be met. */
plan plan_make(const options *o);
/* The same job without the hosts that are gone, gone[i] for known.of[i]. False with a sentence in
 * torc_last_error() where too few are left. */
bool plan_again(plan *p, const bool *gone);
void plan_free(plan *p);

/* Asks these hosts, started on as a job of these options would be. Quits where that cannot be. */
void plan_survey(const options *o, const hosts *all, bool streams, survey *s);

/* The host of a rank. */
const host *plan_host(const job *j, int rank);

#endif
