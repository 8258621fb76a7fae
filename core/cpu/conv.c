/*
 * conv -- convolution on the CPU: y and dx by oneDNN's code, the activation behind y.
 *
 *     NHWC       channels last: how images are computed, near the peak. Images in another order are
 *                copied first; oneDNN has only a reference for those, hundreds of times slower
 *     part       some images, as many as stay in the cache of a core while they are convolved and
 *                then put through the activation. A thread computes a part by itself.
 *
 *         x |--- part 0 ---|--- part 1 ---| ...     conv -> pre in L2 -> act -> y     a thread
 *
 *     bf16       where oneDNN has no code for it on this processor: in f32, converted
 *     dw         is conv_weight.c's and conv_weight_low.c's; dx of one channel conv_input.c's
 *
 * Parts depend on the shape alone, so y has the same bits on any number of threads. With too few
 * images for parts, all threads work on one; then, and for dx, oneDNN may cut the sum over channels
 * for them, and the bits are the same on the same number of threads. With virtual ranks, where no
 * bit may depend on threads, it gets one.
 */
#include "core/cpu/conv.h"
#include "core/cpu/cpu.h"
#include "core/cpu/parallel.h"

#include <string.h>

/* Of y and what was before the activation. Any size from 512 KiB to 2 MiB does, measured on one
 * thread of a Zen 5 with 1 MiB of L2. Against one pass after the other, x [256, 32, 26, 26] to 64
 * channels takes 25.7 for 27.2 ms (f32, relu), 31.5 for 33.5 (f32, gelu), 13.7 for 13.7 and 20.0
 * for 22.4 (bf16). x [256, 1, 28, 28] to 32, which does little but write y, gains with relu in f32
 * (2.7 for 3.4) and loses 0.3 to 1.1 ms with relu in bf16 and with gelu. */
#define PART_BYTES (1024 * 1024)
#define PARTS 8 /* at least, where there are as many images: threads share them evenly */

/* Of their rows' types, or this does not compile. */
__typeof__(*((kernels *)0)->conv2d) cpu_conv2d;
__typeof__(*((kernels *)0)->conv2d_grad_input) cpu_conv2d_grad_input;

/* ---- images ---- */

static void channels_last_strides(const int64_t *shape, int64_t *stride)
{
    stride[1] = 1;
    stride[3] = shape[1];
    stride[2] = shape[1] * shape[3];
    stride[0] = shape[1] * shape[3] * shape[2];
}

/* A dimension of 1 may claim any stride: an image of one channel is both NCHW and NHWC. */
static bool is_channels_last(const tensor *t)
{
    int64_t stride[4];
    channels_last_strides(t->shape, stride);
    for (int d = 0; d < 4; d++)
        if (t->shape[d] > 1 && t->stride[d] != stride[d])
            return false;
    return true;
}

tensor conv_image_like(const tensor *t, torc_dtype dtype, storage *store, scratch_use use)
{
    tensor image = {.ndim = 4, .dtype = dtype, .store = store};
    memcpy(image.shape, t->shape, sizeof image.shape);
    channels_last_strides(t->shape, image.stride);
    *store = (storage){.bytes = (size_t)tensor_numel(t) * torc_dtype_size(dtype)};
    store->data = scratch(use, store->bytes);
    return image;
}

void *conv_channels_last(const tensor *t, scratch_use use)
{
    if (is_channels_last(t))
        return tensor_data(t);
    storage store;
    tensor image = conv_image_like(t, t->dtype, &store, use);
    cpu_kernels()->copy(&image, t);
    return store.data;
}

/* A f32 copy of w [O, C / groups, k, k]. */
static tensor wide_weight(const tensor *w, storage *store)
{
    tensor wide = *w;
    wide.dtype = TORC_F32;
    wide.offset = 0;
    wide.store = store;
    *store = (storage){.bytes = (size_t)tensor_numel(w) * sizeof(float)};
    store->data = scratch(SCRATCH_OTHER, store->bytes);
    cpu_kernels()->copy(&wide, w);
    return wide;
}

static tensor images_of(const tensor *t, part images)
{
    tensor some = *t;
    some.shape[0] = images.n;
    some.offset += images.first * t->stride[0];
    return some;
}

int64_t conv_part_images(int64_t images, int64_t image_bytes, int64_t part_bytes)
{
    int64_t n = 1;
    while (2 * n * PARTS <= images && 2 * n * image_bytes <= part_bytes)
        n *= 2;
    return n;
}

/* Into the tensor that was asked for, in whatever order it is stored. */
static void give(tensor *to, const tensor *from, bool add)
{
    if (!add) {
        cpu_kernels()->copy(to, from);
        return;
    }
    cpu_kernels()->elementwise(EW_add, to, 2, (const tensor *[]){to, from}, 0, 0, false);
}

/* ---- y ---- */

