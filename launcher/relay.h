/*
 * relay -- torcrun's stdin, passed on to mpirun, which passes it on to rank 0.
 *
 * mpirun cannot have the descriptor itself: it runs in a session of its own, so that a Ctrl-C
 * reaches torcrun alone, and refuses to read from a terminal that is not its own.
 */
#ifndef LAUNCHER_RELAY_H
#define LAUNCHER_RELAY_H

#include "core/base.h"

#include <poll.h>

typedef struct relay {
    int to;      /* the writing end of mpirun's stdin; -1: closed */
    bool over;   /* there is no more to read */
    char *bytes; /* read and not yet written: from..used */
    size_t from, used;
} relay;

/* Starts as {.to = -1}. Can be opened again once it was closed: another mpirun gets what the one
 * before did not take.
 *
 * Returns the descriptor that is to become mpirun's stdin, the caller's to close; -1 with errno. */
int relay_open(relay *r);
void relay_watch(const relay *r, struct pollfd on[2]); /* what to wait for */
void relay_move(relay *r, const struct pollfd on[2]);  /* what poll() said of it */
void relay_close(relay *r);
void relay_free(relay *r);

#endif
