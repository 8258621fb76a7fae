/*
 * bf16 -- the upper half of an f32: the same 8 bits of exponent, 7 of fraction instead of 23.
 *
 *     f32    s eeeeeeee fffffffffffffffffffffff
 *     bf16   s eeeeeeee fffffff
 *
 * Kernels keep it as uint16_t and compute in f32. Both functions are a few integer operations
 * without a branch, so that the loops around them become vector code.
 */
#ifndef TORC_CPU_BF16_H
#define TORC_CPU_BF16_H

#include <stdint.h>
#include <string.h>

static inline float bf16_to_f32(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even; beyond the range becomes infinity. A NaN is kept one by setting a
 * bit that survives: the rounding alone could carry its fraction away and leave an infinity. */
static inline uint16_t bf16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t nan = bits >> 16 | 0x40;
    return (uint16_t)(value != value ? nan : rounded);
}

#endif
