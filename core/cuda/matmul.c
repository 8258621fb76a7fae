/*
 * matmul -- out (+)= a b + bias on the GPU: the form of core/product.h, multiplied by cuBLASLt.
 *
 *     out [2, 3, 1000, M, N]      2 x 3 calls of 1000 matrices each
 *
 * A call takes one leading dimension, the longest; the others are walked.
 */
#include "core/cuda/blas.h"
#include "core/part.h"

__typeof__(*((kernels *)0)->matmul) cuda_matmul; /* of its row's type, or it does not compile */

static void swap(int64_t *x, int i, int j)
{
    int64_t was = x[i];
    x[i] = x[j];
    x[j] = was;
}

static void longest_last(product *p)
{
    int longest = 0, last = p->batches - 1;
    for (int d = 1; d < p->batches; d++)
        longest = p->batch[d] >= p->batch[longest] ? d : longest;
    if (p->batches == 0)
        return;
    swap(p->batch, longest, last);
    swap(p->a.batch, longest, last);
    swap(p->b.batch, longest, last);
    swap(p->out.batch, longest, last);
}

/* What a leading dimension has at `some`. */
static product part_of_batch(const product *p, int d, part some)
{
    product one = *p;
    int64_t item = (int64_t)torc_dtype_size(p->dtype);
    one.batch[d] = some.n;
    one.a.data += some.first * p->a.batch[d] * item;
    one.b.data += some.first * p->b.batch[d] * item;
    one.out.data += some.first * p->out.batch[d] * (int64_t)torc_dtype_size(p->out_dtype);
    return one;
}

/* Walks leading dimension d and those after it. */
static void run(const product *p, int d)
{
    if (d >= p->batches) {
        blas_multiply(p, (blas_finish){false, NULL});
        return;
    }
    int64_t size = d == p->batches - 1 ? BLAS_BATCH : 1;
    for (int64_t i = 0; i < part_count(p->batch[d], size); i++) {
        product some = part_of_batch(p, d, part_of(p->batch[d], size, i));
        run(&some, d + 1);
    }
}

void cuda_matmul(tensor *out, const tensor *a, const tensor *b, const tensor *bias, bool add)
{
    if (tensor_numel(out) == 0)
        return;
    if (a->shape[a->ndim - 1] == 0) {
        product_start(&cuda_kernels, out, bias, add);
        return;
    }
    if (bias && !product_takes_bias(out, bias)) {
        product_start(&cuda_kernels, out, bias, add);
        cuda_matmul(out, a, b, NULL, true);
        return;
    }
    product p = product_of(out, a, b, bias, add);
    longest_last(&p);
    run(&p, 0);
}
