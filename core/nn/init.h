/*
 * init -- how layers start. Draws come from the counter-based generator (rng.h), so a network
 * starts the same on every rank and on any number of them.
 */
#ifndef TORC_INIT_H
#define TORC_INIT_H

#include "core/tensor.h"

/* A tape tensor of values even in (-bound, bound), for torc_parameter() to keep. */
torc_tensor *init_uniform(torc_site at, torc_shape shape, double bound);
/* 1 / sqrt(fan_in), which is PyTorch's kaiming_uniform with a = sqrt(5) (He et al. 2015); 0 for a
 * fan-in of 0. */
double init_bound(int64_t fan_in);

#endif
