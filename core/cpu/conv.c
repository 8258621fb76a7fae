/*
 * conv -- convolution on the CPU: y and dx by oneDNN's code.
 *
 *     NHWC       channels last: how f32 images are computed, near the peak. Images in another order
 *                are copied first; oneDNN has only a reference for those, hundreds of times slower
 *     y, dx      a primitive each, which wants the weights in a layout of its own: they are
 *                rearranged by a second one, a small copy
 *     dw         is conv_weight.c's
 *
 * y and dx have the same bits on the same number of threads: where there are few images and many
 * channels, oneDNN cuts the sum over channels for them. With virtual ranks, where no bit may depend
 * on threads, it gets one.
 */
#include "core/cpu/conv.h"
#include "core/cpu/cpu.h"
#include "core/cpu/onednn.h"
#include "core/cpu/scratch.h"

#include <omp.h>
#include <string.h>

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

/* A dimension of 1 may claim any stride. */
static bool is_channels_last(const tensor *t)
{
    int64_t stride[4];
    channels_last_strides(t->shape, stride);
    for (int d = 0; d < 4; d++)
        if (t->shape[d] > 1 && t->stride[d] != stride[d])
            return false;
    return true;
}

/* A channels-last f32 image of t's shape over scratch memory, which *store describes. */
static tensor image_like(const tensor *t, storage *store, scratch_use use)
{
    tensor image = {.ndim = 4, .dtype = TORC_F32, .store = store};
    memcpy(image.shape, t->shape, sizeof image.shape);
    channels_last_strides(t->shape, image.stride);
    *store = (storage){.bytes = (size_t)tensor_numel(t) * sizeof(float)};
    store->data = scratch(use, store->bytes);
    return image;
}

float *conv_channels_last(const tensor *t, scratch_use use)
{
    if (is_channels_last(t))
        return tensor_data(t);
    storage store;
    tensor image = image_like(t, &store, use);
    cpu_kernels()->copy(&image, t);
    return store.data;
}

/* Into the tensor that was asked for, in whatever order it is stored. */
static void give(tensor *to, const tensor *from, bool add)
{
    if (add)
        cpu_kernels()->elementwise(EW_add, to, 2, (const tensor *[]){to, from}, 0, 0, false);
    else
        cpu_kernels()->copy(to, from);
}

/* ---- plans ---- */

/* Layouts are not in it: images are always channels last here. */
static onednn_key key_of(onednn_kind kind, const conv *c, bool bias)
{
    onednn_key key = onednn_key_of(kind);
    ONEDNN_KEY_ADD(&key, c->images, c->in, c->height, c->width, c->out, c->rows, c->columns,
                   c->how.kernel, c->how.stride, c->how.padding, c->how.dilation, c->how.groups,
                   bias);
    return key;
}

static dnnl_memory_desc_t image_layout(int64_t images, int64_t channels, int64_t rows,
                                       int64_t columns)
{
    dnnl_memory_desc_t layout;
    onednn_check(dnnl_memory_desc_init_by_tag(&layout, 4,
                                              (dnnl_dims_t){images, channels, rows, columns},
                                              dnnl_f32, dnnl_nhwc),
                 "describe an image");
    return layout;
}

/* [O, C / groups, k, k], with a dimension for groups in front where there are any; in the order of
 * the parameter, or in the order that suits the code. */
static dnnl_memory_desc_t weight_layout(const conv *c, bool any)
{
    int64_t groups = c->how.groups, k = c->how.kernel;
    dnnl_dims_t shape = {groups, c->out / groups, c->in / groups, k, k};
    dnnl_memory_desc_t layout;
    bool grouped = groups > 1;
    dnnl_format_tag_t tag = any ? dnnl_format_tag_any : grouped ? dnnl_abcde : dnnl_abcd;
    onednn_check(dnnl_memory_desc_init_by_tag(&layout, grouped ? 5 : 4, grouped ? shape : shape + 1,
                                              dnnl_f32, tag),
                 "describe weights");
    return layout;
}

