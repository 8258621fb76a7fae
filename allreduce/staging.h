/*
 * staging -- gradients that are in a GPU's memory, on their way to the mean: summed by the GPUs
 * themselves, or through the host's memory.
 *
 *     kernels   . . . B0 is final . . . B1 is final . . .  end | scale B0, B1 | optimizer
 *     beside          [-- sum of B0 --] [-- sum of B1 --] -----^
 *
 *     GPU    [ . . . | bucket 0 | bucket 1 | ... ]     where backward writes and optimizers read
 *                         |  ^
 *                   fetch |  | put
 *                         v  |
 *     team   [ . . . | bucket 0 | bucket 1 | ... ]     where the ranks' sums are made, as on a CPU
 *
 * The host is for ranks whose GPUs do not talk to each other, those that share one among them, and
 * for sums that follow one tree. The team's buffers are pinned, so copies go on beside the kernels.
 * On a CPU gradients are born in the team's buffer: nothing of this does anything there.
 *
 * Between GPUs the hosts agree on the weights alone (reducer.h), and wait for nothing else: the
 * sums are ordered before the optimizer by events. A rank that never comes is missed there.
 */
#ifndef TORC_STAGING_H
#define TORC_STAGING_H

#include "allreduce/bucket.h"

/* Memory of the device for a plan's gradients, zeros, after its team was opened. */
storage *staging_open(bucket_plan *p, size_t bytes);
/* The same for something else. */
storage *staging_memory(size_t bytes);
void staging_close(bucket_way way, team *t);

/* Bucket i, whose gradients are final, starts on its way. */
torc_status staging_start(const bucket_plan *p, int i);
/* It is in the team's memory, or needs not be. */
bool staging_is_here(const bucket_plan *p, int i);
/* The GPUs have summed it. */
bool staging_is_summed(const bucket_plan *p, int i);
/* The bucket goes back, or its sum is multiplied by `scale`; `carried` (NULL: nothing), as
 * staging_read() gave it, is added. */
void staging_end(const bucket_plan *p, int i, double scale, void *carried);
/* All parts of bucket i, in memory laid out like the plan's, become those that their ranks have.
 * Between GPUs it is queued beside the kernels, in the order of asking, and done for those that
 * come after staging_rejoin(); else it waits. */
torc_status staging_gather(const bucket_plan *p, comm *c, int i, storage *memory, const char *name);
void staging_rejoin(const bucket_plan *p, int i);
/* An f64 in the device's memory becomes its sum over all ranks; in the order of kernels. */
torc_status staging_add_up(const bucket_plan *p, double *value);
/* Copies it to the host's memory `to`, and waits. */
void staging_read(const bucket_plan *p, int i, void *to);

/* The values of t, which is dense, in the order of memory, where the host can read them: its own
 * memory or a copy, which staging_host_free() ends. */
void *staging_host(const tensor *t);
void staging_host_free(const tensor *t, void *values);
/* comm_broadcast() of t's values from rank 0. */
torc_status staging_broadcast(comm *c, tensor *t, const char *name);

#endif
