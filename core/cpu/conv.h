/*
 * conv -- one convolution's sizes, the plans that compute it, and its plain loops in f64.
 *
 *     y[n, o, i, j] = bias[o] + sum over c, u, v of x[n, c, i s + u d - p, j s + v d - p]
 *                                                   w[o, c, u, v]
 */
#ifndef TORC_CPU_CONV_H
#define TORC_CPU_CONV_H

#include "core/cpu/onednn.h"
#include "core/cpu/scratch.h"
#include "core/kernels.h"

typedef struct conv {
    int64_t images, in, height, width; /* of x [N, C, H, W] */
    int64_t out, rows, columns;        /* of y [N, O, H', W'] */
    window how;
    torc_dtype operand, result; /* of what is multiplied, of y or dx */
} conv;

static inline conv conv_of(const tensor *x, const tensor *y, window how)
{
    return (conv){.images = x->shape[0],
                  .in = x->shape[1],
                  .height = x->shape[2],
                  .width = x->shape[3],
                  .out = y->shape[1],
                  .rows = y->shape[2],
                  .columns = y->shape[3],
                  .how = how};
}

/* ---- images ---- */

/* The elements of an image channels last (NHWC): where they are, or copied into scratch memory. */
void *conv_channels_last(const tensor *t, scratch_use use);
/* A channels-last image, in `dtype`, of t's shape over scratch memory, which *store describes. */
tensor conv_image_like(const tensor *t, torc_dtype dtype, storage *store, scratch_use use);

/* ---- plans: conv_plan.c ---- */

/* From the cache, or made now, for as many threads as omp_get_max_threads() says. NULL: oneDNN has
 * no code for these dtypes here. The order of its arguments:
 *     ONEDNN_CONV               x, weights, y, bias (if there is one)
 *     ONEDNN_CONV_GRAD_INPUT    dx, weights, g
 *     ONEDNN_CONV_GRAD_WEIGHT   dw, in the plan's own layout, x, g */
onednn_plan *conv_plan(onednn_kind kind, const conv *c, bool bias);
/* w in the layout that `plan` wants; `kind` is that of the rearrangement. */
void *conv_arranged(const onednn_plan *plan, onednn_kind kind, const conv *c, bool bias,
                    const tensor *w);
/* dw (+)= sum, which is in the layout of `plan`. */
void conv_give_weight(const onednn_plan *plan, const conv *c, sink dw, float *sum);

/* dw (+)= g^T x of bf16, by parts; there are images and channels. False, and dw is as it was: there
 * is no code for bf16 here. conv_weight_low.c */
bool conv_grad_weight_low(sink dw, const tensor *g, const tensor *x, window how);

/* dx [N, 1, H, W] (+)= that of g, channels last, f32 or bf16, and w [O, 1, k, k] in f32. Neither is
 * empty. conv_input.c */
void conv_grad_one_input(sink dx, const tensor *g, const float *w, const conv *c);

/* ---- cuts ---- */

/* How many images a part has, given the bytes of each: a power of two, so that few sizes of parts,
 * and of plans, occur; it depends on the shape alone. */
int64_t conv_part_images(int64_t images, int64_t image_bytes, int64_t part_bytes);

/* ---- for gradient checks: right, in a fixed order, of any strides, not fast. All add to what is
 * there ---- */
void conv_f64(tensor *y, const tensor *x, const tensor *w, window how);
void conv_grad_input_f64(tensor *dx, const tensor *g, const tensor *w, window how);
void conv_grad_weight_f64(tensor *dw, const tensor *g, const tensor *x, window how);

#endif
