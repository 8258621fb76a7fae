/*
 * part -- a piece of a kernel's work whose bounds depend on the shape alone, never on the number of
 * threads. Sums are taken part by part and the parts added in order, so that the bits are the same
 * on any number of threads.
 *
 *     elements  |=======|=======|=======|=======|==|     parts of equal size, the last smaller
 */
#ifndef TORC_PART_H
#define TORC_PART_H

#include "core/base.h"

typedef struct part {
    int64_t first, n;
} part;

/* How many parts of `size` n elements make; 0 for none. */
static inline int64_t part_count(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

static inline part part_of(int64_t n, int64_t size, int64_t index)
{
    return (part){index * size, min_i64(size, n - index * size)};
}

#endif
