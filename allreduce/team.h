/*
 * team -- the ranks as gradient synchronisation sees them: who shares memory, who owns which slice,
 * and the memory in which gradients are born.
 *
 * Words
 *   local    the number of a rank among those of its host
 *   slice    what one rank of a host reduces: 1/n of every buffer, n the ranks of the smallest host
 *   peers    the ranks with the same local number, one a host: they own the same slice
 *   buffer   room for all gradients of a rank. There is one; with more leaves than ranks (tree.h)
 *            there are some for sums that wait for their sibling.
 *   slot     what a rank tells the others of its host about one reduction: a cache line that only
 *            it writes, so that nobody needs a lock or a barrier
 *
 *     host 0   rank 0 [slots | buffer 0 | buffer 1 ..]      window, seen by ranks 0 and 1
 *              rank 1 [slots | buffer 0 | buffer 1 ..]
 *     host 1   rank 2 ...                                   peers: 0 and 2, 1 and 3
 *
 * Where memory cannot be shared every rank counts as a host of its own.
 */
#ifndef TORC_TEAM_H
#define TORC_TEAM_H

#include "allreduce/tree.h"
#include "comm/shm.h"

#include <stdatomic.h>

/* Reductions that a rank may have started and not finished. */
#define TEAM_ACTIVE 4
/* A slot is written again only when its reduction is over on all ranks of the host: one that is
 * TEAM_ACTIVE ahead has finished it, and saw then that all others had stored their slices. */
#define TEAM_SLOTS (4 * TEAM_ACTIVE)

/* Up to so many bytes a buffer is copied into the slot, and every rank adds all of them for itself:
 * nobody has to wait for another's storing. */
#define TEAM_FEW 256

/* What must be the same on every rank. Compared byte by byte: no padding. */
typedef struct team_terms {
    uint64_t number, count, offset, batches; /* batches: handed out by the loaders so far */
    int32_t dtype, unused;
    char name[72];
} team_terms;

typedef struct team_slot {
    _Alignas(64) _Atomic uint64_t posted; /* the number of a reduction: my buffer is final */
    _Atomic uint64_t stored;              /* the same: my slice is in the buffers of all */
    _Atomic uint64_t fingerprint;         /* of the terms */
    _Atomic double squares;               /* of my slice of the result, where it was asked for */
    team_terms terms;                     /* read only where fingerprints differ */
    _Alignas(64) char few[TEAM_FEW];      /* a buffer of few bytes, copied */
} team_slot;

typedef struct team_source { /* where a node is found on this host */
    int local, buffer;
} team_source;

typedef struct team {
    comm *c;
    comm_window *window;
    bool shared;
    int locals, local, hosts, host, slices;
    int *rank_of;    /* rank_of[local]: its number in the job */
    int *peer;       /* peer[host]: its number; NULL where this rank owns no slice */
    size_t bytes;    /* of a buffer */
    int buffers;     /* of each rank */
    int leaves;      /* of the tree */
    bool one_tree;   /* the sum follows it over all hosts; else within each of them */
    tree_range mine; /* this rank's leaves */
    int sources;     /* the nodes of all ranks of this host */
    team_source *source;
    int nodes;         /* that this host hands on; 1 where there is one host */
    fold_order *order; /* order[node]: from sources */
    int *nodes_of;     /* nodes_of[host] */
    fold_order top;    /* the whole, from the nodes of all hosts in their order */
    uint64_t number;   /* of the last reduction started */
    uint64_t batches;  /* for the terms; set by whoever starts reductions for batches */
} team;

/* Every rank calls it alike. leaves: 0 for one a rank, else at least one a rank, and sums that
 * follow one tree whatever ranks and hosts there are. spare: buffers after those, for the caller.
 */
torc_status team_open(comm *c, size_t bytes, int leaves, int spare, team **out);
void team_close(team *t);

char *team_buffer(const team *t, int local, int buffer);
team_slot *team_slot_of(const team *t, int local, uint64_t number);

#endif
