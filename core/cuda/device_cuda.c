/*
 * device_cuda -- the GPU's memory, its stream, and the way between it and the host.
 *
 *     host memory  --memcpy-->  | half 0 | half 1 |  --copy engine-->  GPU
 *                                 pinned, in turns
 *
 * A copy from pageable memory would wait for all kernels before it. So what goes to the GPU is put
 * into pinned memory first, from where the GPU fetches it when its turn has come, while the host
 * goes on; a half is written again once an event says that it has been fetched.
 */
#include "core/cuda/graph.h"
#include "core/profile.h"
#include "core/status.h"

#include <stdio.h>
#include <string.h>

#define HALF_BYTES ((size_t)8 << 20)

static struct gpu {
    cudaStream_t stream;
    struct cudaDeviceProp facts;
    bool taken, sync; /* sync: TORC_CUDA_SYNC */
    char *pinned;     /* two halves */
    size_t used;      /* of the half that is written */
    int half;
    cudaEvent_t fetched[2];
    cudaStream_t beside;
    cudaEvent_t (*ticket)[2];
    int tickets;
    int64_t waits;
} gpu;

/* ---- errors ---- */

void cuda_die(const char *what, const char *why)
{
    const status *s = status_here();
    const char *hint = gpu.sync ? "" : "; it may be an earlier kernel's: TORC_CUDA_SYNC=1 tells";
    die_at((torc_site){s->file, s->line}, s->op, "%s: %s%s", what, why, hint);
}

void cuda_check(cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        cuda_die(what, cudaGetErrorString(e));
}

/* Looks again and again, and breathes in between: what others wait for goes on, and a network that
 * has failed is noticed (base_on_breath()). A kernel that never ends is ended by the deadline. */
static void wait_for_stream(const char *what)
{
    double seconds = base_setting_number("TORC_LONG_TIMEOUT", 1800, 0.001, 1e9);
    cudaError_t e;
    gpu.waits++;
    for (wait w = wait_start(seconds); (e = cudaStreamQuery(gpu.stream)) == cudaErrorNotReady;) {
        cudaGetLastError();
        base_breathe();
        if (!wait_once(&w)) {
            const status *s = status_here();
            die_at((torc_site){s->file, s->line}, s->op, "%s: the GPU did not end in %g s", what,
                   seconds);
        }
    }
    cuda_check(e, what);
}

void cuda_launched(const char *name)
{
    cuda_check(cudaGetLastError(), name);
    if (gpu.sync) /* without a breath: who moves gradients launches kernels as well */
        cuda_check(cudaStreamSynchronize(gpu.stream), name);
}

/* ---- taking the GPU ---- */

/* Asks without touching any GPU: a context on one takes hundreds of MB of it. */
static int cuda_count(char *why, size_t size)
{
    int count = 0, driver = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && count > 0)
        return count;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    if (driver == 0) {
        snprintf(why, size, "this host has no NVIDIA driver");
        return 0;
    }
    if (e == cudaErrorInsufficientDriver)
        snprintf(why, size, "the driver is for CUDA %d.%d, and this torc needs %d.%d or later",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10);
    else
        snprintf(why, size, "no GPU: %s", cudaGetErrorString(e));
    return e == cudaErrorNoDevice || e == cudaSuccess ? 0 : -1;
}

static cudaEvent_t new_event(void)
{
    cudaEvent_t e;
    cuda_check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "making an event");
    return e;
}

static void take(void)
{
    gpu.taken = true;
    gpu.sync = base_setting_number("TORC_CUDA_SYNC", 0, 0, 1) != 0;
    int index = device_index();
    cuda_check(cudaSetDevice(index), "taking the GPU");
    cuda_check(cudaGetDeviceProperties(&gpu.facts, index), "asking what the GPU is");
    cuda_check(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking), "making a stream");
    cuda_check(cudaMallocHost((void **)&gpu.pinned, 2 * HALF_BYTES), "pinning memory");
    cuda_check(cudaStreamCreateWithFlags(&gpu.beside, cudaStreamNonBlocking), "making a stream");
    for (int i = 0; i < 2; i++)
        gpu.fetched[i] = new_event();
}

static void take_once(void)
{
    if (!gpu.taken)
        take();
}

cudaStream_t cuda_stream(void)
{
    take_once();
    queue_empty(gpu.stream);
    return gpu.stream;
}

int cuda_processors(void)
{
    take_once();
    return gpu.facts.multiProcessorCount;
}

int cuda_architecture(void)
{
    take_once();
    return gpu.facts.major * 10 + gpu.facts.minor;
}

void cuda_wait(void)
{
    cuda_stream();
    wait_for_stream("waiting for the GPU");
}

int64_t cuda_waits(void)
{
    return gpu.waits;
}

/* ---- memory ---- */

static void *cuda_alloc(size_t bytes)
{
    void *memory = NULL;
    cuda_stream();
    cudaError_t e = cudaMalloc(&memory, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* it is told by NULL; the next check shall not see it again */
        return NULL;
    }
    cuda_check(e, "cudaMalloc");
    return memory;
}

static void cuda_release(void *memory, size_t bytes)
{
    (void)bytes;
    cuda_stream();
    cuda_check(cudaFree(memory), "cudaFree"); /* waits for the kernels that still use it */
}

static void cuda_room(size_t *free, size_t *total)
{
    cuda_stream();
    cuda_check(cudaMemGetInfo(free, total), "cudaMemGetInfo");
}

static void cuda_to_host(void *host, const void *memory, size_t bytes)
{
    if (!bytes)
        return;
    cuda_check(cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, cuda_stream()),
               "copying from the GPU");
    cuda_wait();
}

