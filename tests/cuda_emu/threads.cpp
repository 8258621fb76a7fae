/*
 * threads -- runs CUDA kernels on a CPU, one thread after the other.
 *
 * A __global__ function is compiled as an ordinary one. Each of a block's threads has a stack of
 * its own and runs until it has to wait; then the next one goes on.
 *
 *     thread 0   ====| __syncthreads()        |====| end
 *     thread 1       |====|                        |====| end
 *     thread 2            |====|                        |====| end
 *                              ^ all are here: they go on
 *
 * What it proves: indices, barriers and arithmetic. It stops where a thread never comes to a
 * barrier or a shuffle that others wait at, and memory.cpp stops at accesses that are wrong. It
 * says nothing of speed, of races between threads that should have met, or of what is asynchronous:
 * a kernel has ended when the launch returns.
 *
 * Words
 *   lane    a thread among the 32 of its warp
 *   meet    to wait for others: for all of the block, or for the lanes of a mask
 */
#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

enum { MOST_THREADS = 1024, STACK_BYTES = 128 * 1024, SHARED_BYTES_MOST = 227 * 1024 };

enum state { READY, AT_BLOCK, AT_WARP, DONE };

struct lane {
    void *stack_pointer;
    char *stack;
    state at;
    unsigned mask;    /* it waits for, AT_WARP */
    unsigned shows;   /* how often it has shown a value */
    void *sanitizers; /* what AddressSanitizer keeps for a stack */
};

static struct {
    const char *name;
    void (*run)(void *);
    void *arguments;
    lane of[MOST_THREADS];
    unsigned count, now;
    void *scheduler; /* its stack pointer */
    void *scheduler_sanitizers;
    const void *scheduler_stack;
    size_t scheduler_size;
    int counted, count_result;
    alignas(16) unsigned char shown[2][MOST_THREADS * 16]; /* in turns */
    alignas(16) unsigned char shared[SHARED_BYTES_MOST];
} block;

