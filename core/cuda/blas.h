/*
 * blas -- cuBLASLt, the library that multiplies matrices on the GPU.
 *
 *     product -- key --> [plan][plan][plan] ... at most BLAS_PLANS
 *                          |     the plan not used for longest makes room for a new one
 *                          '--> cublasLtMatmul() with this call's pointers
 *
 *     plan     the descriptions of the matrices and the code that cuBLASLt's heuristic chose for
 *              them, which takes it some 20 to 100 us
 *     key      the numbers that decide which plan a product needs: all but its pointers, of which
 *              the alignment counts
 *
 * The library is several hundred MB, and is opened by the first product: the rest of torc starts
 * without it, and runs where no CUDA is installed. f32 is multiplied in f32, never in TF32:
 * torc_set_matmul_precision() has bf16 or f16 operands instead. The same input gives the same bits
 * on GPUs of one model: where the heuristic cuts K, the parts are added in order.
 */
#ifndef TORC_CUDA_BLAS_H
#define TORC_CUDA_BLAS_H

#include "core/cuda/cuda.h"
#include "core/product.h"

#ifndef BLAS_PLANS
#define BLAS_PLANS 512 /* some 2 KiB each */
#endif
#define BLAS_BATCH 65535 /* matrices in one call */

/* What happens to the result on its way to memory. */
typedef struct blas_finish {
    bool gelu; /* in its tanh form */
    void *pre; /* what it was applied to, laid out like out; NULL: not wanted */
} blas_finish;

/* Queues a product of which at most the last leading dimension is more than 1, and that at most
 * BLAS_BATCH. False, and nothing is done: cuBLAS has no code for this finish. */
bool blas_multiply(const product *p, blas_finish finish);

#endif
