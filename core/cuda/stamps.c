/*
 * stamps -- moments in the stream of kernels, each an event that the GPU stamps with its clock when
 * all that was asked for before is done: how long kernels take, which the host never sees.
 */
#include "core/cuda/cuda.h"

static struct {
    cudaEvent_t *event;
    int count;
} stamps;

/* Events are made when their number is first used. Going through cuda_stream() sends out what
 * waits to be launched together: between stamps kernels go one by one. */
void cuda_stamp(int i, bool beside)
{
    cudaStream_t stream = beside ? cuda_beside() : cuda_stream();
    for (; stamps.count <= i; stamps.count++) {
        stamps.event = base_grow(stamps.event, (size_t)stamps.count + 1, sizeof *stamps.event);
        cuda_check(cudaEventCreateWithFlags(&stamps.event[stamps.count], 0), "making an event");
    }
    cuda_check(cudaEventRecord(stamps.event[i], stream), "recording an event");
}

bool cuda_is_past(int i)
{
    cudaError_t e = cudaEventQuery(stamps.event[i]);
    if (e != cudaErrorNotReady)
        cuda_check(e, "a kernel that is timed");
    else
        cudaGetLastError();
    return e == cudaSuccess;
}

/* CUDA gives milliseconds as a float, in steps of half a microsecond: exact enough for up to some
 * seconds, which is why callers measure from a stamp that is near. */
double cuda_between(int from, int to)
{
    float milliseconds;
    cuda_check(cudaEventElapsedTime(&milliseconds, stamps.event[from], stamps.event[to]),
               "asking for a time");
    return 1e-3 * (double)milliseconds;
}
