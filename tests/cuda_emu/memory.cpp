/*
 * memory -- the memory of a GPU that is not there, and the calls of CUDA's runtime.
 *
 *     | zone | block | zone | block | zone | ...      one stretch of addresses
 *
 * Fresh blocks are full of NaN, so that nothing goes unnoticed that is read before it is written.
 * A zone has a pattern that is looked at after every kernel: who writes beside a block is named.
 * Under AddressSanitizer the zones are poisoned, so reads there are found as well. Outside of
 * kernels and copies the whole stretch cannot be touched: a host that does so faults, as it would
 * with a GPU's memory.
 *
 * Everything ends before the call returns, so streams and events have nothing to wait for; an
 * event keeps the moment at which it was recorded.
 * EMU_MEMORY is the size of the memory in MiB (512), EMU_DEVICES the number of GPUs (1), which all
 * are this one.
 */
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iterator>
#include <map>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum { ZONE = 256, ALIGNMENT = 256, PATTERN = 0xa5 };

static struct {
    char *start;
    size_t bytes, used;
    std::map<char *, size_t> *blocks; /* where they start, their bytes without zones */
    int open;
    cudaError_t last;
} memory;

static void poison(void *at, size_t bytes, bool yes)
{
#ifdef __SANITIZE_ADDRESS__
    if (yes)
        __asan_poison_memory_region(at, bytes);
    else
        __asan_unpoison_memory_region(at, bytes);
#else
    (void)at, (void)bytes, (void)yes;
#endif
}

static size_t setting(const char *name, size_t usual)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : usual;
}

