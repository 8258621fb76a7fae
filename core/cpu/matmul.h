/*
 * matmul -- a product in the form that matmul.c brings it into, for the files that compute it.
 */
#ifndef TORC_CPU_MATMUL_H
#define TORC_CPU_MATMUL_H

#include "core/product.h"

/* matmul_cut.c: products whose rows are shared out over the threads by hand. */
void matmul_run_f64(const product *p);
/* f32, with the same bits on any number of threads. */
void matmul_run_blocks(const product *p);

#endif
