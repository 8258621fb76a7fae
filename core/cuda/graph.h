/*
 * graph -- segments of launches that are kept from one step to the next as CUDA graphs.
 *
 *     step 1, 2    launches go out one by one; the segment's hash is noted
 *     step 3       they are captured, and go out as a graph
 *     step 4 ..    arguments that differ from the graph's are set in it, and one call launches all
 *
 * A segment finds the graph of its shape: the same functions with the same grids and sizes of
 * arguments in the same order, and the same calls with the same arguments. Parts of a step that
 * look alike, such as layers, have one each, in their order, whose arguments are true already: a
 * graph goes out twice in a step only where few of them have to be set. What finds no graph goes
 * out one by one: a step of another shape is slower, never wrong. What is never the same, because a
 * call's addresses change, is never captured.
 *
 * Addresses are the same in every step because the storage cache gives the lowest one out first
 * (storage_lowest_first()) and has the same blocks at the start of each. What changes are the
 * counters of random numbers and an optimizer's step.
 *
 * What only a real card shows: that the code which cuBLASLt launches can be captured (it can where
 * it brings its own workspace, as here, and has run before: the first run of a function loads it,
 * which a capture does not allow), what a graph costs in memory, and what it saves in time.
 */
#ifndef TORC_CUDA_GRAPH_H
#define TORC_CUDA_GRAPH_H

#include "core/cuda/queue.h"

/* The segment as a graph, if there is one or now shall be; false: nothing is done. */
bool graph_launch(const cuda_segment *s, cudaStream_t stream);
/* The next segment is the first of a step. */
void graph_step_over(void);

typedef struct graph_stats {
    int64_t launches, alone; /* that went through the queue; of these, one by one */
    int64_t graphs;          /* times a graph was launched */
    int64_t captured, evicted, failed;
    int64_t set; /* launches whose arguments were set in a graph */
} graph_stats;
graph_stats graph_statistics(void);

#endif
