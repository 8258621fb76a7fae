/*
 * backend -- what carries bytes between two ranks: the private table behind comm.c, and what
 * topology.c tells it about cores.
 *
 * A backend knows no collectives, no deadlines and no messages for the user beyond its own errors:
 * all of that is comm.c and collective.c, built once over send, receive and test. A backend for
 * another network is one sibling file and one row in comm.c.
 *
 * Words
 *   channel   streams of transfers that never meet: comm.c's own, the rooms' above, and watch.c's.
 *             The same pair of ranks and the same tag on two cannot be mistaken for one another.
 *   handle    a transfer under way, in the backend's own terms; NULL: there is none (any more)
 */
#ifndef COMM_BACKEND_H
#define COMM_BACKEND_H

#include "core/base.h"

/* Hands a failure on to the caller; its sentence is in torc_last_error(). */
#define PASS(call) \
    do { \
        torc_status status_ = (call); \
        if (status_ != TORC_OK) \
            return status_; \
    } while (0)

/* One transfer is at most this long: MPI counts are int. */
#define COMM_TRANSFER_LIMIT ((size_t)1 << 30)

typedef enum comm_channel {
    COMM_COLLECTIVES,
    COMM_POINT_TO_POINT,
    COMM_WATCHES,
    COMM_CHANNELS
} comm_channel;

typedef struct comm_backend {
    const char *name;
    /* Is this process part of a job that this backend must join? */
    bool (*wanted)(void);
    /* Joins it, within `seconds` where the backend can tell. *state is the backend's own. */
    torc_status (*open)(void **state, int *rank, int *size, double seconds);
    /* orderly: all ranks are here, nothing is under way. Otherwise a rank is missing: what needs
     * the others to leave is left behind, and so are the buffers of pending transfers. */
    void (*close)(void *state, bool orderly);
    void (*abort)(void *state, int code);
    /* Start a transfer with another rank; the buffer is the backend's until test() gives NULL. */
    torc_status (*send)(void *state, comm_channel channel, const void *buffer, size_t bytes, int to,
                        int tag, void **handle);
    torc_status (*receive)(void *state, comm_channel channel, void *buffer, size_t bytes, int from,
                           int tag, void **handle);
    /* Moves what is under way; *handle becomes NULL when this one has arrived. */
    torc_status (*test)(void *state, void **handle);
} comm_backend;

extern const comm_backend comm_self, comm_mpi;

/* ---- topology.c ---- */

#define COMM_MAX_CORES 4096

/* The cores that a process may run on. A core is named by the system's number of its first
 * hyperthread, which is the same in every process of a host, however few of them it may see. */
typedef struct comm_cores_set {
    uint64_t bits[COMM_MAX_CORES / 64];
} comm_cores_set;

/* Of this process: its affinity mask over the host as hwloc sees it (HWLOC_SYNTHETIC and
 * HWLOC_XMLFILE are honoured). */
comm_cores_set comm_cores_allowed(void);
/* The share of process `me` among `n` processes of one host: a core that k of them may use counts
 * 1/k to each. Rounded down, but at least 1. */
int comm_cores_share(const comm_cores_set *sets, int n, int me);
/* How many cores' worth of time the control groups (cgroup v2) mounted at `mount` leave to `group`
 * ("/a/b", as /proc/self/cgroup says): the least quota from there to the root; INFINITY if none. */
double comm_cores_quota(const char *mount, const char *group);
/* The same for this process. */
double comm_cores_my_quota(void);

#endif
