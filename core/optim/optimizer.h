/*
 * optimizer -- what SGD and Adam share: the list of stretches over a net's parameters, their state,
 * the step.
 *
 *     parameters   [0.weight][0.bias][2.weight]...     a stretch each: where p and g are, and where
 * in the state m and v state m, v   [........................]          one piece of memory each
 *
 * A step is one kernel call over all stretches: one pass over parameters, gradients and state.
 */
#ifndef TORC_OPTIMIZER_H
#define TORC_OPTIMIZER_H

#include "core/kernels.h"

struct torc_optimizer {
    call made;
    torc_module *net;
    void (*update)(torc_optimizer *o, const stretch *s, int64_t n);
    float lr;
    int64_t steps;            /* done */
    torc_tensor **parameters; /* handles: they tell when the module has gone */
    int64_t count;
    storage *m, *v;  /* NULL where the rule has no such state */
    int64_t *offset; /* of each parameter in m and v, in elements */
    stretch *stretches;
    sgd_step sgd;
    adam_step adam;
};

/* A field that was left out means `usual`; TORC_ZERO means 0. */
float option_or(float given, float usual);

/* Checks that lr was given and that the parameters are f32, and makes the state: none, m, or m and
 * v. */
torc_optimizer *optimizer_new(const call *c, torc_module *net, float lr, int states);
/* Dies unless low <= value < high. */
void optimizer_check(const call *c, const char *name, float value, float low, float high);

/* The gradients of net that exist, as stretches, for the caller to free(). */
stretch *optimizer_gradients(const call *c, torc_module *net, int64_t *count);

#endif
