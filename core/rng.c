/* rng -- see rng.h. */
#include "core/rng.h"

static uint64_t seed, position;

void torc_seed(uint64_t value)
{
    seed = value;
    position = 0;
}

uint64_t rng_take(int64_t draws, uint64_t *key)
{
    uint64_t first = position;
    position += ((uint64_t)draws + 3) / 4;
    *key = seed;
    return first;
}
