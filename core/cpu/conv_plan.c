/*
 * conv_plan -- how oneDNN is told of a convolution, and the plans that come of it.
 *
 *     images     channels last (NHWC), f32 or bf16
 *     weights    in a layout that oneDNN chooses; a second plan rearranges the parameter into it,
 *                and a third one the gradient out of it: small copies
 *
 *                     x, w           y          g, w           dx        g, x           dw
 *     f32             f32            f32        f32            f32       conv_weight.c
 *     low             bf16           bf16, f32  bf16           bf16, f32 bf16           f32
 *
 * A bias is f32 beside any of them. Sums are f32 in all.
 */
#include "core/cpu/conv.h"

static onednn_key key_of(onednn_kind kind, const conv *c, bool flag)
{
    onednn_key key = onednn_key_of(kind);
    ONEDNN_KEY_ADD(&key, c->images, c->in, c->height, c->width, c->out, c->rows, c->columns,
                   c->how.kernel, c->how.stride, c->how.padding, c->how.dilation, c->how.groups,
                   c->operand, c->result, flag);
    return key;
}

/* ---- layouts ---- */

static dnnl_data_type_t type_of(torc_dtype dtype)
{
    return dtype == TORC_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_memory_desc_t image_layout(torc_dtype dtype, int64_t images, int64_t channels,
                                       int64_t rows, int64_t columns)
{
    dnnl_memory_desc_t layout;
    onednn_check(dnnl_memory_desc_init_by_tag(&layout, 4,
                                              (dnnl_dims_t){images, channels, rows, columns},
                                              type_of(dtype), dnnl_nhwc),
                 "describe an image");
    return layout;
}

/* [O, C / groups, k, k], with a dimension for groups in front where there are any; in the order of
 * the parameter, or in the order that suits the code. */
static dnnl_memory_desc_t weight_layout(const conv *c, torc_dtype dtype, bool any)
{
    int64_t groups = c->how.groups, k = c->how.kernel;
    dnnl_dims_t shape = {groups, c->out / groups, c->in / groups, k, k};
    dnnl_memory_desc_t layout;
    bool grouped = groups > 1;
    dnnl_format_tag_t tag = any ? dnnl_format_tag_any : grouped ? dnnl_abcde : dnnl_abcd;
    onednn_check(dnnl_memory_desc_init_by_tag(&layout, grouped ? 5 : 4, grouped ? shape : shape + 1,
                                              type_of(dtype), tag),
                 "describe weights");
    return layout;
}

/* ---- primitives ---- */

/* oneDNN picks the fastest code that it has for the layouts given. NULL: it has none for these
 * dtypes on this processor. */
static dnnl_primitive_desc_t choose(const dnnl_convolution_desc_t *what,
                                    const_dnnl_primitive_desc_t forward)
{
    dnnl_primitive_attr_t attributes = onednn_attributes(false);
    dnnl_primitive_desc_t chosen;
    dnnl_status_t status =
        dnnl_primitive_desc_create(&chosen, what, attributes, onednn_engine(), forward);
    dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_unimplemented)
        return NULL;
    onednn_check(status, "choose the code of a convolution");
    return chosen;
}

