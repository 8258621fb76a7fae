/*
 * wire -- a buffer summed between hosts: what ring, exchange and doubling have in common.
 *
 * Words
 *   member   a rank that takes part: the owners of one slice, one a host, in the order of hosts
 *   piece    a part of the buffer: first element, number of elements
 *   post     what is sent at one time, held where it will not change until it has left
 *
 *     members      the same slice of       ring        n large: 2 (n - 1)/n of the bytes, the least
 *     0  1  2  3   every host              exchange    n small, or few bytes: one step
 *                                          doubling    few bytes: log n steps
 *
 * Each algorithm is a machine that is started and then polled: nobody waits in here. All members
 * get the same bits. With `compress` values travel as bfloat16: what is sent is rounded where it
 * stands as well, so that sender and receiver go on with the same number; sums are taken in f32.
 */
#ifndef TORC_WIRE_H
#define TORC_WIRE_H

#include "comm/comm.h"
#include "core/kernels.h"

typedef struct wire_group {
    comm *c;
    int n, me;       /* members, and this one among them */
    const int *rank; /* rank[member] */
    /* Several nodes may come from a member (tree.h): how many, and how all of them are added. Only
     * exchange can do that; NULL: one each, and any order. */
    const int *nodes_of;
    const fold_order *top;
} wire_group;

typedef struct wire wire;
typedef struct wire_algorithm {
    const char *name;
    bool adds_nodes; /* in the order of wire_group.top */
    void (*start)(wire *w);
    torc_status (*poll)(wire *w, bool *done);
} wire_algorithm;

extern const wire_algorithm wire_ring, wire_exchange, wire_doubling;

/* A message of up to 64 KiB, its header included, leaves at once (Open MPI over TCP). A longer one
 * is announced first, and both the announcement and the answer stand in the queues that the data
 * fills: on a shaped link of 1 Gbit/s that made a sum of 2 MiB take 24 ms instead of 18. */
#define WIRE_MESSAGE_BYTES ((size_t)63 << 10)
#define WIRE_IN_FLIGHT 32 /* messages */

struct wire {
    const wire_algorithm *by;
    wire_group group;
    char *const *node;  /* node[k]: where this member's node k starts; the sum comes to node[0] */
    size_t count, item; /* elements, bytes of one */
    torc_dtype dtype;   /* f32 or f64 */
    bool compress;
    int tag;
    int64_t at;                   /* the algorithm's own count: its step */
    int64_t segments, operations; /* ring.c */
    int64_t sends, sends_done;    /* started, finished */
    int64_t receives, receives_done;
    size_t segment_bytes;
    int requests; /* room in the two lists */
    comm_request *sending, *receiving;
    char *room; /* for what arrives before it is added, and for posts */
    size_t room_bytes;
};

/* Starts the sum of `count` elements at node[0] (.. node[nodes_of[me] - 1]) over the members. Two
 * under way at once between the same members need two tags. `w` may be used again when it is done;
 * a zeroed one is new. */
void wire_start(wire *w, const wire_algorithm *by, wire_group group, char *const *node,
                size_t count, torc_dtype dtype, bool compress, int tag);
/* Moves what can be moved without waiting. */
torc_status wire_poll(wire *w, bool *done);
void wire_free(wire *w);

/* ---- for the algorithms ---- */

/* Room for so many requests each way and so many bytes; contents are lost when it grows. */
void wire_room(wire *w, int requests, size_t bytes);
/* Bytes of one element as it travels. */
size_t wire_item(const wire *w);
/* Starts to send n elements from `from`; `post` is room for them where they are packed. */
torc_status wire_send(wire *w, char *from, char *post, size_t n, int member, comm_request *q);
/* Starts to receive n elements to `to`, packed or not. */
torc_status wire_receive(wire *w, char *to, size_t n, int member, comm_request *q);
/* sum += arrived, or sum = arrived; `arrived` as it travelled. */
void wire_add(const wire *w, char *sum, const char *arrived, size_t n);
void wire_put(const wire *w, char *to, const char *arrived, size_t n);

#endif
