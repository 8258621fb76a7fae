/*
 * supervisor -- torcrun on the side of the user: one for all ranks.
 */
#ifndef LAUNCHER_SUPERVISOR_H
#define LAUNCHER_SUPERVISOR_H

#include "launcher/plan.h"

/* Runs the command, which starts one shim per rank, until every rank is over, and tells on stderr
 * what went wrong. Returns torcrun's exit code. */
int supervise(const plan *p, const command *c, const options *o);

#endif
