/*
 * squares -- the sum of the squares of many numbers, in f64: a part from each block, then all parts
 * in a fixed order.
 *
 *     blocks     0    1    2    3           squares_room(4)
 *     room  [ sum | p0 | p1 | p2 | p3 ]     squares_add() adds p0 .. p3 into sum
 *
 * The sum is born on the GPU and can be used there; only squares_read() waits for it.
 */
#ifndef TORC_CUDA_SQUARES_H
#define TORC_CUDA_SQUARES_H

#include "core/cuda/reduce.h"

/* The sum, then `parts` parts; the caller releases it. */
static inline storage *squares_room(int64_t parts)
{
    return storage_new((size_t)(1 + parts) * sizeof(double));
}

static inline double *squares_parts(const storage *room)
{
    return (double *)room->data + 1;
}

/* One block. */
__global__ static void add_squares(double *sum, const double *part, int64_t n)
{
    double mine = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        mine += part[i];
    mine = block_sum(mine);
    if (threadIdx.x == 0)
        *sum = mine;
}

/* *sum: the room's own, or anywhere on the GPU. Of no parts it is 0. */
static inline void squares_add(double *sum, const storage *room, int64_t parts)
{
    LAUNCH(add_squares, 1, 1024, sum, squares_parts(room), parts);
}

static inline double squares_read(const storage *room)
{
    double sum;
    device_cuda.to_host(&sum, room->data, sizeof sum);
    return sum;
}

#endif
