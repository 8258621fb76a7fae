/*
 * kernels -- the table of structured kernels, one row each in kernels.def, that every device fills.
 *
 * An op checks shapes and dtypes, creates its result, and calls `kernels()->name(...)`; a kernel
 * only computes. A row without its function on a device does not link.
 */
#ifndef TORC_KERNELS_H
#define TORC_KERNELS_H

#include "core/clipping.h"
#include "core/tape.h"

/* The rows of ops/elementwise.def as numbers. EW_exp takes the input x; EW_exp_dx, its gradient,
 * takes x, y, g. EW_add takes a, b; EW_add_da and EW_add_db take a, b, y, g. */
typedef enum elementwise_op {
    EW_NONE = -1, /* where an op is optional */
#define UNARY(name, ...) EW_##name, EW_##name##_dx,
#define UNARY_P(name, ...) EW_##name, EW_##name##_dx,
#define UNARY_PQ(name, ...) EW_##name, EW_##name##_dx,
#define BINARY(name, ...) EW_##name, EW_##name##_da, EW_##name##_db,
#define COMPARE(name, value) EW_##name,
#define PREDICATE(name, value) EW_##name,
#include "core/ops/elementwise.def"
    EW_COUNT
} elementwise_op;

typedef enum reduce_op { REDUCE_SUM, REDUCE_MAX, REDUCE_MIN } reduce_op;

typedef struct window { /* of a convolution or a pooling, both directions alike */
    int kernel, stride, padding, dilation, groups;
} window;

/* A stretch of a parameter and what belongs to it: the optimizers pass over many of them in one
 * call. All f32. */
typedef struct stretch {
    float *p, *g, *m, *v; /* parameter, gradient, first and second moment (or momentum, NULL) */
    int64_t n;
} stretch;

typedef struct sgd_step {
    float lr, momentum, dampening, weight_decay;
    bool nesterov, first; /* first: the momentum buffer takes the gradient as it is */
} sgd_step;

typedef struct adam_step {
    float lr, beta1, beta2, eps, weight_decay;
    bool decoupled;      /* AdamW */
    double bias1, bias2; /* 1 - beta^t */
} adam_step;

/* The order in which several buffers are added, as steps for a stack: a number pushes the buffer of
 * that number, FOLD_ADD puts the sum of the two on top in their place. "0 1 + 2 3 + +" is the tree
 * (0 + 1) + (2 + 3). */
enum { FOLD_ADD = -1, FOLD_DEPTH = 16 /* places of the stack */ };
typedef struct fold_order {
    int length;
    int16_t *step;
} fold_order;

typedef struct kernels {
#define KERNEL(result, name, arguments) result(*name) arguments;
#include "core/kernels.def"
} kernels;

const kernels *kernels_here(void);    /* of device_current() */
const kernels *kernels_of_host(void); /* for memory that is the host's whatever the device */

#endif
