/*
 * replicas -- do all ranks hold the same numbers? Hashes of parameters and buffers travel, never
 * the values.
 */
#ifndef TORC_REPLICAS_H
#define TORC_REPLICAS_H

#include "comm/comm.h"
#include "core/nn/module.h"

/* Every rank calls it. Ends the job with the first rank that differs from rank 0, and the first
 * tensor in which it does. */
void replicas_verify(torc_site at, comm *c, torc_module *net, int64_t step);

#endif
