/*
 * peers -- what an op may ask of the other ranks: one sum.
 *
 *     core/ops  --- peers_sum() --->  [ socket ]  <--- peers_set_sum() ---  allreduce/job.c
 *
 * This room knows no communicator, and needs none but for the ops whose result depends on the
 * global batch (norm.c: the statistics of synchronised batch norm). The job plugs in what serves
 * the sum; alone, nothing is plugged in, and a sum over one rank is the value itself.
 */
#ifndef TORC_PEERS_H
#define TORC_PEERS_H

#include "core/base.h"

typedef void (*peers_sum_function)(torc_site at, const char *op, double *values, int64_t count);

/* Each of the `count` values becomes its sum over all ranks; all get the same bits. Every rank must
 * call it, in the same order and with the same count: ranks wait for each other here, up to the
 * job's deadline. A call costs a message whatever the count, so ask for many values at once. `op`
 * names the caller in messages, up to 47 bytes. */
void peers_sum(torc_site at, const char *op, double *values, int64_t count);

/* Plugs in what serves the sums; NULL: this process is alone again. */
void peers_set_sum(peers_sum_function sum);

#endif
