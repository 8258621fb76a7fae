/*
 * device_cpu -- the CPU's memory.
 *
 * Blocks start on a cache line, so that no two threads' vectors share one. A block of 2 MiB or more
 * starts on a huge page's boundary and asks for such pages: with 4 KiB pages, walking a large
 * tensor misses the TLB all the time and its first touch is 512 times as many page faults.
 */
#include "core/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_LINE 64
#define HUGE_PAGE ((size_t)2 << 20)

static int cpu_count(char *why, size_t size)
{
    (void)why, (void)size;
    return 1;
}

static void *cpu_alloc(size_t bytes)
{
    bool huge = bytes >= HUGE_PAGE;
    void *memory = NULL;
    if (posix_memalign(&memory, huge ? HUGE_PAGE : CACHE_LINE, bytes) != 0)
        return NULL;
    if (huge)
        madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: a kernel without them works as well */
    return memory;
}

static void cpu_release(void *memory, size_t bytes)
{
    (void)bytes;
    free(memory);
}

/* Huge ones, for to take a part of one is to split it. */
static size_t cpu_discard(void *memory, size_t bytes)
{
    uintptr_t first = ((uintptr_t)memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t end = ((uintptr_t)memory + bytes) / HUGE_PAGE * HUGE_PAGE;
    bool gone = first < end && madvise((void *)first, end - first, MADV_DONTNEED) == 0;
    return gone ? end - first : 0;
}

static void cpu_to_host(void *host, const void *memory, size_t bytes)
{
    if (bytes)
        memcpy(host, memory, bytes);
}

static void cpu_from_host(void *memory, const void *host, size_t bytes)
{
    if (bytes)
        memcpy(memory, host, bytes);
}

/* What oneDNN's code for bf16 needs: AVX-512 BF16, or AMX beyond it. */
static bool cpu_multiplies(torc_dtype low)
{
    return low == TORC_BF16 && __builtin_cpu_supports("avx512bf16");
}

const device device_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .discard = cpu_discard,
    .to_host = cpu_to_host,
    .from_host = cpu_from_host,
    .kernels = cpu_kernels,
    .computes = DTYPE_BITS_ALL & ~DTYPE_BIT(TORC_F16),
    .multiplies = cpu_multiplies,
};
