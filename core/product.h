/*
 * product -- out (+)= a b + bias in a form of few cases, whichever device computes it.
 *
 *     by rows     stride 1 along a row (C's order); by columns: stride 1 along a column
 *     the form    out is by rows (out^T = b^T a^T where it is not); a and b are by rows or by
 *                 columns; leading dimensions of size 1 are gone, those that are one run of memory
 *                 are joined, and many matrices times one are one product of all their rows
 */
#ifndef TORC_PRODUCT_H
#define TORC_PRODUCT_H

#include "core/kernels.h"

typedef struct matrix {
    char *data;
    int64_t row, column;          /* strides of the last two dimensions */
    int64_t batch[TORC_MAX_DIMS]; /* of the leading ones; 0 where it repeats */
} matrix;

typedef struct product {
    torc_dtype dtype, out_dtype, bias_dtype; /* f32 out of bf16 or f16: no other mixture */
    int batches;
    int64_t batch[TORC_MAX_DIMS];
    int64_t m, n, k;
    matrix a, b, out;
    char *bias; /* [n], or NULL */
    bool add;
} product;

/* The form of a row `matmul` (core/kernels.def) whose dimensions are all positive and whose bias,
 * if any, product_takes_bias(). */
product product_of(const tensor *out, const tensor *a, const tensor *b, const tensor *bias,
                   bool add);
/* Whether the bias is a row beside rows of out, in the order of memory. */
bool product_takes_bias(const tensor *out, const tensor *bias);
/* out (+)= bias in every row, or 0 without one: where a product starts whose bias is not taken, and
 * all there is of one without inner dimension. What is left to do is added to it. */
void product_start(const kernels *k, tensor *out, const tensor *bias, bool add);

#endif
