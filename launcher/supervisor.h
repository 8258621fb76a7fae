/*
 * supervisor -- torcrun on the side of the user: one for all ranks.
 */
#ifndef LAUNCHER_SUPERVISOR_H
#define LAUNCHER_SUPERVISOR_H

#include "launcher/backend.h"

/* Runs the command, which starts one shim per rank, until every rank is over, and tells on stderr
 * what went wrong. Returns torcrun's exit code. `start_timeout` in seconds. */
int supervise(const backend *b, const command *c, int ranks, int start_timeout);

#endif
