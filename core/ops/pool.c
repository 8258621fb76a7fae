/*
 * pool -- maxima and means over windows of an image.
 *
 *     max   y = the largest of the window       dx = g at the place of the largest, noted in a byte
 *     avg   y = sum of the window / k^2         dx = g / k^2 over the window
 *
 * Padding counts in a mean, as in PyTorch.
 */
#include "core/ops/ops.h"

#include <string.h>

typedef struct pool_saved {
    window how;
    tensor *at; /* max: the place within each window */
} pool_saved;

static void max_backward(node *n, tensor *grad)
{
    const pool_saved *s = n->saved;
    kernels_here()->max_pool2d_grad(tape_sink(n, 0), grad, s->at, s->how);
}

static void avg_backward(node *n, tensor *grad)
{
    const pool_saved *s = n->saved;
    kernels_here()->avg_pool2d_grad(tape_sink(n, 0), grad, s->how);
}

static window window_of(const call *c, const tensor *x, int kernel, const torc_pool_options *o)
{
    window how = {kernel, o->stride ? o->stride : kernel, o->padding, 1, 1};
    if (x->ndim != 4)
        call_die(c, "expected [N, C, H, W], found %s", tensor_shape_text(x));
    if (kernel < 1 || kernel > 15 || how.stride < 1)
        call_die(c, "expected a kernel of 1 to 15 and a stride of 1 or more, found %d and %d",
                 kernel, how.stride);
    if (how.padding < 0 || 2 * how.padding > kernel)
        call_die(c, "expected a padding of at most half the kernel %d, found %d", kernel,
                 how.padding);
    return how;
}

static torc_tensor *pool(const call *c, torc_tensor *handle, int kernel, torc_pool_options o,
                         bool max)
{
    tensor *x = op_float(c, handle);
    window how = window_of(c, x, kernel, &o);
    int64_t shape[] = {x->shape[0], x->shape[1], op_windows(c, x->shape[2], how),
                       op_windows(c, x->shape[3], how)};
    tensor *y = op_channels_last(c, shape, x->dtype), *image = op_image(c, x);
    tensor *at = max ? op_channels_last(c, shape, TORC_U8) : NULL;
    if (max)
        kernels_here()->max_pool2d(y, at, image, how);
    else
        kernels_here()->avg_pool2d(y, image, how);
    tensor_drop(image);
    pool_saved *saved = tape_record(c, max ? max_backward : avg_backward, y, 1, &x, sizeof *saved);
    if (saved)
        *saved = (pool_saved){how, at};
    tape_unread(y, true, true);
    return tensor_handle(y);
}

torc_tensor *torc_max_pool2d_op(torc_site at, torc_tensor *x, int kernel, torc_pool_options o)
{
    return pool(&(call){at, __func__}, x, kernel, o, true);
}

torc_tensor *torc_avg_pool2d_op(torc_site at, torc_tensor *x, int kernel, torc_pool_options o)
{
    return pool(&(call){at, __func__}, x, kernel, o, false);
}
