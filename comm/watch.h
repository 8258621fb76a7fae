/*
 * watch -- how this house waits: with one deadline, with patience for those who do something long,
 * and without any for ranks that wait for each other in different places.
 *
 *     rank 0   ... collective 6, then waits in collective 7 ("leave")  <-- needs rank 1 in it
 *     rank 1   ... collective 6, then waits for transfer 41            <-- needs rank 0 to start it
 *
 * All ranks do two kinds of things together, each counted by itself: collectives, and transfers
 * (the gradients of allreduce/, which may be under way while collectives happen).
 *
 * Words
 *   stream     collectives, or transfers
 *   position   what a rank waits for, and how far it has come in both streams
 *   look       one in 16 turns of a waiting loop: the clock is read
 *
 * A rank that has waited for a second sends its position to all others, once a wait, and from then
 * on looks at those that come. Two positions prove a mistake if
 *
 *     a waits in collective c and had not started transfer t     and
 *     b waits for transfer t  and had not entered collective c.
 *
 * They prove it however old they are. While a waits it starts no transfer, and while b waits it
 * enters no collective. So a's wait ends only after b has entered c, which is after b's wait has
 * ended, which is after a has started t, which is after a's wait has ended: neither ever ends.
 * Hence nothing that was sent need be taken back, and a rank that is merely slow raises no alarm.
 * Such a pair is in every circle of waiting ranks: it is the one in the lowest collective and the
 * one that waits for the lowest transfer.
 *
 * Positions within one stream prove nothing: who has the lower number is behind, that is all. If
 * two ranks mean different things by one number, fingerprints tell (comm_arrive(), and those of
 * allreduce/).
 *
 * While a rank is in a scope (core/status.h) those who wait for it count anew, up to
 * TORC_LONG_TIMEOUT seconds (1800) in all. On this host its status tells; others are sent a letter.
 */
#ifndef COMM_WATCH_H
#define COMM_WATCH_H

#include "comm/comm.h"
#include "core/status.h"

#define COMM_QUIET 1.0 /* seconds in which a wait is nobody's business */

typedef enum comm_stream { COMM_NOWHERE, COMM_IN_COLLECTIVE, COMM_IN_TRANSFER } comm_stream;

typedef struct comm_awaited {
    comm_stream stream;
    uint64_t number; /* in its stream */
    /* Writes what is waited for, in words that go on "rank 1 waits for ..." (transfers) or "rank 1
     * is in ..." (collectives). Called once a wait, after a second, and when it fails. */
    void (*describe)(const void *context, char *text, size_t size);
    /* Sets missing[rank] of those that it has not come from. */
    void (*missing)(const void *context, bool *missing);
    const void *context;
} comm_awaited;

/* A wait under way:
 *
 *     comm_watch w = comm_watch_start(c);
 *     while (status == TORC_OK && !arrived())
 *         status = comm_watch_turn(&w, &awaited);
 *     comm_watch_end(&w);                                                                      */
typedef struct comm_watch {
    comm *c;
    comm_stream stream; /* of what is waited for now; when it or the number changes, */
    uint64_t number;    /* the wait has moved, and begins again */
    wait wait;
    double began, next_check; /* seconds */
    bool announced, extended;
} comm_watch;

comm_watch comm_watch_start(comm *c);
/* One turn: lets others run. TORC_ERR_TIMEOUT: the deadline has passed; the sentence is "WHAT: rank
 * 0 (host, pid 7) waited 120 s for rank 2 (host, pid 9), last seen in ..." and names every missing
 * rank, or the first 8 and the number of the others. TORC_ERR_PEER: two ranks, this one or others,
 * can never meet; the sentence names both sides. */
torc_status comm_watch_turn(comm_watch *w, const comm_awaited *a);
/* The wait is over, one way or the other. */
void comm_watch_end(comm_watch *w);

/* A transfer starts; returns its number, which is the same on every rank. */
uint64_t comm_number_transfer(comm *c);

/* ---- for comm.c ---- */

typedef struct watches watches; /* what a communicator keeps of the positions of others */

void watches_open(comm *c);
/* Takes the letters that have come, so that they do not pile up in a rank that never waits. */
torc_status watches_look(comm *c);
/* All ranks are leaving: takes what is still under way. */
torc_status watches_leave(comm *c);
void watches_free(watches *w);
/* "rank 2 (host, pid 9)" */
typedef struct comm_words {
    char text[200];
} comm_words;
comm_words comm_rank_in_words(const comm *c, int rank);
/* ", at train.c:41": the call that a rank was last in, if that is known. */
comm_words comm_site_of(const comm *c, int rank);

#endif
