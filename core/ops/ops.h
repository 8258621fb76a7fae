/*
 * ops -- what the files of this folder share, and the few ops that only the house itself calls.
 *
 * Every op is written in one order: formula, shape rule, forward, backward. It takes handles, so
 * that a layer or another op may call it as a user does, passing the user's site on.
 */
#ifndef TORC_OPS_H
#define TORC_OPS_H

#include "core/kernels.h"

/* All elements in row-major order, converted. */
void tensor_read(const call *c, tensor *t, torc_dtype dtype, void *buffer);
void tensor_write(const call *c, tensor *t, torc_dtype dtype, const void *buffer);

/* tensor_of() and the check that the device computes in its dtype. */
tensor *op_number(const call *c, torc_tensor *handle);
/* The same, and that the dtype is a float one. */
tensor *op_float(const call *c, torc_tensor *handle);
void op_same_dtype(const call *c, const tensor *a, const tensor *b);
/* A one-element result of arithmetic on losses keeps the weight of what it was made from (torc.h:
 * torc_set_weight). */
void op_pass_weight(tensor *out, const tensor *a, const tensor *b);
/* For ops whose kernels know f32 and f64 only: the dtype to compute in for inputs of this one. */
static inline torc_dtype op_compute_dtype(torc_dtype dtype)
{
    return dtype_is_low(dtype) ? TORC_F32 : dtype;
}

/* A view with the last two dimensions exchanged; released with tensor_drop(). */
tensor *op_turned(const call *c, const tensor *t);
/* out (+)= a b, of any strides; dtypes as the kernel takes them. */
void op_multiply(const call *c, tensor *out, tensor *a, tensor *b, bool add);
/* Is the gradient of this op a function of its result alone, so that its input need not be kept?
 * Where it is not, it is one of the input alone, but for rsqrt. */
bool op_gradient_reads_result(elementwise_op op);
/* A row of elementwise.def without scalars, by its number; x itself for EW_NONE. */
torc_tensor *op_activation(torc_site at, torc_tensor *x, elementwise_op act);
/* act(x w^T + bias): torc_linear_op() with an activation (EW_NONE: none) at the end of its kernel.
 */
torc_tensor *op_linear_act(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *bias,
                           elementwise_op act);

/* x [B, T, 3 D] holding q, k, v side by side -> [B, T, D]: attention of `heads` heads that reads q,
 * k and v where they are, and whose backward writes their gradients where the projection's gradient
 * is. */
torc_tensor *op_qkv_attention(torc_site at, torc_tensor *qkv, int heads, bool causal);
/* act(torc_conv2d_op(..)), bit for bit, in one pass; act a row of elementwise.def without scalars,
 * or EW_NONE. */
torc_tensor *op_conv2d_act(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *bias,
                           torc_conv2d_options o, elementwise_op act);
/* *sum = x + branch and layer norm of *sum, the same bits as those of torc_add() and
 * torc_layer_norm_op(), in one pass where x and branch are of one shape and dtype. */
torc_tensor *op_add_layer_norm(torc_site at, torc_tensor *x, torc_tensor *branch, torc_tensor *w,
                               torc_tensor *b, double eps, torc_tensor **sum);
/* A result [N, C, H, W] stored as NHWC, the order in which convolution and pooling run fastest. */
tensor *op_channels_last(const call *c, const int64_t *shape, torc_dtype dtype);
/* x itself, shared, if it is dense as NCHW or NHWC; else a contiguous copy. Released with
 * tensor_drop(). */
tensor *op_image(const call *c, tensor *x);
/* The size of a dimension after a window has passed over it; dies when the window does not fit. */
int64_t op_windows(const call *c, int64_t size, window how);

#endif
