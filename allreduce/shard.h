/*
 * shard -- the optimizer divided over ranks: each keeps the state of its slices and updates them
 * (ZeRO stage 1: Rajbhandari et al. 2020).
 *
 * On CPUs over the ranks of a host, in parameters that all of them share:
 *
 *     backward    ends when every rank of the host has; nothing has been added yet
 *     torc_step   rank 0: slice 0 = sum of all gradients' slice 0, update -> parameters, slice 0
 *                 rank 1: slice 1 = sum of all gradients' slice 1, update -> parameters, slice 1
 *
 * The sum of a few thousand elements goes from the cache into the update: gradients are read once
 * and written never. Parameters exist once a host, optimizer state once a host; between hosts the
 * slices travel while backward runs, and every host updates with the same numbers.
 *
 * On GPUs over all ranks, each of which has parameters of its own:
 *
 *     backward    bucket = part 0 | part 1 | part 2       reduce-scatter: rank r gets the sum of
 *                                                         part r, while backward goes on
 *     torc_step   rank r: update -> parameters, part r
 *                 allgather: all parts, to all ranks, of the last bucket first, which has the
 *                 parameters that a forward pass begins with
 *     forward     a kernel waits for the bucket whose parameters it reads, the host for none
 *
 * That is the traffic of an allreduce, cut in two by the update, and 1/ranks of the state. GPUs
 * that do not talk to each other send gradients through the host as ever (staging.h), and then
 * their parts of the parameters.
 *
 * After backward a rank's gradients are its own part of the sum, not the mean: torc_grad() refuses
 * them until something that must see all of them, as torc_clip_grad_norm(), has had them gathered.
 * What came through the host is whole.
 */
#ifndef TORC_SHARD_H
#define TORC_SHARD_H

#include "allreduce/reducer.h"

/* Moves the parameters into memory laid out like the buckets, on CPUs one that the ranks of the
 * host share, and has the optimizer ask who owns what. The reducer was made with .shard; every rank
 * calls it. */
void shard_attach(reducer *r, torc_site at);
/* Before the parameters may go. */
void shard_detach(reducer *r);

#endif
