/*
 * gradients -- checks an op's backward against finite differences, in f64, over the layouts that
 * its inputs may come in.
 *
 *     static torc_tensor *product(torc_tensor *const *in, const void *how)
 *     {
 *         return torc_matmul(in[0], in[1]);
 *     }
 *     torc_shape shapes[] = {TORC_SHAPE(2, 3), TORC_SHAPE(3, 4)};
 *     check_gradients("matmul", product, NULL, 2, shapes, -1, 1);
 *
 * Each input comes as a contiguous tensor, as a view with its dimensions stored in reverse, and as
 * every other element of a larger tensor. The scalar that is differentiated is a weighted sum of
 * the op's result, so that each element counts differently.
 */
#ifndef TESTS_GRADIENTS_H
#define TESTS_GRADIENTS_H

#include "core/torc.h"

typedef torc_tensor *(*test_op)(torc_tensor *const *in, const void *how);

/* Inputs are drawn evenly from (low, high), all different. Fails the test, naming the worst
 * element, beyond 1e-6. */
void check_gradients(const char *name, test_op f, const void *how, int n, const torc_shape *shape,
                     double low, double high);

#endif