typedef struct job {
    conv c;
    const tensor *x, *w, *bias;
    tensor *product, *y; /* product is what act is applied to: pre, or y itself */
    elementwise_op act;
} job;

static void activate(tensor *y, const tensor *product, elementwise_op act)
{
    if (act != EW_NONE)
        cpu_kernels()->elementwise(act, y, 1, &product, 0, 0, false);
    else if (y != product)
        cpu_kernels()->copy(y, product);
}

/* y = bias, or 0: where a sum starts, and all there is without input channels. */
static void set_to_bias(tensor *y, const tensor *bias)
{
    if (!bias) {
        cpu_kernels()->fill(y, 0);
        return;
    }
    tensor wide = *y;
    wide.dtype = bias->dtype;
    wide.store = bias->store;
    wide.offset = bias->offset;
    memset(wide.stride, 0, sizeof wide.stride);
    wide.stride[1] = bias->stride[0];
    cpu_kernels()->copy(y, &wide);
}

static void run_part(const job *j, const onednn_plan *plan, void *weights, void *room, part images)
{
    tensor x = images_of(j->x, images), y = images_of(j->y, images);
    tensor product = images_of(j->product, images);
    onednn_run_apart(plan,
                     (void *[]){tensor_data(&x), weights, tensor_data(&product),
                                j->bias ? tensor_data(j->bias) : NULL},
                     room);
    activate(&y, j->product == j->y ? &y : &product, j->act);
}

/* `images` in parts of `size`, which divides their number. False: there is no code. */
static bool run_parts(const job *j, part images, int64_t size)
{
    if (images.n == 0)
        return true;
    conv c = j->c;
    c.images = size;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    onednn_plan *plan = conv_plan(ONEDNN_CONV, &c, j->bias != NULL);
    void *weights =
        plan ? conv_arranged(plan, ONEDNN_CONV_WEIGHTS, &c, j->bias != NULL, j->w) : NULL;
    omp_set_num_threads(threads);
    if (!plan)
        return false;
    size_t room_bytes = onednn_room(plan);
    char *room = scratch(SCRATCH_ONEDNN, room_bytes * (size_t)threads);
    bool team = images.n > size && parallel_worth(tensor_numel(j->y) * c.in * c.how.kernel);
#pragma omp parallel for schedule(dynamic) if (team)
    for (int64_t i = 0; i < images.n; i += size)
        run_part(j, plan, weights, room + room_bytes * (size_t)omp_get_thread_num(),
                 (part){images.first + i, size});
    return true;
}

/* All threads on all images. */
static bool run_whole(const job *j)
{
    bool has_bias = j->bias != NULL;
    onednn_plan *plan = conv_plan(ONEDNN_CONV, &j->c, has_bias);
    if (!plan)
        return false;
    void *weights = conv_arranged(plan, ONEDNN_CONV_WEIGHTS, &j->c, has_bias, j->w);
    onednn_run(plan, (void *[]){tensor_data(j->x), weights, tensor_data(j->product),
                                has_bias ? tensor_data(j->bias) : NULL});
    activate(j->y, j->product, j->act);
    return true;
}

/* With channels last. */
static bool run(const job *j)
{
    int64_t images = j->c.images, threads = omp_get_max_threads();
    bool threads_must_not_show = base_world()->virtual_ranks > 0;
    if (images < 2 * threads && threads > 1 && !threads_must_not_show)
        return run_whole(j);
    int64_t bytes = tensor_numel(j->y) / images * (int64_t)tensor_item_size(j->y);
    int64_t size = conv_part_images(images, j->product == j->y ? bytes : 2 * bytes, PART_BYTES);
    int64_t even = images / size * size;
    return run_parts(j, (part){0, even}, size) &&
           run_parts(j, (part){even, images - even}, images - even);
}

/* Brings images into the order of channels that the code reads and writes. False: there is no code
 * for these dtypes, and nothing is done. */
static bool convolve(job j)
{
    storage store;
    if (!is_channels_last(j.y) || !is_channels_last(j.product)) {
        tensor image = conv_image_like(j.y, j.y->dtype, &store, SCRATCH_RESULT);
        job plain = j;
        plain.y = plain.product = &image;
        plain.act = EW_NONE;
        if (!convolve(plain))
            return false;
        cpu_kernels()->copy(j.product, &image);
        activate(j.y, j.product, j.act);
        return true;
    }
    tensor x = *j.x;
    if (!is_channels_last(&x)) {
        x = conv_image_like(j.x, x.dtype, &store, SCRATCH_INPUT);
        cpu_kernels()->copy(&x, j.x);
    }
    j.x = &x;
    return run(&j);
}

