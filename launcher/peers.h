/*
 * peers -- the connections of the supervisor: who is there, what they say, when they are gone.
 *
 * A peer is a stranger until its owner gives it a rank. Strangers are told nothing, and so few may
 * be here at a time that they cannot use up the descriptors.
 */
#ifndef LAUNCHER_PEERS_H
#define LAUNCHER_PEERS_H

#include "launcher/report.h"

#include <poll.h>

typedef struct peer {
    struct peers *home;
    int fd;   /* -1: gone, to be forgotten */
    int rank; /* -1: a stranger */
    text rest;
} peer;

typedef struct peers {
    int listener; /* -1: closed */
    peer *of;     /* [n] */
    int n, most;
    void *owner;
    /* False closes the connection: who does not speak our language is not one of us. */
    bool (*message)(void *owner, peer *p, const report *r);
    void (*gone)(void *owner, int rank); /* not called for strangers */
} peers;

int peers_poll_size(const peers *all);
void peers_watch(const peers *all, struct pollfd *on); /* [peers_poll_size()] */
/* Takes what poll() said of the descriptors that peers_watch() named; `watched` is their number. */
void peers_hear(peers *all, const struct pollfd *on, int watched);

void peers_tell(peer *p, const report *r);
void peers_tell_all(peers *all, const report *r);
bool peers_any(const peers *all); /* but strangers */
void peers_stop_listening(peers *all);
void peers_drop_rank(peers *all, int rank);
void peers_drop_all(peers *all); /* the owner hears of each as of any other that is gone */
void peers_free(peers *all);

#endif
