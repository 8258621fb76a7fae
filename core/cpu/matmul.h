/*
 * matmul -- a product in the form that matmul.c brings it into, for the files that compute it.
 */
#ifndef TORC_CPU_MATMUL_H
#define TORC_CPU_MATMUL_H

#include "core/base.h"

typedef struct matrix {
    char *data;
    int64_t row, column;          /* strides of the last two dimensions */
    int64_t batch[TORC_MAX_DIMS]; /* of the leading ones */
} matrix;

typedef struct product {
    torc_dtype dtype, out_dtype, bias_dtype; /* f32 out of bf16 is the one mixture */
    int batches;
    int64_t batch[TORC_MAX_DIMS];
    int64_t m, n, k;
    matrix a, b, out;
    char *bias; /* [n], or NULL */
    bool add;
} product;

/* matmul_cut.c: products whose rows are shared out over the threads by hand. */
void matmul_run_f64(const product *p);
/* f32, with the same bits on any number of threads. */
void matmul_run_blocks(const product *p);

#endif
