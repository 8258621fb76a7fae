/*
 * queue -- launches on their way to the GPU: each at once, or together with those that follow.
 *
 *     LAUNCH  product  LAUNCH  LAUNCH  ...  LAUNCH | LAUNCH  LAUNCH | an event, a copy for the host
 *     '---------- a segment: 64 launches --------'   '- another --'
 *
 * Without graphs (torc_ddp(net, .graph = true)) a launch goes out when it is asked for. With them
 * it waits, with a copy of its arguments, until the queue is full or until anything else is about
 * to happen on the stream: cuda_stream(), through which everybody has to go who puts something into
 * it, empties the queue first. So the order of what happens on the GPU is the same in both cases,
 * and so are its bits. What waits goes out as a graph of the steps before (core/cuda/graph.h), or
 * one by one.
 *
 * Words
 *   launch    a function or a call, and its arguments
 *   function  a __global__ one, with its grid. Its arguments can be changed in a graph.
 *   call      what somebody else launches: a product of cuBLASLt, a copy. Nobody knows what it
 *             makes of its arguments, so in a graph they stay as they are.
 */
#ifndef TORC_CUDA_QUEUE_H
#define TORC_CUDA_QUEUE_H

#include "core/cuda/cuda.h"

enum { LAUNCH_VALUES = 16 /* arguments of a function */ };

/* Puts something into the stream. NULL, or why it could not. It may be asked to do so several
 * times, and while the stream is captured; it does nothing else. */
typedef const char *(*queue_call_function)(const void *arguments, cudaStream_t stream);

typedef struct cuda_launch { /* bytes that no member takes are 0: launches are compared as bytes */
    const char *name;
    const void *function; /* NULL: a call */
    queue_call_function call;
    size_t shared_bytes;
    unsigned blocks, threads;
    uint32_t from, bytes;               /* its arguments, in those of the segment */
    uint32_t values, at[LAUNCH_VALUES]; /* of a function: where each of them is, after `from` */
} cuda_launch;

typedef struct cuda_segment {
    cuda_launch *of;
    char *arguments;
    int count;
    size_t bytes; /* of arguments */
} cuda_segment;

/* Launches function<<<blocks, threads, shared_bytes>>>(n values of so many bytes each). */
void queue_function(const char *name, const void *function, unsigned blocks, unsigned threads,
                    size_t shared_bytes, int n, const void *const value[], const size_t bytes[]);
/* Does call(arguments, stream). The arguments are copied, and compared as bytes. */
void queue_call(const char *name, queue_call_function call, const void *arguments, size_t bytes);
/* Every byte = value; and a copy within the GPU's memory. */
void queue_set(void *memory, int value, size_t bytes);
void queue_copy(void *to, const void *from, size_t bytes);

/* Launch i by itself. NULL, or why it could not. */
const char *queue_issue(const cuda_segment *s, int i, cudaStream_t stream);
/* Where the values of function i are. */
void queue_values(const cuda_segment *s, int i, void *value[LAUNCH_VALUES]);

/* From now on launches wait, or they no longer do. */
void queue_hold(bool hold);
/* What waits goes out. */
void queue_empty(cudaStream_t stream);

#endif
