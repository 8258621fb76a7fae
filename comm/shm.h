/*
 * shm -- memory that the ranks of a host share: each brings a part, all of them see all parts.
 *
 *     rank 0 maps    [part 0, its own] [part 1] [part 2]
 *     rank 1 maps    [part 0] [part 1, its own] [part 2]       the same pages, other addresses
 *
 * Three ways are tried, in this order, and all ranks of the job take the same:
 *   memfd     anonymous memory; the others open /proc/PID/fd/N. No file system bounds it, and
 *             nothing is left behind by a rank that was killed.
 *   file      under /dev/shm, reserved in full before it is used, and unlinked once all have it
 *             open: for hosts that hide the ranks' /proc from one another.
 *   private   nothing is shared; whoever needs a sum sends messages.
 * TORC_SHM=memfd|file|private asks for one. MPI_Win_allocate_shared is not among them: it waits for
 * the other ranks inside MPI, without a deadline.
 */
#ifndef TORC_SHM_H
#define TORC_SHM_H

#include "comm/comm.h"

typedef struct comm_window {
    int ranks, me;   /* the ranks of this host in rank order, and this one among them */
    size_t bytes;    /* of a part */
    char **part;     /* part[i]: of the host's rank i; NULL where it is not shared */
    bool shared;     /* all ranks of every host see each other's parts */
    bool private;    /* mine is memory of this process alone */
    bool of_threads; /* the ranks are threads of one process: its addresses are everybody's */
    bool reserved;   /* its pages stay: the system might have no others later */
} comm_window;

/* Every rank calls it, with the same size. The memory is zero. A way that does not work is no
 * error, but a rank that does not come, or asks for another size, is. */
torc_status comm_window_open(comm *c, size_t bytes, const char *name, comm_window **out);
/* The whole pages of my part within [from, from + bytes) go back to the system: nobody, on any
 * rank, needs what was there. They read as zeros when they are used again. Where they are to be
 * used `again`, huge pages are not split for a part of one. Returns the bytes; 0 where pages are
 * reserved. */
size_t comm_window_discard(const comm_window *w, char *from, size_t bytes, bool again);
/* Unmaps; the others may go on using theirs. */
void comm_window_close(comm_window *w);

#endif