/* Room for up to `bytes` in the half that is written; *got is how many there are. */
static char *pinned_room(size_t bytes, size_t *got)
{
    if (gpu.used == HALF_BYTES) {
        cuda_check(cudaEventRecord(gpu.fetched[gpu.half], gpu.stream), "recording an event");
        gpu.half = !gpu.half;
        gpu.used = 0;
        gpu.waits++;
        cuda_check(cudaEventSynchronize(gpu.fetched[gpu.half]), "waiting for a copy");
    }
    *got = bytes < HALF_BYTES - gpu.used ? bytes : HALF_BYTES - gpu.used;
    char *room = gpu.pinned + (size_t)gpu.half * HALF_BYTES + gpu.used;
    gpu.used += *got;
    return room;
}

static void cuda_from_host(void *memory, const void *host, size_t bytes)
{
    cudaStream_t stream = cuda_stream();
    for (size_t done = 0, piece; done < bytes; done += piece) {
        char *room = pinned_room(bytes - done, &piece);
        memcpy(room, (const char *)host + done, piece);
        cuda_check(
            cudaMemcpyAsync((char *)memory + done, room, piece, cudaMemcpyHostToDevice, stream),
            "copying to the GPU");
    }
}

/* ---- beside the kernels ---- */

static void cuda_identity(char *text, size_t size)
{
    cuda_check(cudaDeviceGetPCIBusId(text, (int)size, device_index()), "asking which GPU this is");
}

static void cuda_pin(void *host, size_t bytes)
{
    cuda_stream();
    cuda_check(cudaHostRegister(host, bytes, cudaHostRegisterPortable), "pinning memory");
}

static void cuda_unpin(void *host)
{
    cuda_check(cudaHostUnregister(host), "unpinning memory");
}

/* Two events a ticket: what has to be done before, and the end of the branch. */
static cudaEvent_t *events_of(int ticket)
{
    int place = ticket - DEVICE_STEP;
    for (; gpu.tickets <= place; gpu.tickets++) {
        gpu.ticket = base_grow(gpu.ticket, (size_t)gpu.tickets + 1, sizeof *gpu.ticket);
        for (int i = 0; i < 2; i++)
            gpu.ticket[gpu.tickets][i] = new_event();
    }
    return gpu.ticket[place];
}

static void *cuda_branch(int ticket)
{
    cudaStream_t stream = cuda_stream();
    cudaEvent_t before = events_of(ticket)[0];
    cuda_check(cudaEventRecord(before, stream), "recording an event");
    cuda_check(cudaStreamWaitEvent(gpu.beside, before, 0), "waiting for an event");
    return gpu.beside;
}

cudaStream_t cuda_beside(void)
{
    cuda_stream(); /* takes the GPU */
    return gpu.beside;
}

static void cuda_branched(int ticket)
{
    cuda_check(cudaEventRecord(events_of(ticket)[1], gpu.beside), "recording an event");
}

static bool cuda_is_done(int ticket)
{
    cudaError_t e = cudaEventQuery(events_of(ticket)[1]);
    if (e != cudaErrorNotReady)
        cuda_check(e, "what goes on beside the kernels");
    else
        cudaGetLastError();
    return e == cudaSuccess;
}

static void cuda_rejoin(int ticket)
{
    cuda_check(cudaStreamWaitEvent(cuda_stream(), events_of(ticket)[1], 0), "waiting for an event");
}

static void cuda_fetch(void *host, const void *memory, size_t bytes, int ticket)
{
    cuda_branch(ticket);
    profile_beside_begins(profile_bucket(ticket), "copy to the host");
    cuda_check(cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, gpu.beside),
               "copying from the GPU");
    profile_beside_ends((int64_t)bytes);
    cuda_branched(ticket);
}

static void cuda_put(void *memory, const void *host, size_t bytes)
{
    cuda_check(cudaMemcpyAsync(memory, host, bytes, cudaMemcpyHostToDevice, cuda_stream()),
               "copying to the GPU");
}

/* The checking mode waits after every launch, which is what a graph leaves out. */
static void cuda_graphs(void)
{
    static bool told;
    take_once();
    if (gpu.sync && !told)
        log_line(LOG_WARN, "TORC_CUDA_SYNC=1: launches go one by one, without CUDA graphs");
    told = true;
    if (gpu.sync)
        return;
    storage_lowest_first();
    queue_hold(true);
}

static void cuda_step_over(void)
{
    cuda_stream(); /* the update begins while the host prepares the next step */
    graph_step_over();
}

static const kernels *kernels_of_cuda(void)
{
    return &cuda_kernels;
}

/* Tensor cores take both from Ampere on. */
static bool cuda_multiplies(torc_dtype low)
{
    (void)low;
    return cuda_architecture() >= 80;
}

const device device_cuda = {
    .name = "cuda",
    .count = cuda_count,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .room = cuda_room,
    .to_host = cuda_to_host,
    .from_host = cuda_from_host,
    .identity = cuda_identity,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
    .branch = cuda_branch,
    .branched = cuda_branched,
    .is_done = cuda_is_done,
    .rejoin = cuda_rejoin,
    .fetch = cuda_fetch,
    .put = cuda_put,
    .graphs = cuda_graphs,
    .step_over = cuda_step_over,
    .stamp = cuda_stamp,
    .is_past = cuda_is_past,
    .between = cuda_between,
    .kernels = kernels_of_cuda,
    .computes = DTYPE_BITS_ALL,
    .multiplies = cuda_multiplies,
};