void emu_stop(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "cuda_emu: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}

/* ---- from one stack to another ---- */

/* Leaves on this stack what a function must keep for its caller, and goes on where `to` was left.
 */
extern "C" void emu_switch(void **from, void *to);
asm(R"(
    .text
    .globl emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");

/* AddressSanitizer is told of every change of stack, or takes the other stack for an overflow. */
static void leave(void **keep, const void *bottom, size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(keep, bottom, bytes);
#else
    (void)keep, (void)bottom, (void)bytes;
#endif
}

static void arrive(void *kept, const void **bottom, size_t *bytes)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(kept, bottom, bytes);
#else
    (void)kept, (void)bottom, (void)bytes;
#endif
}

static void to_scheduler(bool for_ever)
{
    lane *l = &block.of[block.now];
    leave(for_ever ? NULL : &l->sanitizers, block.scheduler_stack, block.scheduler_size);
    emu_switch(&l->stack_pointer, block.scheduler);
    arrive(l->sanitizers, NULL, NULL);
}

static void thread_begins()
{
    arrive(NULL, &block.scheduler_stack, &block.scheduler_size);
    block.run(block.arguments);
    emu_copies_leave();
    block.of[block.now].at = DONE;
    to_scheduler(true);
    abort(); /* nobody goes on with it */
}

static void prepare(lane *l)
{
    if (!l->stack) {
        void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            emu_stop("no memory for the stack of a thread");
        l->stack = (char *)memory;
    }
    void **top = (void **)(l->stack + STACK_BYTES) - 1; /* aligned as after a call */
    top[0] = NULL;
    *--top = (void *)thread_begins;
    l->stack_pointer = top - 6;
    l->at = READY;
    l->shows = 0;
    l->sanitizers = NULL;
}

static void go_on(unsigned index)
{
    lane *l = &block.of[index];
    block.now = index;
    threadIdx = {index, 0, 0};
    leave(&block.scheduler_sanitizers, l->stack, STACK_BYTES);
    emu_switch(&block.scheduler, l->stack_pointer);
    arrive(block.scheduler_sanitizers, NULL, NULL);
}

/* ---- meeting ---- */

static void wait_as(state at)
{
    block.of[block.now].at = at;
    to_scheduler(false);
}

void emu_meet_block()
{
    wait_as(AT_BLOCK);
}

void emu_meet_warp(unsigned mask)
{
    if (!(mask >> emu_lane() & 1))
        emu_stop("%s: lane %u meets with the mask %08x, which it is not in", block.name, emu_lane(),
                 mask);
    block.of[block.now].mask = mask;
    wait_as(AT_WARP);
}

const unsigned char *emu_show(unsigned mask, const void *value, size_t bytes)
{
    lane *l = &block.of[block.now];
    unsigned char *all = block.shown[l->shows++ % 2] + block.now / warpSize * warpSize * 16;
    memcpy(all + 16 * emu_lane(), value, bytes);
    emu_meet_warp(mask);
    return all;
}

unsigned __ballot_sync(unsigned mask, int predicate)
{
    const unsigned char *all = emu_show(mask, &predicate, sizeof predicate);
    unsigned votes = 0;
    for (unsigned i = 0; i < warpSize; i++) {
        int vote;
        memcpy(&vote, all + 16 * i, sizeof vote);
        votes |= (mask >> i & 1) && vote ? 1u << i : 0;
    }
    return votes;
}

int emu_count_block(int predicate)
{
    block.counted += predicate != 0;
    emu_meet_block(); /* the scheduler moves the count on, when all are here */
    return block.count_result;
}

/* Lets the lanes of one warp go on whose whole mask is here; false: none can. */
static bool release_warp(unsigned first)
{
    unsigned end = first + warpSize < block.count ? first + warpSize : block.count;
    bool any = false;
    for (unsigned i = first; i < end; i++) {
        if (block.of[i].at != AT_WARP)
            continue;
        unsigned mask = block.of[i].mask;
        bool here = true;
        for (unsigned k = first; k < end; k++)
            if (mask >> (k - first) & 1)
                here = here && block.of[k].at == AT_WARP && block.of[k].mask == mask;
        if (end - first < warpSize && mask >> (end - first) && mask != 0xffffffffu)
            here = false;
        for (unsigned k = first; here && k < end; k++)
            if (mask >> (k - first) & 1)
                block.of[k].at = READY;
        any = any || here;
    }
    return any;
}

static bool release_block()
{
    for (unsigned i = 0; i < block.count; i++)
        if (block.of[i].at != AT_BLOCK)
            return false;
    for (unsigned i = 0; i < block.count; i++)
        block.of[i].at = READY;
    block.count_result = block.counted;
    block.counted = 0;
    return true;
}

static bool release()
{
    bool any = false;
    for (unsigned first = 0; first < block.count; first += warpSize)
        any = release_warp(first) || any;
    return any || release_block();
}

[[noreturn]] static void stop_at_meeting()
{
    unsigned in[4] = {}, first[4] = {};
    for (unsigned i = block.count; i-- > 0;)
        in[block.of[i].at]++, first[block.of[i].at] = i;
    emu_stop(
        "%s, block %u: %u threads wait at a barrier of the block (the first: %u), %u at one of "
        "their warp (%u), and %u have ended (%u): they never meet",
        block.name, blockIdx.x, in[AT_BLOCK], first[AT_BLOCK], in[AT_WARP], first[AT_WARP],
        in[DONE], first[DONE]);
}

/* ---- a launch ---- */

static void run_block()
{
    for (unsigned i = 0; i < block.count; i++)
        prepare(&block.of[i]);
    for (unsigned done = 0; done < block.count;) {
        for (unsigned i = 0; i < block.count; i++)
            if (block.of[i].at == READY) {
                go_on(i);
                done += block.of[i].at == DONE;
            }
        if (done < block.count && !release())
            stop_at_meeting();
    }
}

void *emu_shared()
{
    return block.shared;
}

void emu_launch(const char *name, unsigned blocks, unsigned threads, size_t shared_bytes,
                void (*run)(void *), void *arguments)
{
    if (threads == 0 || threads > MOST_THREADS || shared_bytes > sizeof block.shared)
        emu_stop("%s: %u threads with %zu bytes of shared memory", name, threads, shared_bytes);
    block.name = name;
    block.run = run;
    block.arguments = arguments;
    block.count = threads;
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    emu_memory_open();
    for (unsigned i = 0; i < blocks; i++) {
        blockIdx = {i, 0, 0};
        memset(block.shared, 0xff, shared_bytes); /* NaN until it is written */
        run_block();
    }
    emu_memory_close(name);
}
