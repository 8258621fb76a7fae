/* queue -- see queue.h. */
#include "core/cuda/queue.h"

#include "core/cuda/graph.h"

#include <string.h>

/* A segment costs one call, so it should be long; but a GPU that has nothing to do waits until the
 * host has filled it. So the first after something else is short, and each is twice as long as the
 * one before. */
#define MOST_LAUNCHES 64
#define FEW_LAUNCHES 8

static struct {
    bool holds;
    cuda_segment waiting;
    int limit, most; /* of the segment that is filled, and of any */
    size_t room;     /* bytes of arguments there is memory for; grows in the first steps */
} queue;

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

static size_t rounded(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

/* ---- out ---- */

void queue_values(const cuda_segment *s, int i, void *value[LAUNCH_VALUES])
{
    const cuda_launch *l = &s->of[i];
    for (uint32_t k = 0; k < l->values; k++)
        value[k] = s->arguments + l->from + l->at[k];
}

const char *queue_issue(const cuda_segment *s, int i, cudaStream_t stream)
{
    const cuda_launch *l = &s->of[i];
    void *value[LAUNCH_VALUES];
    if (!l->function)
        return l->call(s->arguments + l->from, stream);
    queue_values(s, i, value);
    cudaError_t e = cudaLaunchKernel(l->function, (dim3){l->blocks, 1, 1}, (dim3){l->threads, 1, 1},
                                     value, l->shared_bytes, stream);
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

static void issue_all(const cuda_segment *s, cudaStream_t stream)
{
    for (int i = 0; i < s->count; i++) {
        const char *why = queue_issue(s, i, stream);
        if (why)
            cuda_die(s->of[i].name, why);
    }
}

/* First nothing waits any more: who dies of an error may come here again. */
static void send(cudaStream_t stream)
{
    const cuda_segment s = queue.waiting;
    queue.waiting.count = 0;
    queue.waiting.bytes = 0;
    if (!graph_launch(&s, stream))
        issue_all(&s, stream);
}

void queue_empty(cudaStream_t stream)
{
    if (queue.waiting.count == 0)
        return;
    send(stream);
    queue.limit = at_most(FEW_LAUNCHES, queue.most);
}

/* ---- in ---- */

/* A place behind those that wait, with room for so many bytes of arguments, all 0. */
static cuda_launch *enter(const char *name, size_t bytes)
{
    cuda_segment *s = &queue.waiting;
    while (s->bytes + rounded(bytes) > queue.room) {
        queue.room = queue.room ? 2 * queue.room : 16384;
        s->arguments = base_grow(s->arguments, queue.room, 1);
    }
    cuda_launch *l = &s->of[s->count++];
    memset(l, 0, sizeof *l);
    l->name = name;
    l->from = (uint32_t)s->bytes;
    l->bytes = (uint32_t)bytes;
    memset(s->arguments + s->bytes, 0, rounded(bytes));
    s->bytes += rounded(bytes);
    return l;
}

/* Sends what waits if that is a segment. */
static void entered(void)
{
    if (queue.waiting.count < queue.limit)
        return;
    int next = at_most(2 * queue.limit, queue.most);
    cuda_stream(); /* empties the queue, as if something else came now: it does not */
    queue.limit = next;
}

static void enter_function(cuda_launch what, int n, const void *const value[], const size_t bytes[])
{
    size_t all = 0;
    for (int k = 0; k < n; k++)
        all += rounded(bytes[k]);
    cuda_launch *l = enter(what.name, all);
    l->function = what.function;
    l->shared_bytes = what.shared_bytes;
    l->blocks = what.blocks;
    l->threads = what.threads;
    l->values = (uint32_t)n;
    for (int k = 0, at = 0; k < n; at += (int)rounded(bytes[k++])) {
        l->at[k] = (uint32_t)at;
        memcpy(queue.waiting.arguments + l->from + at, value[k], bytes[k]);
    }
    entered();
}

void queue_function(const char *name, const void *function, unsigned blocks, unsigned threads,
                    size_t shared_bytes, int n, const void *const value[], const size_t bytes[])
{
    if (queue.holds) {
        cuda_launch l = {.name = name,
                         .function = function,
                         .blocks = blocks,
                         .threads = threads,
                         .shared_bytes = shared_bytes};
        enter_function(l, n, value, bytes);
        return;
    }
    cuda_check(cudaLaunchKernel(function, (dim3){blocks, 1, 1}, (dim3){threads, 1, 1},
                                (void **)value, shared_bytes, cuda_stream()),
               name);
    cuda_launched(name);
}

void queue_call(const char *name, queue_call_function call, const void *arguments, size_t bytes)
{
    if (queue.holds) {
        cuda_launch *l = enter(name, bytes);
        l->call = call;
        memcpy(queue.waiting.arguments + l->from, arguments, bytes);
        entered();
        return;
    }
    const char *why = call(arguments, cuda_stream());
    if (why)
        cuda_die(name, why);
    cuda_launched(name);
}

/* ---- calls of CUDA's own ---- */

typedef struct bytes_call { /* members of 8 bytes alone: nothing lies between them */
    void *to;
    const void *from; /* or the value, as an address */
    size_t bytes;
} bytes_call;

static const char *said(cudaError_t e)
{
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

static const char *set_now(const void *of, cudaStream_t stream)
{
    const bytes_call *c = of;
    return said(cudaMemsetAsync(c->to, (int)(intptr_t)c->from, c->bytes, stream));
}

static const char *copy_now(const void *of, cudaStream_t stream)
{
    const bytes_call *c = of;
    return said(cudaMemcpyAsync(c->to, c->from, c->bytes, cudaMemcpyDeviceToDevice, stream));
}

void queue_set(void *memory, int value, size_t bytes)
{
    bytes_call c = {memory, (void *)(intptr_t)value, bytes};
    queue_call("setting bytes", set_now, &c, sizeof c);
}

void queue_copy(void *to, const void *from, size_t bytes)
{
    bytes_call c = {to, from, bytes};
    queue_call("copying", copy_now, &c, sizeof c);
}

/* ---- whether they wait ---- */

void queue_hold(bool hold)
{
    cuda_stream();
    if (!queue.most) {
        queue.most = (int)base_limit(MOST_LAUNCHES, FEW_LAUNCHES);
        queue.limit = FEW_LAUNCHES;
        queue.waiting.of = base_alloc((size_t)queue.most, sizeof *queue.waiting.of);
    }
    queue.holds = hold;
}