/* Rounded where a primitive for bf16 would round. */
static void convolve_in_f32(const job *j)
{
    storage stores[3];
    tensor x = conv_image_like(j->x, TORC_F32, &stores[0], SCRATCH_INPUT);
    cpu_kernels()->copy(&x, j->x);
    tensor w = wide_weight(j->w, &stores[1]);
    if (j->y->dtype == TORC_F32) {
        cpu_conv2d(j->y, j->product == j->y ? NULL : j->product, &x, &w, j->bias, j->c.how, j->act);
        return;
    }
    tensor product = conv_image_like(j->y, TORC_F32, &stores[2], SCRATCH_RESULT);
    cpu_conv2d(&product, NULL, &x, &w, j->bias, j->c.how, EW_NONE);
    cpu_kernels()->copy(j->product, &product);
    activate(j->y, j->product, j->act);
}

void cpu_conv2d(tensor *y, tensor *pre, const tensor *x, const tensor *w, const tensor *bias,
                window how, elementwise_op act)
{
    job j = {conv_of(x, y, how), x, w, bias, pre ? pre : y, y, act};
    if (tensor_numel(y) == 0)
        return;
    if (x->shape[1] == 0 || y->dtype == TORC_F64) {
        set_to_bias(j.product, bias);
        if (x->shape[1] > 0)
            conv_f64(j.product, x, w, how);
        activate(y, j.product, act);
        return;
    }
    j.c.operand = x->dtype;
    j.c.result = y->dtype;
    if (!convolve(j))
        convolve_in_f32(&j);
}

/* ---- dx ---- */

/* The threads that there were, of which from here on one is used where there are virtual ranks: for
 * the caller to set again. */
static int take_threads(void)
{
    int threads = omp_get_max_threads();
    if (base_world()->virtual_ranks > 0)
        omp_set_num_threads(1);
    return threads;
}

static void grad_one_input(sink dx, const tensor *g, const tensor *w, const conv *c)
{
    storage stores[2];
    tensor last = *g, wide = *w;
    if (!is_channels_last(g)) {
        last = conv_image_like(g, g->dtype, &stores[0], SCRATCH_INPUT);
        cpu_kernels()->copy(&last, g);
    }
    if (w->dtype != TORC_F32)
        wide = wide_weight(w, &stores[1]);
    conv_grad_one_input(dx, &last, tensor_data(&wide), c);
}

/* False: there is no code for these dtypes. */
static bool run_grad_input(sink dx, const tensor *g, const tensor *w, conv c)
{
    bool direct = is_channels_last(dx.t) && !dx.add; /* the primitive can only overwrite */
    if (dx.add)
        c.result = TORC_F32; /* so that the sum is rounded, not what is added */
    int threads = take_threads();
    onednn_plan *plan = conv_plan(ONEDNN_CONV_GRAD_INPUT, &c, false);
    storage store;
    tensor other = *dx.t;
    if (plan) {
        if (!direct)
            other = conv_image_like(dx.t, c.result, &store, SCRATCH_RESULT);
        void *weights = conv_arranged(plan, ONEDNN_CONV_GRAD_INPUT_WEIGHTS, &c, false, w);
        onednn_run(plan,
                   (void *[]){tensor_data(&other), weights, conv_channels_last(g, SCRATCH_INPUT)});
    }
    omp_set_num_threads(threads);
    if (plan && !direct)
        give(dx.t, &other, dx.add);
    return plan != NULL;
}

static void grad_input_in_f32(sink dx, const tensor *g, const tensor *w, window how)
{
    storage stores[3];
    tensor wide_g = conv_image_like(g, TORC_F32, &stores[0], SCRATCH_INPUT);
    cpu_kernels()->copy(&wide_g, g);
    tensor wide_w = wide_weight(w, &stores[1]);
    if (dx.t->dtype == TORC_F32) {
        cpu_conv2d_grad_input(dx, &wide_g, &wide_w, how);
        return;
    }
    tensor wide = conv_image_like(dx.t, TORC_F32, &stores[2], SCRATCH_RESULT);
    cpu_conv2d_grad_input((sink){&wide, false}, &wide_g, &wide_w, how);
    give(dx.t, &wide, dx.add);
}

void cpu_conv2d_grad_input(sink dx, const tensor *g, const tensor *w, window how)
{
    if (!dx.t || tensor_numel(dx.t) == 0)
        return;
    conv c = conv_of(dx.t, g, how);
    if (tensor_numel(g) == 0 || g->dtype == TORC_F64) {
        if (!dx.add)
            cpu_kernels()->fill(dx.t, 0);
        if (tensor_numel(g) > 0)
            conv_grad_input_f64(dx.t, g, w, how);
        return;
    }
    c.operand = g->dtype;
    c.result = dx.t->dtype;
    if (c.in == 1) /* so there is one group */
        grad_one_input(dx, g, w, &c);
    else if (!run_grad_input(dx, g, w, c))
        grad_input_in_f32(dx, g, w, how);
}
