/*
 * linear -- out = act(x w^T + bias) on the GPU.
 *
 *     gelu_tanh, Hopper or later,            in the product: cuBLASLt's epilogue, which writes pre
 *     to bf16 or f16                         on the way
 *     another activation                     the product writes pre, or out, and one pass over that
 *                                            applies act
 *
 * Before Hopper cuBLASLt's GELU was measured to be slower than a pass of its own (llm.c, pull
 * request 338). The epilogue applies act before pre is rounded. Where act is applied to pre again,
 * for a backward that did not keep out, the result may be the neighbour of what forward had.
 *
 * How exact its tanh is, and what its ReLU makes of a NaN, is not documented: a result in f32 gets
 * ours, and so does every ReLU.
 */
#include "core/cuda/blas.h"

__typeof__(*((kernels *)0)->linear) cuda_linear; /* of its row's type, or it does not compile */

static tensor turned(const tensor *w)
{
    tensor t = *w;
    t.shape[0] = w->shape[1], t.shape[1] = w->shape[0];
    t.stride[0] = w->stride[1], t.stride[1] = w->stride[0];
    return t;
}

/* cuBLASLt writes pre in rows of whole packs of 16 bytes only. */
static bool takes_gelu(const tensor *out, const tensor *pre, const tensor *x, elementwise_op act)
{
    bool packs = !pre || (out->shape[1] % 8 == 0 && (uintptr_t)tensor_data(pre) % 16 == 0);
    return act == EW_gelu_tanh && dtype_is_low(out->dtype) && packs && cuda_architecture() >= 90 &&
           tensor_numel(out) > 0 && x->shape[1] > 0;
}

void cuda_linear(tensor *out, tensor *pre, const tensor *x, const tensor *w, const tensor *bias,
                 elementwise_op act)
{
    tensor wt = turned(w), *target = pre ? pre : out;
    if (takes_gelu(out, pre, x, act)) {
        product p = product_of(out, x, &wt, bias, false);
        if (blas_multiply(&p, (blas_finish){true, pre ? tensor_data(pre) : NULL}))
            return;
    }
    cuda_kernels.matmul(target, x, &wt, bias, false);
    if (act != EW_NONE)
        cuda_kernels.elementwise(act, out, 1, (const tensor *[]){target}, 0, 0, false);
    else if (pre)
        cuda_kernels.copy(out, pre);
}
