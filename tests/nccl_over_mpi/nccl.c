/*
 * nccl -- a stand-in for libnccl.so.2: the same functions over MPI and copies through the host.
 *
 * With it several ranks that share one GPU, or emulate one each, take the way of those that have
 * one each. A call waits until it is done. The sum of a part is that of the whole, so it has the
 * same bits; NCCL promises only that they are sums. It is never installed.
 *
 * NCCL_FAILS=K: after K calls the network has failed, as ncclCommGetAsyncError() tells from then
 * on.
 */
#include <nccl.h>

#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ncclComm {
    MPI_Comm ranks;
    long calls_left; /* before it fails */
};

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 1, sizeof *id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    int size, mine;
    (void)config;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &mine);
    if (size != ranks || mine != rank || id.internal[0] != 1)
        return ncclInvalidArgument;
    *comm = malloc(sizeof **comm);
    const char *fails = getenv("NCCL_FAILS");
    (*comm)->calls_left = fails ? atol(fails) : INT32_MAX;
    return MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->ranks) ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    *state = comm->calls_left < 0 ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

static ncclResult_t end(ncclComm_t comm)
{
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    return end(comm);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    return MPI_Comm_free(&comm->ranks) ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    return end(comm);
}

/* ---- the sum ---- */

static void widen(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* To nearest, ties to even. */
static void narrow(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], sizeof bits);
        to[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}

static int sum(void *values, size_t count, ncclDataType_t type, MPI_Comm ranks)
{
    if (type != ncclBfloat16)
        return MPI_Allreduce(MPI_IN_PLACE, values, (int)count,
                             type == ncclFloat64 ? MPI_DOUBLE : MPI_FLOAT, MPI_SUM, ranks);
    float *wide = malloc(count * sizeof *wide);
    widen(wide, values, count);
    int e = MPI_Allreduce(MPI_IN_PLACE, wide, (int)count, MPI_FLOAT, MPI_SUM, ranks);
    narrow(values, wide, count);
    free(wide);
    return e;
}

/* ---- through the host ---- */

static size_t size_of(ncclDataType_t type)
{
    return type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 2;
}

/* One copy, waited for. */
static int copied(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                  cudaStream_t stream)
{
    return cudaMemcpyAsync(to, from, bytes, kind, stream) == cudaSuccess &&
           cudaStreamSynchronize(stream) == cudaSuccess;
}

/* The sum of `count` values over all ranks, of which `kept` from number `first` on are stored. */
static ncclResult_t sum_and_keep(const void *from, size_t count, void *to, size_t first,
                                 size_t kept, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                 cudaStream_t stream)
{
    size_t size = size_of(type);
    if (op != ncclSum || count > INT32_MAX)
        return ncclInvalidArgument;
    if (--comm->calls_left < 0)
        return ncclSuccess; /* what has been asked for is never done */
    char *host = malloc(count * size + 1);
    int done = copied(host, from, count * size, cudaMemcpyDeviceToHost, stream) &&
               !sum(host, count, type, comm->ranks) &&
               copied(to, host + first * size, kept * size, cudaMemcpyHostToDevice, stream);
    free(host);
    return done ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return sum_and_keep(from, count, to, 0, count, type, op, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    int ranks, rank;
    MPI_Comm_size(comm->ranks, &ranks);
    MPI_Comm_rank(comm->ranks, &rank);
    return sum_and_keep(from, count * (size_t)ranks, to, count * (size_t)rank, count, type, op,
                        comm, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    int ranks, bytes = (int)(count * size_of(type));
    MPI_Comm_size(comm->ranks, &ranks);
    if (count * size_of(type) > INT32_MAX)
        return ncclInvalidArgument;
    if (--comm->calls_left < 0)
        return ncclSuccess;
    size_t all = (size_t)bytes * (size_t)ranks;
    char *mine = malloc((size_t)bytes + 1), *host = malloc(all + 1);
    int done = copied(mine, from, (size_t)bytes, cudaMemcpyDeviceToHost, stream) &&
               !MPI_Allgather(mine, bytes, MPI_BYTE, host, bytes, MPI_BYTE, comm->ranks) &&
               copied(to, host, all, cudaMemcpyHostToDevice, stream);
    free(host);
    free(mine);
    return done ? ncclSuccess : ncclUnhandledCudaError;
}

const char *ncclGetErrorString(ncclResult_t e)
{
    return e == ncclSuccess       ? "no error"
           : e == ncclRemoteError ? "remote process exited"
                                  : "an error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "";
}
