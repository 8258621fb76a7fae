/* sampler -- see sampler.h. */
#include "core/data/sampler.h"

#include "core/rng.h"

#define ROUNDS 6

int64_t sampler_batches(const sampler *s)
{
    return s->size / s->batch + (!s->drop_last && s->size % s->batch > 0);
}

int64_t sampler_batch_size(const sampler *s, int64_t k)
{
    return min_i64(s->batch, s->size - k * s->batch);
}

void sampler_share(int64_t batch, int rank, int ranks, int64_t *first, int64_t *end)
{
    *first = batch * rank / ranks;
    *end = batch * (rank + 1) / ranks;
}

static int64_t permute(uint64_t value, int half_bits, uint64_t key, int64_t epoch)
{
    uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = value >> half_bits, right = value & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t draw[4];
        philox(key ^ (uint64_t)epoch * 0x9E3779B97F4A7C15u, round << 58 | right, draw);
        uint64_t next = left ^ (((uint64_t)draw[1] << 32 | draw[0]) & mask);
        left = right;
        right = next;
    }
    return (int64_t)(left << half_bits | right);
}

int64_t sampler_at(const sampler *s, int64_t epoch, int64_t place)
{
    if (!s->shuffle || s->size < 2)
        return place;
    int half_bits = 1;
    while ((int64_t)1 << (2 * half_bits) < s->size)
        half_bits++;
    int64_t at = place;
    do
        at = permute((uint64_t)at, half_bits, s->seed, epoch);
    while (at >= s->size);
    return at;
}
