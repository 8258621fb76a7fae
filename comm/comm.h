/*
 * comm -- ranks, hosts and bytes: one communicator for the job. Knows no tensors.
 *
 * Words
 *   backend      what carries the bytes: `self` (a world of one) or `mpi`; sibling files, one table
 *                each (backend.h)
 *   collective   a call that every rank makes, in the same order
 *   request      a transfer under way between two ranks; it moves only while somebody tests it
 *
 *     collectives   collective.c  ->  comm.c (arrivals, deadlines)  ->  backend: self.c | mpi.c
 *     ring          allreduce/ring.c  ->  comm_send / comm_receive / comm_test
 *
 * Every wait has the deadline of TORC_TIMEOUT (seconds, 120), counted anew for every piece of a
 * long buffer, and put off while a missing rank says that it does something long (watch.h). When it
 * passes the call returns TORC_ERR_TIMEOUT and the sentence names the collective (its number and
 * name), this rank and the missing ones with host and pid, how long it waited, and for each of them
 * the collective and the line of the program in which it was last seen. Ranks that are in different
 * collectives (kind, count, dtype, op, root or name) all get TORC_ERR_PEER at once, with both
 * sides; no buffer has been touched then. Ranks that wait for each other, one in a collective and
 * one for a transfer, get it within two seconds. After any of these every further collective fails
 * too, and a buffer whose call failed may still be written to: end the process, do not free it.
 *
 * Counts and bytes are size_t: what is long is cut into pieces inside. All calls come from one
 * thread. A program that called MPI_Init itself must leave before its MPI_Finalize.
 */
#ifndef TORC_COMM_H
#define TORC_COMM_H

#include "core/base.h"

typedef struct comm comm;
typedef enum comm_op { COMM_SUM, COMM_MAX, COMM_MIN } comm_op;

/* Joins the job. Alone (no launcher in the environment, or one of a single rank): the self backend,
 * without starting MPI. Under a launcher: MPI, which is left alone at the end if the program had
 * started it itself. A launcher that promised more ranks than MPI finds is TORC_ERR_PEER: N ranks
 * that each believe to be alone are an error, not a run. *out is NULL unless TORC_OK. */
torc_status comm_open(comm **out);
/* All ranks leave together. If some do not come, or an earlier call failed, a warning is logged and
 * this rank leaves MPI as it is. */
void comm_close(comm *c);
/* Ends every rank of the job with this exit code, as fast as the backend can. If it returns, the
 * caller then leaves itself. */
void comm_abort(comm *c, int code);

int comm_rank(const comm *c);
int comm_size(const comm *c);
int comm_local_rank(const comm *c); /* among the ranks of this host, in rank order */
int comm_local_size(const comm *c);
/* Hosts are numbered by their lowest rank. TORC_FAKE_HOSTS=M deals the ranks of the job out to M
 * hosts as if they shared nothing, so that what happens between hosts can be seen on one. */
int comm_hosts(const comm *c);
int comm_host_of(const comm *c, int rank);
/* The number of a rank when they are counted host by host: neighbours share a host. */
int comm_place(const comm *c, int rank);
const char *comm_host(const comm *c, int rank); /* valid until comm_close() */
int comm_pid(const comm *c, int rank);
const char *comm_backend_name(const comm *c);
/* How many cores this rank may use for itself: its share of the host's cores (topology.c). At
 * least 1. */
int comm_cores(const comm *c);

/* ---- collectives: blocking, with a deadline; `name` (up to 47 bytes) is for messages ---- */

torc_status comm_barrier(comm *c, const char *name);
torc_status comm_broadcast(comm *c, void *buffer, size_t bytes, int root, const char *name);
/* all: comm_size() x bytes, in rank order; mine may be its own place in all. */
torc_status comm_allgather(comm *c, const void *mine, void *all, size_t bytes, const char *name);
/* In place; every rank gets the same bits: those of folding in rank order, ((x0 + x1) + x2) + ...,
 * whatever the count. dtype: f32, f64, i64, i32. A NaN on any rank stays, also in max and min. */
torc_status comm_allreduce(comm *c, void *buffer, size_t count, torc_dtype dtype, comm_op op,
                           const char *name);
/* Rank r gets the reduced elements [r count, (r + 1) count) of the buffers of size() x count
 * elements, folded in rank order. mine and buffer do not overlap. */
torc_status comm_reduce_scatter(comm *c, const void *buffer, void *mine, size_t count,
                                torc_dtype dtype, comm_op op, const char *name);

/* ---- point to point, for the algorithms above this room ---- */

typedef struct comm_request {
    void *handle; /* the backend's; NULL when nothing is under way */
} comm_request;

/* Start a transfer with another rank; the buffer stays untouched until comm_test() says that it is
 * done. Transfers between the same two ranks with the same tag (0 .. 32767) arrive in the order of
 * their start. At most 1 GiB each. */
torc_status comm_send(comm *c, const void *buffer, size_t bytes, int to, int tag, comm_request *r);
torc_status comm_receive(comm *c, void *buffer, size_t bytes, int from, int tag, comm_request *r);
/* Moves what is under way; *done tells whether this one has arrived (an idle request has). */
torc_status comm_test(comm *c, comm_request *r, bool *done);

#endif
