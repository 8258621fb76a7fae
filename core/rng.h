/*
 * rng -- random numbers that are functions of a counter: Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * There is no state but a key (the seed) and a position. An op that needs n draws reserves a range
 * of counters; which draw an element gets depends on its index alone, never on threads or ranks.
 */
#ifndef TORC_RNG_H
#define TORC_RNG_H

#include "core/base.h"

/* Four 32-bit draws of (key, counter); on a GPU as well. */
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline void
    philox(uint64_t key, uint64_t counter, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Reserves counters for `draws` 32-bit draws of the generator that torc_seed() sets; returns the
 * first. */
uint64_t rng_take(int64_t draws, uint64_t *key);
/* The same, of draws that differ from rank to rank: for what acts on a share of the batch. */
uint64_t rng_take_own(int64_t draws, uint64_t *key);
/* From here on both draw from stream number `stream` (from 1), at the place that belongs to global
 * batch `batch`, until torc_seed(): what is drawn depends on nothing that happened before. */
void rng_enter(uint64_t stream, uint64_t batch);

/* Where the next draw is taken from: to take the same ones again (recompute.c). */
typedef struct rng_place {
    uint64_t seed, stream, position;
} rng_place;
rng_place rng_here(void);
void rng_return(rng_place place);

#endif
