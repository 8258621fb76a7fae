/*
 * conv -- one convolution's sizes, and its plain loops in f64.
 *
 *     y[n, o, i, j] = bias[o] + sum over c, u, v of x[n, c, i s + u d - p, j s + v d - p]
 *                                                   w[o, c, u, v]
 */
#ifndef TORC_CPU_CONV_H
#define TORC_CPU_CONV_H

#include "core/cpu/scratch.h"
#include "core/kernels.h"

typedef struct conv {
    int64_t images, in, height, width; /* of x [N, C, H, W] */
    int64_t out, rows, columns;        /* of y [N, O, H', W'] */
    window how;
} conv;

static inline conv conv_of(const tensor *x, const tensor *y, window how)
{
    return (conv){x->shape[0], x->shape[1], x->shape[2], x->shape[3],
                  y->shape[1], y->shape[2], y->shape[3], how};
}

/* The elements of a f32 image channels last (NHWC): where they are, or copied into scratch memory.
 */
float *conv_channels_last(const tensor *t, scratch_use use);

/* For gradient checks: right, in a fixed order, of any strides, not fast. All add to what is there.
 */
void conv_f64(tensor *y, const tensor *x, const tensor *w, window how);
void conv_grad_input_f64(tensor *dx, const tensor *g, const tensor *w, window how);
void conv_grad_weight_f64(tensor *dw, const tensor *g, const tensor *x, window how);

#endif
