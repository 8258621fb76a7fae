/* rng -- see rng.h. */
#include "core/rng.h"

#define BATCH_BITS 28 /* of a counter, above 36 bits for the draws (in fours) of a batch */

static rng_place now;

void torc_seed(uint64_t value)
{
    now = (rng_place){.seed = value};
}

void rng_enter(uint64_t number, uint64_t batch)
{
    now.stream = number;
    now.position = batch << (64 - BATCH_BITS);
}

rng_place rng_here(void)
{
    return now;
}

void rng_return(rng_place place)
{
    now = place;
}

/* Stream 0 is the seed itself. The multiplier is odd, so that no two streams have one key. */
static uint64_t key_of(uint64_t number)
{
    return now.seed ^ number * 0x9E3779B97F4A7C15u;
}

static uint64_t take(int64_t draws)
{
    uint64_t first = now.position;
    now.position += ((uint64_t)draws + 3) / 4;
    return first;
}

uint64_t rng_take(int64_t draws, uint64_t *key)
{
    *key = key_of(now.stream);
    return take(draws);
}

/* A stream that was entered belongs to one share already. */
uint64_t rng_take_own(int64_t draws, uint64_t *key)
{
    *key = key_of(now.stream ? now.stream : (uint64_t)base_world()->place << 32);
    return take(draws);
}
