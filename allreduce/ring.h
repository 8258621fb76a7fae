/*
 * ring -- allreduce as a ring reduce-scatter and a ring allgather, one after the other, moved by
 * polling (Patarasuk & Yuan 2009; each rank sends 2 (n - 1) / n of the bytes, the least possible).
 *
 * Words
 *   chunk    one of n equal parts of the buffer (sizes differ by one element at most); rank r ends
 * up owning the sum of chunk r + 1 segment  a chunk is cut into segments, so that one is added
 * while the next is on the wire step     every rank sends a chunk to its right neighbour and
 * receives one from its left
 *
 *     4 ranks, reduce-scatter: what rank 1 does             then allgather:
 *     step 0   sends chunk 1, receives and adds chunk 0     step 0   sends chunk 2 (whole),
 * receives chunk 1 step 1   sends chunk 0, receives and adds chunk 3     step 1   sends chunk 1,
 * receives chunk 0 step 2   sends chunk 3, receives and adds chunk 2     step 2   sends chunk 0,
 * receives chunk 3
 *
 * Every element is added in one order, around the ring, by one rank, and then copied: all ranks get
 * the same bits, and two runs do too.
 */
#ifndef TORC_RING_H
#define TORC_RING_H

#include "comm/comm.h"

#define RING_IN_FLIGHT 4

typedef struct ring {
    comm *c;
    char *data;
    size_t count, item; /* elements, bytes of one */
    torc_dtype dtype;   /* f32 or f64 */
    int tag;
    int64_t segments;          /* of each chunk */
    int64_t operations;        /* 2 (n - 1) segments: what each side of this rank has to do */
    int64_t sends, sends_done; /* started, finished */
    int64_t receives, receives_done;
    comm_request sending[RING_IN_FLIGHT], receiving[RING_IN_FLIGHT];
    char *arriving; /* RING_IN_FLIGHT segments that are still to be added */
    size_t segment_bytes, arriving_bytes;
} ring;

/* Starts the sum of data over all ranks, in place. Two rings under way at once need two tags. `r`
 * may be used again when the ring is done; its memory grows to the largest need and is freed by
 * ring_free(). A zeroed ring is a new one. */
void ring_start(ring *r, comm *c, void *data, size_t count, torc_dtype dtype, int tag);
/* Moves what can be moved without waiting. */
torc_status ring_poll(ring *r, bool *done);
void ring_free(ring *r);

#endif
