/*
 * nccl -- a stand-in for libnccl.so.2: the same functions over MPI and copies through the host.
 *
 * With it several ranks that share one GPU, or emulate one each, take the way of those that have
 * one each. A call waits until it is done. It is never installed.
 *
 * NCCL_FAILS=K: after K sums the network has failed, as ncclCommGetAsyncError() tells from then on.
 */
#include <nccl.h>

#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ncclComm {
    MPI_Comm ranks;
    long sums_left; /* before it fails */
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
    (*comm)->sums_left = fails ? atol(fails) : INT32_MAX;
    return MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->ranks) ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    *state = comm->sums_left < 0 ? ncclRemoteError : ncclSuccess;
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

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    size_t bytes = count * (type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 2);
    if (op != ncclSum || count > INT32_MAX)
        return ncclInvalidArgument;
    if (--comm->sums_left < 0)
        return ncclSuccess; /* what has been asked for is never done */
    void *host = malloc(bytes);
    cudaError_t e = cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream);
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(stream);
    int failed = e != cudaSuccess || sum(host, count, type, comm->ranks);
    if (!failed)
        e = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream);
    if (!failed && e == cudaSuccess)
        e = cudaStreamSynchronize(stream); /* host may go */
    free(host);
    return failed || e != cudaSuccess ? ncclUnhandledCudaError : ncclSuccess;
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
