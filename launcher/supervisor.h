/*
 * supervisor -- torcrun on the side of the user: one for all ranks.
 */
#ifndef LAUNCHER_SUPERVISOR_H
#define LAUNCHER_SUPERVISOR_H

#include "launcher/board.h"
#include "launcher/events.h"
#include "launcher/outcome.h"
#include "launcher/relay.h"

/* What all attempts of a job have in common. */
typedef struct session {
    const options *options;
    int signals; /* descriptor (spawn_signal_fd) */
    relay input;
    events events;
    board board; /* for those who look on */
    bool wished; /* SIGUSR1 came: the ranks are to save and leave */
} session;

/* One attempt: runs the command, which starts one shim per rank, until every rank is over, and
 * tells on stderr what went wrong. The outcome is the caller's to outcome_free(). */
outcome supervise(const plan *p, const command *c, int attempt, session *job);

#endif
