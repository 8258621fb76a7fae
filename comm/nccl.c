/* nccl -- see nccl.h. */
#include "comm/nccl.h"

#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library: looked for when it is needed, so that a program starts fast, and runs, where
 * there is none ---- */

#define FUNCTIONS(X) \
    X(ncclGetUniqueId) \
    X(ncclCommInitRankConfig) \
    X(ncclCommGetAsyncError) \
    X(ncclCommAbort) \
    X(ncclCommFinalize) \
    X(ncclCommDestroy) \
    X(ncclAllReduce) \
    X(ncclReduceScatter) \
    X(ncclAllGather) \
    X(ncclGetErrorString) \
    X(ncclGetLastError)

#define POINTER(name) __typeof__(name) *name;
static struct {
    FUNCTIONS(POINTER)
} nccl;

struct comm_gpus {
    ncclComm_t handle;
    int rank;
    bool broken;
    double seconds; /* that a call may take to be accepted */
};

static bool load(char *why, size_t size)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, size, "there is no NCCL: %s", dlerror());
        return false;
    }
#define FIND(name) \
    nccl.name = (__typeof__(name) *)dlsym(library, #name); \
    if (!nccl.name) { \
        snprintf(why, size, "the NCCL found is too old: it has no " #name); \
        return false; \
    }
    FUNCTIONS(FIND)
    return true;
}

/* ---- may they? ---- */

typedef struct card { /* what a rank tells of itself */
    int32_t host, ready;
    char gpu[32];
} card;

/* The first rank whose GPU another one has too, or -1. */
static int first_to_share(const card *all, int ranks)
{
    for (int i = 0; i < ranks; i++)
        for (int k = 0; k < i; k++)
            if (all[i].host == all[k].host && !strcmp(all[i].gpu, all[k].gpu))
                return i;
    return -1;
}

/* The same answer on all ranks, and the same reason. */
static bool agreed(const card *all, int ranks, bool insists, char *why, size_t size)
{
    for (int i = 0; i < ranks; i++)
        if (!all[i].ready) {
            if (!*why)
                snprintf(why, size, "rank %d finds no NCCL", i);
            return false;
        }
    int shares = first_to_share(all, ranks);
    if (shares < 0 || insists)
        return true;
    snprintf(why, size, "rank %d shares its GPU with another rank", shares);
    return false;
}

static torc_status ask_all(comm *c, const char *gpu, bool *yes, char *why, size_t size)
{
    double wish = base_setting_number("TORC_NCCL", -1, -1, 1);
    card mine = {.host = comm_host_of(c, comm_rank(c))};
    card *all = base_alloc((size_t)comm_size(c), sizeof *all);
    *why = 0;
    snprintf(mine.gpu, sizeof mine.gpu, "%s", gpu);
    if (wish == 0)
        snprintf(why, size, "TORC_NCCL=0");
    mine.ready = wish != 0 && load(why, size);
    torc_status s = comm_allgather(c, &mine, all, sizeof mine, "GPUs of the ranks");
    *yes = s == TORC_OK && agreed(all, comm_size(c), wish == 1, why, size);
    free(all);
    return s;
}

/* ---- joining ---- */

static torc_status failed(const char *what, ncclComm_t handle, ncclResult_t e)
{
    const char *more = handle ? nccl.ncclGetLastError(handle) : "";
    return fail(TORC_ERR_PEER, "NCCL: %s: %s%s%s", what, nccl.ncclGetErrorString(e),
                more && *more ? ": " : "", more ? more : "");
}

/* Calls return before they are done; the next one must wait until the one before was accepted. */
static torc_status settle(comm_gpus *g, const char *what, ncclResult_t e)
{
    ncclResult_t state = e;
    for (wait w = wait_start(g->seconds); e == ncclInProgress || state == ncclInProgress;) {
        e = nccl.ncclCommGetAsyncError(g->handle, &state);
        if (e != ncclSuccess)
            state = e;
        if (state == ncclInProgress && !wait_once(&w))
            return fail(TORC_ERR_TIMEOUT, "NCCL: %s was not done in %g s", what, g->seconds);
    }
    return state == ncclSuccess ? TORC_OK : failed(what, g->handle, state);
}

static torc_status join(comm *c, comm_gpus *g)
{
    ncclUniqueId id = {0};
    if (comm_rank(c) == 0 && nccl.ncclGetUniqueId(&id) != ncclSuccess)
        memset(&id, 0, sizeof id);
    torc_status s = comm_broadcast(c, &id, sizeof id, 0, "id of the GPUs' communicator");
    if (s != TORC_OK)
        return s;
    ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
    how.blocking = 0;
    ncclResult_t e = nccl.ncclCommInitRankConfig(&g->handle, comm_size(c), id, comm_rank(c), &how);
    return settle(g, "joining", e);
}

torc_status comm_gpus_open(comm *c, const char *gpu, comm_gpus **out, char *why, size_t size)
{
    bool yes;
    *out = NULL;
    torc_status s = ask_all(c, gpu, &yes, why, size);
    if (s != TORC_OK || !yes)
        return s;
    comm_gpus *g = base_alloc(1, sizeof *g);
    g->rank = comm_rank(c);
    g->seconds = base_setting_number("TORC_TIMEOUT", 120, 0.001, 1e9);
    int32_t joined = join(c, g) == TORC_OK, all;
    if (!joined)
        snprintf(why, size, "%s", torc_last_error());
    all = joined;
    s = comm_allreduce(c, &all, 1, TORC_I32, COMM_MIN, "all GPUs joined");
    if (s == TORC_OK && all) {
        *out = g;
        return TORC_OK;
    }
    if (joined)
        snprintf(why, size, "another rank's GPU did not join");
    if (g->handle)
        nccl.ncclCommAbort(g->handle);
    free(g);
    return s;
}

/* ---- using it ---- */

static ncclDataType_t type_of(torc_dtype dtype)
{
    switch (dtype) {
    case TORC_F32:
        return ncclFloat32;
    case TORC_F64:
        return ncclFloat64;
    case TORC_BF16:
        return ncclBfloat16;
    default:
        bug("NCCL asked for %s", torc_dtype_name(dtype));
    }
}

static torc_status give_up(comm_gpus *g, torc_status s)
{
    if (s != TORC_OK && !g->broken) {
        g->broken = true;
        nccl.ncclCommAbort(g->handle); /* what is in the streams ends, instead of waiting on */
    }
    return s;
}

torc_status comm_gpus_sum(comm_gpus *g, void *values, size_t count, torc_dtype dtype, void *stream)
{
    ncclResult_t e = nccl.ncclAllReduce(values, values, count, type_of(dtype), ncclSum, g->handle,
                                        (cudaStream_t)stream);
    return give_up(g, settle(g, "a sum", e));
}

/* Where this rank's part is. */
static char *part_of(const comm_gpus *g, void *values, size_t count, torc_dtype dtype)
{
    return (char *)values + (size_t)g->rank * count * torc_dtype_size(dtype);
}

torc_status comm_gpus_reduce_scatter(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                     void *stream)
{
    ncclResult_t e =
        nccl.ncclReduceScatter(values, part_of(g, values, count, dtype), count, type_of(dtype),
                               ncclSum, g->handle, (cudaStream_t)stream);
    return give_up(g, settle(g, "a sum of parts", e));
}

torc_status comm_gpus_allgather(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                void *stream)
{
    ncclResult_t e = nccl.ncclAllGather(part_of(g, values, count, dtype), values, count,
                                        type_of(dtype), g->handle, (cudaStream_t)stream);
    return give_up(g, settle(g, "gathering parts", e));
}

torc_status comm_gpus_look(comm_gpus *g)
{
    ncclResult_t state = ncclSuccess;
    if (g->broken)
        return TORC_ERR_PEER;
    ncclResult_t e = nccl.ncclCommGetAsyncError(g->handle, &state);
    if (e == ncclSuccess && (state == ncclSuccess || state == ncclInProgress))
        return TORC_OK;
    return give_up(g, failed("the GPUs' network", g->handle, e != ncclSuccess ? e : state));
}

void comm_gpus_close(comm_gpus *g)
{
    if (!g)
        return;
    if (!g->broken && settle(g, "leaving", nccl.ncclCommFinalize(g->handle)) == TORC_OK)
        nccl.ncclCommDestroy(g->handle);
    free(g);
}
