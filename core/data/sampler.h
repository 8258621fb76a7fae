/*
 * sampler -- which samples make global batch k: a function of (seed, epoch, k), the same on any
 * number of ranks.
 *
 * The order of an epoch is a permutation that is computed, not stored: a Feistel network (Luby &
 * Rackoff 1988) over the next even power of two, walked again until the value falls inside (Black &
 * Rogaway 2002), with Philox as its round function.
 *
 *     global batch of 10, 3 ranks:   | 0 1 2 | 3 4 5 | 6 7 8 9 |      shares differ by at most one
 */
#ifndef TORC_SAMPLER_H
#define TORC_SAMPLER_H

#include "core/base.h"

typedef struct sampler {
    int64_t size, batch;
    bool shuffle, drop_last;
    uint64_t seed;
} sampler;

int64_t sampler_batches(const sampler *s); /* in an epoch */
/* Samples of batch `k` of `epoch` over all ranks. */
int64_t sampler_batch_size(const sampler *s, int64_t k);
/* Rank's share is the samples first .. end - 1 of the batch. */
void sampler_share(int64_t batch, int rank, int ranks, int64_t *first, int64_t *end);
/* The number of the sample at `place` of the epoch's order. */
int64_t sampler_at(const sampler *s, int64_t epoch, int64_t place);

#endif
