/*
 * images -- [n, c, h, w] tensors in either order of channels, and how many places a window of a
 * convolution or a pooling has in them: for tests of the kernels of both devices.
 */
#ifndef TESTS_IMAGES_H
#define TESTS_IMAGES_H

#include "tests/cpu_tensors.h"

/* Of `size` rows or columns. */
static inline int64_t places(int64_t size, window how)
{
    return (size + 2 * how.padding - how.dilation * (how.kernel - 1) - 1) / how.stride + 1;
}

/* Channels last in memory, or first. */
static inline tensor *image(torc_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w, bool last)
{
    tensor *t = made(dtype, SHAPE(n * c * h * w));
    return made_view(t, SHAPE(n, c, h, w),
                     last ? STRIDES(c * h * w, 1, c * w, c) : STRIDES(c * h * w, h * w, w, 1), 0);
}

#endif