static void start()
{
    if (memory.start)
        return;
    memory.bytes = setting("EMU_MEMORY", 512) << 20;
    void *at =
        mmap(NULL, memory.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        emu_stop("no addresses for %zu bytes of device memory", memory.bytes);
    memory.start = (char *)at;
    memory.blocks = new std::map<char *, size_t>;
}

static void protect(int how)
{
    start();
    if (mprotect(memory.start, memory.bytes, how) != 0)
        emu_stop("device memory cannot be protected");
}

void emu_memory_open()
{
    if (memory.open++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

static size_t rounded(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* From the block's end to where the next zone may begin; and the zone before it. */
static void check_zone(const char *from, const char *to, const char *start, size_t bytes,
                       const char *name)
{
    for (const char *p = from; p < to; p++)
        if ((unsigned char)*p != PATTERN)
            emu_stop("%s wrote %td bytes from the start of a block of %zu bytes", name, p - start,
                     bytes);
}

static void check_zones(char *start, size_t bytes, const char *name)
{
    char *end = start + bytes;
    poison(start - ZONE, ZONE, false);
    poison(end, rounded(bytes) - bytes + ZONE, false);
    check_zone(start - ZONE, start, start, bytes, name);
    check_zone(end, start + rounded(bytes) + ZONE, start, bytes, name);
    poison(start - ZONE, ZONE, true);
    poison(end, rounded(bytes) - bytes + ZONE, true);
}

void emu_memory_close(const char *name)
{
    if (--memory.open > 0)
        return;
    if (name)
        for (auto &b : *memory.blocks)
            check_zones(b.first, b.second, name);
    protect(PROT_NONE);
}

/* ---- blocks ---- */

/* The first gap that is large enough: between blocks, or behind the last. */
static char *find_room(size_t bytes)
{
    char *at = memory.start + ZONE;
    for (auto &b : *memory.blocks) {
        if ((size_t)(b.first - at) >= bytes + ZONE && b.first >= at)
            return at;
        at = b.first + rounded(b.second) + ZONE;
    }
    return at + bytes + ZONE <= memory.start + memory.bytes ? at : NULL;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    start();
    char *at = find_room(rounded(bytes));
    if (!at)
        return memory.last = cudaErrorMemoryAllocation;
    emu_memory_open();
    poison(at - ZONE, rounded(bytes) + 2 * ZONE, false);
    memset(at - ZONE, PATTERN, rounded(bytes) + 2 * ZONE);
    memset(at, 0xff, bytes);
    (*memory.blocks)[at] = bytes;
    emu_memory_close("cudaMalloc");
    *out = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *at)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    if (!at)
        return cudaSuccess;
    auto block = memory.blocks->find((char *)at);
    if (block == memory.blocks->end())
        emu_stop("cudaFree of %p, which is no block", at);
    poison(at, block->second, true);
    memory.blocks->erase(block);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    start();
    *free = *total = memory.bytes;
    for (auto &b : *memory.blocks)
        *free -= rounded(b.second) + ZONE;
    return cudaSuccess;
}

/* Whether [at, at + bytes) is inside a block. */
static bool is_device(const void *at, size_t bytes)
{
    char *p = (char *)at;
    if (!memory.start || p < memory.start || p >= memory.start + memory.bytes)
        return false;
    auto next = memory.blocks->upper_bound(p);
    if (next == memory.blocks->begin())
        emu_stop("%p is in no block of device memory", at);
    auto block = std::prev(next);
    if (p + bytes > block->first + block->second)
        emu_stop("%zu bytes from byte %td of a block of %zu", bytes, p - block->first,
                 block->second);
    return true;
}

static void expect_side(const char *what, const void *at, size_t bytes, bool device)
{
    if (is_device(at, bytes) != device)
        emu_stop("%s is in the %s's memory", what, device ? "host" : "device");
}

static void move(void *to, const void *from, size_t bytes)
{
    emu_memory_open();
    memmove(to, from, bytes);
    emu_memory_close(NULL);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (kind != cudaMemcpyDeviceToDevice && emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    if (kind != cudaMemcpyDefault) {
        expect_side("the target of a copy", to, bytes,
                    kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice);
        expect_side("the source of a copy", from, bytes,
                    kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice);
    }
    if (!emu_captured(stream, [=] { move(to, from, bytes); }))
        move(to, from, bytes);
    return cudaSuccess;
}

static void set(void *at, int value, size_t bytes)
{
    emu_memory_open();
    memset(at, value, bytes);
    emu_memory_close(NULL);
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream)
{
    expect_side("what is set", at, bytes, true);
    if (!emu_captured(stream, [=] { set(at, value, bytes); }))
        set(at, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    *out = malloc(bytes);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *at)
{
    free(at);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *, size_t, unsigned)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *)
{
    return cudaSuccess;
}

/* ---- errors and devices ---- */

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    default:
        return "an error";
    }
}

cudaError_t cudaPeekAtLastError()
{
    return memory.last;
}

cudaError_t cudaGetLastError()
{
    cudaError_t e = memory.last;
    memory.last = cudaSuccess;
    return e;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = (int)setting("EMU_DEVICES", 1);
    return *count ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device)
{
    int count;
    cudaGetDeviceCount(&count);
    return device < count ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *facts, int)
{
    *facts = {"CPU in place of a GPU", setting("EMU_MEMORY", 512) << 20, 227 * 1024, 9, 0, 4};
    return cudaSuccess;
}

/* All processes share one GPU; with EMU_OWN=1 each rank of a host has one of its own. */
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int)
{
    size_t rank = setting("EMU_OWN", 0) ? setting("OMPI_COMM_WORLD_LOCAL_RANK", 0) : 0;
    snprintf(text, (size_t)size, "0000:%02zx:00.0", rank);
    return cudaSuccess;
}

/* ---- streams and events: everything has already happened ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = (cudaStream_t)malloc(1);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = (cudaEvent_t)calloc(1, sizeof(struct timespec));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    clock_gettime(CLOCK_MONOTONIC, (struct timespec *)event);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    const struct timespec *from = (struct timespec *)start, *to = (struct timespec *)end;
    *milliseconds = 1e3f * (float)(to->tv_sec - from->tv_sec) +
                    1e-6f * (float)(to->tv_nsec - from->tv_nsec);
    return cudaSuccess;
}
