/*
 * reduction -- one buffer of every rank on its way to the sum of them all.
 *
 *     one host       post  ->  add slice: read from all, store into all  ->  all have stored
 *     several        post  ->  add slice  ->  wire: sum over the hosts  ->  store into all  ->  ..
 *
 * "Post" says that my buffer is final; nobody waits there. Who owns a slice adds it when all ranks
 * of the host have posted; the reduction is over when all owners have stored. A rank that is late
 * delays the others' sums and nothing else: they compute on and look again at the next poll.
 *
 *     rank 0   [slice 0 | slice 1]  <--.  adds slice 0 of both, stores it into both
 *     rank 1   [slice 0 | slice 1]  <--'  adds slice 1 of both, stores it into both
 */
#ifndef TORC_REDUCTION_H
#define TORC_REDUCTION_H

#include "allreduce/team.h"
#include "allreduce/wire.h"

typedef enum reduction_phase {
    REDUCTION_POSTED,  /* waits for the other ranks of the host */
    REDUCTION_ON_WIRE, /* the slice is being summed over the hosts */
    REDUCTION_SUMMED,  /* the slice is the sum; to be stored into all */
    REDUCTION_STORED,  /* waits for the other owners */
    REDUCTION_OVER
} reduction_phase;

typedef struct reduction_what {
    size_t offset, count; /* bytes from the start of a buffer; elements */
    torc_dtype dtype;     /* f32 or f64 */
    const char *name;     /* up to 71 bytes, for messages; copied */
    const double *scale;  /* of the sum; NaN: not known yet. NULL: 1 */
    bool keep_slices;     /* the sum over hosts stays where it is; on one host nothing is added */
    bool squares;         /* wanted: they come as reduction.squares */
    bool summed;          /* it was kept so before: now it is stored into all */
    const wire_algorithm *algorithm; /* NULL: plan.c chooses */
    bool compress;                   /* bfloat16 between hosts */
} reduction_what;

typedef struct reduction {
    team *t;
    reduction_what what;
    reduction_phase phase;
    uint64_t number;   /* in its team */
    uint64_t transfer; /* in the job (comm/watch.h) */
    wire w;
    char *node[TREE_NODES]; /* of my slice: where this host's nodes start */
    torc_status status;     /* of what went wrong in reduction_start() */
    double squares;         /* when it is over: the sum of squares of the result */
    team_terms heard;       /* from the left neighbour among the peers */
    comm_request telling, hearing;
} reduction;

/* Posts. `r` may be used again when it is over; a zeroed one is new. At most TEAM_ACTIVE may be
 * under way in a team. */
void reduction_start(reduction *r, team *t, reduction_what what);
/* Moves what can be moved without waiting. TORC_ERR_PEER: the ranks' terms differ. */
torc_status reduction_poll(reduction *r, bool *done);
void reduction_free(reduction *r);

/* out = scale * the sum of n elements at `offset` bytes, which lie within this rank's slice of a
 * buffer whose reduction kept its slices and is over. */
void reduction_add(const team *t, size_t offset, int64_t n, torc_dtype dtype, double scale,
                   void *out);

/* Ranks that have not done their part, for the sentence of a deadline: missing[rank]. */
void reduction_missing(const reduction *r, bool *missing);
/* Elements [first, end) of `count` that this rank's slice has; none for a rank without one. */
void reduction_slice(const team *t, size_t count, torc_dtype dtype, size_t *first, size_t *end);

#endif