static dnnl_primitive_desc_t forward_of(const conv *c, torc_dtype result, bool has_bias)
{
    dnnl_memory_desc_t x = image_layout(c->operand, c->images, c->in, c->height, c->width);
    dnnl_memory_desc_t y = image_layout(result, c->images, c->out, c->rows, c->columns);
    dnnl_memory_desc_t w = weight_layout(c, c->operand, true), bias;
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

static void describe_grad_input(dnnl_convolution_desc_t *what, const conv *c,
                                const dnnl_convolution_desc_t *forward)
{
    dnnl_memory_desc_t dx = image_layout(c->result, c->images, c->in, c->height, c->width);
    dnnl_memory_desc_t w = weight_layout(c, c->operand, true);
    onednn_check(dnnl_dilated_convolution_backward_data_desc_init(
                     what, dnnl_convolution_direct, &dx, &w, &forward->dst_desc, forward->strides,
                     forward->dilates, forward->padding[0], forward->padding[1]),
                 "describe a convolution's gradient");
}

static void describe_grad_weight(dnnl_convolution_desc_t *what, const conv *c,
                                 const dnnl_convolution_desc_t *forward)
{
    dnnl_memory_desc_t dw = weight_layout(c, TORC_F32, true);
    onednn_check(dnnl_dilated_convolution_backward_weights_desc_init(
                     what, dnnl_convolution_direct, &forward->src_desc, &dw, NULL,
                     &forward->dst_desc, forward->strides, forward->dilates, forward->padding[0],
                     forward->padding[1]),
                 "describe a convolution's gradient");
}

/* A gradient of the same sizes: layouts, strides and padding are the forward's. */
static dnnl_primitive_desc_t gradient_of(onednn_kind kind, const conv *c)
{
    /* oneDNN asks for it as a hint */
    dnnl_primitive_desc_t forward = forward_of(c, c->operand, false);
    if (!forward)
        return NULL;
    const dnnl_convolution_desc_t *f;
    onednn_check(dnnl_primitive_desc_query(forward, dnnl_query_convolution_d, 0, &f),
                 "describe a convolution");
    dnnl_convolution_desc_t what;
    if (kind == ONEDNN_CONV_GRAD_INPUT)
        describe_grad_input(&what, c, f);
    else
        describe_grad_weight(&what, c, f);
    dnnl_primitive_desc_t chosen = choose(&what, forward);
    dnnl_primitive_desc_destroy(forward);
    return chosen;
}

/* ---- plans ---- */

onednn_plan *conv_plan(onednn_kind kind, const conv *c, bool bias)
{
    onednn_key key = key_of(kind, c, bias);
    onednn_plan *plan = onednn_find(&key);
    if (plan)
        return plan;
    bool forward = kind == ONEDNN_CONV;
    dnnl_primitive_desc_t chosen = forward ? forward_of(c, c->result, bias) : gradient_of(kind, c);
    if (!chosen)
        return NULL;
    if (forward)
        return onednn_keep(&key, chosen, bias ? 4 : 3,
                           (int[]){DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS});
    if (kind == ONEDNN_CONV_GRAD_INPUT)
        return onednn_keep(&key, chosen, 3,
                           (int[]){DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST});
    return onednn_keep(&key, chosen, 3,
                       (int[]){DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_SRC, DNNL_ARG_DIFF_DST});
}

static onednn_plan *rearrange_plan(const onednn_key *key, const dnnl_memory_desc_t *from,
                                   const dnnl_memory_desc_t *to, bool add)
{
    onednn_plan *plan = onednn_find(key);
    if (plan)
        return plan;
    dnnl_primitive_attr_t attributes = onednn_attributes(add);
    dnnl_primitive_desc_t chosen;
    onednn_check(dnnl_reorder_primitive_desc_create(&chosen, from, onednn_engine(), to,
                                                    onednn_engine(), attributes),
                 "choose the code that rearranges weights");
    dnnl_primitive_attr_destroy(attributes);
    return onednn_keep(key, chosen, 2, (int[]){DNNL_ARG_FROM, DNNL_ARG_TO});
}

void *conv_arranged(const onednn_plan *plan, onednn_kind kind, const conv *c, bool bias,
                    const tensor *w)
{
    const dnnl_memory_desc_t *wanted = onednn_layout(plan, DNNL_ARG_WEIGHTS);
    dnnl_memory_desc_t given = weight_layout(c, c->operand, false);
    onednn_key key = key_of(kind, c, bias);
    onednn_plan *arrange = rearrange_plan(&key, &given, wanted, false);
    void *weights = scratch(SCRATCH_WEIGHTS, dnnl_memory_desc_get_size(wanted));
    onednn_run(arrange, (void *[]){tensor_data(w), weights});
    return weights;
}

void conv_give_weight(const onednn_plan *plan, const conv *c, sink dw, float *sum)
{
    dnnl_memory_desc_t to = weight_layout(c, TORC_F32, false);
    onednn_key key = key_of(ONEDNN_CONV_GRAD_WEIGHT_RESULT, c, dw.add);
    onednn_plan *arrange =
        rearrange_plan(&key, onednn_layout(plan, DNNL_ARG_DIFF_WEIGHTS), &to, dw.add);
    onednn_run(arrange, (void *[]){sum, tensor_data(dw.t)});
}
