/*
 * shard -- the optimizer divided over the ranks of a host: each keeps the state of its slices and
 * updates them, in parameters that all of them share (ZeRO stage 1: Rajbhandari et al. 2020).
 *
 *     backward    ends when every rank of the host has; nothing has been added yet
 *     torc_step   rank 0: slice 0 = sum of all gradients' slice 0, update -> parameters, slice 0
 *                 rank 1: slice 1 = sum of all gradients' slice 1, update -> parameters, slice 1
 *
 * The sum of a few thousand elements goes from the cache into the update: gradients are read once
 * and written never. Parameters exist once a host, optimizer state once a host; between hosts the
 * slices travel while backward runs, and every host updates with the same numbers.
 *
 * After backward a rank's gradients are its own part of the sum, not the mean: torc_grad() refuses
 * them until something that must see all of them, as clipping, has had them gathered.
 */
#ifndef TORC_SHARD_H
#define TORC_SHARD_H

#include "allreduce/reducer.h"

/* Moves the parameters into memory that the ranks of the host share, and has the optimizer ask who
 * owns what. The reducer was made with .shard; every rank calls it. */
void shard_attach(reducer *r, torc_site at);

#endif
