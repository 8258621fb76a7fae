/*
 * f16 -- IEEE half precision: 5 bits of exponent and 10 of fraction, in two bytes.
 *
 *     f32    s eeeeeeee fffffffffffffffffffffff     from 2^-149 to 3.4e38
 *     f16    s eeeee ffffffffff                     from 2^-24 to 65504
 *
 *     |x|    0 .......... 2^-14 ............................ 65504 .... 65520 .......
 *     f16    subnormal:   normal: 11 bits, the first          65504     infinite
 *            whole 2^-24  of them not stored
 *
 * Both functions compute every case and choose one, without a branch, so that the loops around them
 * become vector code.
 */
#ifndef TORC_CPU_F16_H
#define TORC_CPU_F16_H

#include <stdint.h>
#include <string.h>

static inline float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    float subnormal = (float)(int32_t)magnitude * 0x1p-24f, value;
    uint32_t small, normal = (magnitude << 13) + ((127 - 15) << 23);
    memcpy(&small, &subnormal, sizeof small);
    uint32_t special = magnitude << 13 | 0xff << 23; /* infinite or NaN, which keeps its bits */
    uint32_t bits = magnitude >= 0x7c00 ? special : magnitude >= 0x400 ? normal : small;
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even; from 65520 on it is infinite. A NaN stays one, and is quiet. */
static inline uint16_t f16_from_f32(float value)
{
    uint32_t bits, magnitude, small;
    memcpy(&bits, &value, sizeof bits);
    magnitude = bits & 0x7fffffff;
    float absolute;
    memcpy(&absolute, &magnitude, sizeof absolute);
    absolute += 0.5f; /* whose last bit is 2^-24: the addition rounds to what a subnormal has */
    memcpy(&small, &absolute, sizeof small);
    small -= 0x3f000000; /* 0.5: the last bits of the sum count units of 2^-24 */
    uint32_t kept = magnitude - ((127 - 15) << 23);
    uint32_t normal = (kept + 0xfff + (kept >> 13 & 1)) >> 13; /* 65520 carries into the exponent */
    uint32_t half = magnitude < 0x38800000 ? small : normal;   /* 2^-14 */
    half = magnitude >= 0x47800000 ? 0x7c00 : half;            /* 2^16 */
    half = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : half;
    return (uint16_t)(half | (bits >> 16 & 0x8000));
}

#endif