/* oneDNN picks the fastest code that it has for the layouts given. */
static dnnl_primitive_desc_t choose(const dnnl_convolution_desc_t *what,
                                    const_dnnl_primitive_desc_t forward)
{
    dnnl_primitive_attr_t attributes = onednn_attributes(false);
    dnnl_primitive_desc_t chosen;
    onednn_check(dnnl_primitive_desc_create(&chosen, what, attributes, onednn_engine(), forward),
                 "choose the code of a convolution");
    dnnl_primitive_attr_destroy(attributes);
    return chosen;
}

static dnnl_primitive_desc_t forward_of(const conv *c, bool has_bias)
{
    dnnl_memory_desc_t x = image_layout(c->images, c->in, c->height, c->width);
    dnnl_memory_desc_t y = image_layout(c->images, c->out, c->rows, c->columns);
    dnnl_memory_desc_t w = weight_layout(c, true), bias;
    onednn_check(dnnl_memory_desc_init_by_tag(&bias, 1, (dnnl_dims_t){c->out}, dnnl_f32, dnnl_a),
                 "describe a bias");
    int64_t s = c->how.stride, d = c->how.dilation - 1,
            p = c->how.padding; /* oneDNN counts from 0 */
    /* Where the stride leaves some of the padding unused, oneDNN wants the exact amount. */
    int64_t reach = c->how.dilation * (c->how.kernel - 1) + 1;
    int64_t below = (c->rows - 1) * s + reach - c->height - p;
    int64_t right = (c->columns - 1) * s + reach - c->width - p;
    dnnl_convolution_desc_t what;
    onednn_check(dnnl_dilated_convolution_forward_desc_init(
                     &what, dnnl_forward_training, dnnl_convolution_direct, &x, &w,
                     has_bias ? &bias : NULL, &y, (dnnl_dims_t){s, s}, (dnnl_dims_t){d, d},
                     (dnnl_dims_t){p, p}, (dnnl_dims_t){below, right}),
                 "describe a convolution");
    return choose(&what, NULL);
}

/* dx of the same sizes: layouts, strides and padding are the forward's. */
static dnnl_primitive_desc_t grad_input_of(const conv *c)
{
    dnnl_primitive_desc_t forward = forward_of(c, false); /* oneDNN asks for it as a hint */
    const dnnl_convolution_desc_t *f;
    onednn_check(dnnl_primitive_desc_query(forward, dnnl_query_convolution_d, 0, &f),
                 "describe a convolution");
    dnnl_memory_desc_t w = weight_layout(c, true);
    dnnl_convolution_desc_t what;
    onednn_check(dnnl_dilated_convolution_backward_data_desc_init(
                     &what, dnnl_convolution_direct, &f->src_desc, &w, &f->dst_desc, f->strides,
                     f->dilates, f->padding[0], f->padding[1]),
                 "describe a convolution's gradient");
    dnnl_primitive_desc_t chosen = choose(&what, forward);
    dnnl_primitive_desc_destroy(forward);
    return chosen;
}

/* From the cache, or made now. The arguments stand in the order in which onednn_run() takes them.
 */
static onednn_plan *plan_of(onednn_kind kind, const conv *c, bool bias)
{
    onednn_key key = key_of(kind, c, bias);
    onednn_plan *plan = onednn_find(&key);
    if (plan)
        return plan;
    if (kind == ONEDNN_CONV)
        return onednn_keep(&key, forward_of(c, bias), bias ? 4 : 3,
                           (int[]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS});
    return onednn_keep(&key, grad_input_of(c), 3,
                       (int[]){DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST});
}

