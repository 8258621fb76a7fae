/*
 * starter -- the process that starts the ranks, mpirun or srun: its own words and its end.
 *
 * Words
 *   noise   what it writes to stderr. It explains every abnormal end at length.
 *   held    noise waits a second: if by then a rank is known to have failed, that is the
 *           explanation, and the noise is dropped.
 */
#ifndef LAUNCHER_STARTER_H
#define LAUNCHER_STARTER_H

#include "launcher/backend.h"
#include "launcher/spawn.h"

typedef struct starter {
    const backend *backend;
    pid_t pid;
    int noise; /* descriptor; -1: closed */
    bool gone;
    ending end; /* once it is gone */
    text rest, held;
    double held_until; /* torc_seconds(); infinite: nothing is held */
} starter;

/* Starts the command with `input` as its stdin, which is closed here. Quits where it cannot. */
starter starter_start(const backend *b, const command *c, int input);
/* Takes what noise is there now. */
void starter_hear(starter *s);
/* Adds what is held to `out`, unless that is NULL; either way it is held no longer. */
void starter_release(starter *s, text *out);
/* True when it has just ended. */
bool starter_reap(starter *s);
void starter_free(starter *s);

#endif
