/* rng -- see rng.h. */
#include "core/rng.h"

#define BATCH_BITS 28 /* of a counter, above 36 bits for the draws (in fours) of a batch */

static uint64_t seed, stream, position;

void torc_seed(uint64_t value)
{
    seed = value;
    stream = position = 0;
}

void rng_enter(uint64_t number, uint64_t batch)
{
    stream = number;
    position = batch << (64 - BATCH_BITS);
}

/* Stream 0 is the seed itself. The multiplier is odd, so that no two streams have one key. */
static uint64_t key_of(uint64_t number)
{
    return seed ^ number * 0x9E3779B97F4A7C15u;
}

static uint64_t take(int64_t draws)
{
    uint64_t first = position;
    position += ((uint64_t)draws + 3) / 4;
    return first;
}

uint64_t rng_take(int64_t draws, uint64_t *key)
{
    *key = key_of(stream);
    return take(draws);
}

/* A stream that was entered belongs to one share already. */
uint64_t rng_take_own(int64_t draws, uint64_t *key)
{
    *key = key_of(stream ? stream : (uint64_t)base_world()->place << 32);
    return take(draws);
}