/* w in the layout that `plan` wants. */
static void *arranged(const onednn_plan *plan, onednn_kind kind, const conv *c, bool bias,
                      const tensor *w)
{
    const dnnl_memory_desc_t *wanted = onednn_layout(plan, DNNL_ARG_WEIGHTS);
    onednn_key key = key_of(kind, c, bias);
    onednn_plan *arrange = onednn_find(&key);
    if (!arrange) {
        dnnl_memory_desc_t given = weight_layout(c, false);
        dnnl_primitive_attr_t attributes = onednn_attributes(false);
        dnnl_primitive_desc_t chosen;
        onednn_check(dnnl_reorder_primitive_desc_create(&chosen, &given, onednn_engine(), wanted,
                                                        onednn_engine(), attributes),
                     "choose the code that rearranges weights");
        dnnl_primitive_attr_destroy(attributes);
        arrange = onednn_keep(&key, chosen, 2, (int[]){DNNL_ARG_FROM, DNNL_ARG_TO});
    }
    void *weights = scratch(SCRATCH_WEIGHTS, dnnl_memory_desc_get_size(wanted));
    onednn_run(arrange, (void *[]){tensor_data(w), weights});
    return weights;
}

/* ---- y and dx ---- */

/* y = bias, or 0: where a sum starts, and all there is without input channels. */
static void set_to_bias(tensor *y, const tensor *bias)
{
    if (!bias) {
        cpu_kernels()->fill(y, 0);
        return;
    }
    tensor wide = *y;
    wide.store = bias->store;
    wide.offset = bias->offset;
    memset(wide.stride, 0, sizeof wide.stride);
    wide.stride[1] = bias->stride[0];
    cpu_kernels()->copy(y, &wide);
}

/* The threads that there were, of which from here on one is used where there are virtual ranks: for
 * the caller to set again. */
static int take_threads(void)
{
    int threads = omp_get_max_threads();
    if (base_world()->virtual_ranks > 0)
        omp_set_num_threads(1);
    return threads;
}

void cpu_conv2d(tensor *y, const tensor *x, const tensor *w, const tensor *bias, window how)
{
    conv c = conv_of(x, y, how);
    if (tensor_numel(y) == 0)
        return;
    if (c.in == 0 || y->dtype == TORC_F64) {
        set_to_bias(y, bias);
        if (c.in > 0)
            conv_f64(y, x, w, how);
        return;
    }
    storage store;
    int threads = take_threads();
    bool direct = is_channels_last(y);
    tensor other = direct ? *y : image_like(y, &store, SCRATCH_RESULT);
    onednn_plan *plan = plan_of(ONEDNN_CONV, &c, bias != NULL);
    void *weights = arranged(plan, ONEDNN_CONV_WEIGHTS, &c, bias != NULL, w);
    onednn_run(plan, (void *[]){conv_channels_last(x, SCRATCH_INPUT), weights, tensor_data(&other),
                                bias ? tensor_data(bias) : NULL});
    omp_set_num_threads(threads);
    if (!direct)
        give(y, &other, false);
}

void cpu_conv2d_grad_input(sink dx, const tensor *g, const tensor *w, window how)
{
    if (!dx.t || tensor_numel(dx.t) == 0)
        return;
    conv c = conv_of(dx.t, g, how);
    if (c.out == 0 || g->dtype == TORC_F64) {
        if (!dx.add)
            cpu_kernels()->fill(dx.t, 0);
        if (c.out > 0)
            conv_grad_input_f64(dx.t, g, w, how);
        return;
    }
    int threads = take_threads();
    bool direct = is_channels_last(dx.t) && !dx.add; /* the primitive can only overwrite */
    storage store;
    tensor other = direct ? *dx.t : image_like(dx.t, &store, SCRATCH_RESULT);
    onednn_plan *plan = plan_of(ONEDNN_CONV_GRAD_INPUT, &c, false);
    void *weights = arranged(plan, ONEDNN_CONV_GRAD_INPUT_WEIGHTS, &c, false, w);
    onednn_run(plan,
               (void *[]){tensor_data(&other), weights, conv_channels_last(g, SCRATCH_INPUT)});
    omp_set_num_threads(threads);
    if (!direct)
        give(dx.t, &other, dx.add);
}
