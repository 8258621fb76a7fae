/*
 * pick -- vectors of numbers as memory holds them, with a byte beside each that says which cell of
 * a window it is: what a max pool chooses, and what its gradient hands back.
 *
 *     items   LANES of E: bf16 too is not widened, so that a vector holds twice as many
 *     spots   a cell's number for each item, as wide as the item
 *     fits    for each item, whether a condition holds: a mask register (v4), or as wide as the
 *             item
 *     key     what items are compared by. Keys of numbers are ordered as these are
 *
 * Every function exists for f32, f64 and bf16: this file includes itself once for each. `n` is how
 * many of the vector's items are there; what is missing is 0, and not written.
 */
#ifndef TORC_CPU_SIMD_PICK_H
#define TORC_CPU_SIMD_PICK_H

#include "core/cpu/simd/vector.h"

#define E float
#define ITEM float
#define LANE int32_t
#define F(name) name##_f32
#ifdef __AVX512F__
#define MASK __mmask16
#define CALL(name) _mm512_##name##_epi32
#define CALL_BYTES(name) _mm_##name
#define NARROW(spots) _mm512_cvtepi32_epi8(spots)
#define BEATS(a, b) _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(b, b, _CMP_ORD_Q), a, b, _CMP_NLE_UQ)
#else
#define BEATS(a, b) (~((a <= b) | (b != b)))
#endif
#include "core/cpu/simd/pick.h"

#define E double
#define ITEM double
#define LANE int64_t
#define F(name) name##_f64
#ifdef __AVX512F__
#define MASK __mmask8
#define CALL(name) _mm512_##name##_epi64
#define CALL_BYTES(name) _mm_##name
#define NARROW(spots) _mm512_cvtepi64_epi8(spots)
#define BEATS(a, b) _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(b, b, _CMP_ORD_Q), a, b, _CMP_NLE_UQ)
#else
#define BEATS(a, b) (~((a <= b) | (b != b)))
#endif
#include "core/cpu/simd/pick.h"

#define E uint16_t
#define ITEM int16_t
#define LANE int16_t
#define F(name) name##_bf16
#ifdef __AVX512F__
#define MASK __mmask32
#define CALL(name) _mm512_##name##_epi16
#define CALL_BYTES(name) _mm256_##name
#define NARROW(spots) _mm512_cvtepi16_epi8(spots)
#define BEATS(a, b) _mm512_cmpgt_epi16_mask((__m512i)(a), (__m512i)(b))
#else
#define BEATS(a, b) ((a) > (b))
#endif
#include "core/cpu/simd/pick.h"

static ALWAYS_INLINE items_f32 key_f32(items_f32 v)
{
    return v;
}

static ALWAYS_INLINE items_f64 key_f64(items_f64 v)
{
    return v;
}

/* Sign and magnitude as an integer: 0 and -0 are one, and all NaN are one above infinity. */
static ALWAYS_INLINE items_bf16 key_bf16(items_bf16 v)
{
    items_bf16 magnitude = v & 0x7fff, sign = v >> 15, nan = magnitude > 0x7f80;
    items_bf16 number = (magnitude ^ sign) - sign;
    return (number & ~nan) | (nan & 0x7fff);
}

#elif defined E

typedef ITEM F(items) __attribute__((vector_size(VECTOR_BYTES)));
typedef ITEM F(loose_items) __attribute__((vector_size(VECTOR_BYTES), aligned(1), may_alias));
typedef LANE F(spots) __attribute__((vector_size(VECTOR_BYTES)));
typedef uint8_t F(marks) __attribute__((vector_size(VECTOR_BYTES / sizeof(E)))); /* in memory */

static ALWAYS_INLINE F(spots) F(spot)(int cell)
{
    return (F(spots)){0} + (LANE)cell;
}

#ifdef __AVX512F__

typedef MASK F(fits);

static ALWAYS_INLINE MASK F(first)(int64_t n)
{
    return (MASK)((UINT64_C(1) << n) - 1);
}

static ALWAYS_INLINE F(items) F(get)(const E *from, int64_t n)
{
    if (n >= LANES(E))
        return *(const F(loose_items) *)from;
    return (F(items))CALL(maskz_loadu)(F(first)(n), from);
}

static ALWAYS_INLINE void F(put)(E *to, F(items) v, int64_t n)
{
    if (n >= LANES(E))
        *(F(loose_items) *)to = v;
    else
        CALL(mask_storeu)(to, F(first)(n), (__m512i)v);
}

/* Where key a is larger than b, or a NaN and b is none. */
static ALWAYS_INLINE F(fits) F(beats)(F(items) a, F(items) b)
{
    return BEATS(a, b);
}

static ALWAYS_INLINE F(spots) F(pick_spots)(F(fits) which, F(spots) yes, F(spots) no)
{
    return (F(spots))CALL(mask_mov)((__m512i)no, which, (__m512i)yes);
}

static ALWAYS_INLINE void F(put_marks)(uint8_t *to, F(spots) spots, int64_t n)
{
    __typeof__(NARROW((__m512i)spots)) marks = NARROW((__m512i)spots);
    if (n >= LANES(E))
        memcpy(to, &marks, (size_t)LANES(E));
    else
        CALL_BYTES(mask_storeu_epi8)(to, F(first)(n), marks);
}

/* Marks are compared as they are. */
typedef __typeof__(NARROW((__m512i){0})) F(seen);

static ALWAYS_INLINE F(seen) F(get_marks)(const uint8_t *from, int64_t n)
{
    F(seen) marks = {0};
    if (n < LANES(E))
        return CALL_BYTES(maskz_loadu_epi8)(F(first)(n), from);
    memcpy(&marks, from, (size_t)LANES(E));
    return marks;
}

/* v where the mark says `cell`, else 0. */
static ALWAYS_INLINE F(items) F(marked)(F(items) v, F(seen) marks, int cell)
{
    MASK here = (MASK)CALL_BYTES(cmpeq_epi8_mask)(marks, CALL_BYTES(set1_epi8)((char)cell));
    return (F(items))CALL(maskz_mov)(here, (__m512i)v);
}

#else /* v2, v3 */

typedef F(spots) F(fits);

/* Halfway between a mark and a spot. Twice as wide at a time: more than that at once the compiler
 * does one by one. */
typedef uint16_t F(marks16) __attribute__((vector_size(2 * VECTOR_BYTES / sizeof(E))));
typedef uint32_t F(marks32) __attribute__((vector_size(4 * VECTOR_BYTES / sizeof(E))));

static ALWAYS_INLINE F(items) F(get)(const E *from, int64_t n)
{
    F(items) v = {0};
    if (n >= LANES(E))
        return *(const F(loose_items) *)from;
    memcpy(&v, from, (size_t)n * sizeof(E));
    return v;
}

static ALWAYS_INLINE void F(put)(E *to, F(items) v, int64_t n)
{
    if (n >= LANES(E))
        *(F(loose_items) *)to = v;
    else
        memcpy(to, &v, (size_t)n * sizeof(E));
}

static ALWAYS_INLINE F(fits) F(beats)(F(items) a, F(items) b)
{
    return (F(fits))BEATS(a, b);
}

static ALWAYS_INLINE F(spots) F(pick_spots)(F(fits) which, F(spots) yes, F(spots) no)
{
    return (yes & which) | (no & ~which);
}

static ALWAYS_INLINE void F(put_marks)(uint8_t *to, F(spots) spots, int64_t n)
{
    F(marks16)
    half = sizeof(E) == 2
               ? __builtin_convertvector(spots, F(marks16))
               : __builtin_convertvector(__builtin_convertvector(spots, F(marks32)), F(marks16));
    F(marks) marks = __builtin_convertvector(half, F(marks));
    if (n < LANES(E))
        memcpy(to, &marks, (size_t)n);
    else
        memcpy(to, &marks, sizeof marks);
}

typedef F(spots) F(seen);

static ALWAYS_INLINE F(seen) F(get_marks)(const uint8_t *from, int64_t n)
{
    F(marks) marks = {0};
    if (n < LANES(E))
        memcpy(&marks, from, (size_t)n);
    else
        memcpy(&marks, from, sizeof marks);
    F(marks16) wider = __builtin_convertvector(marks, F(marks16));
    if (sizeof(E) == 2)
        return __builtin_convertvector(wider, F(spots));
    return __builtin_convertvector(__builtin_convertvector(wider, F(marks32)), F(spots));
}

static ALWAYS_INLINE F(items) F(marked)(F(items) v, F(seen) marks, int cell)
{
    return (F(items))((F(spots))v & (marks == F(spot)(cell)));
}

#endif

static ALWAYS_INLINE F(items) F(pick)(F(fits) which, F(items) yes, F(items) no)
{
    return (F(items))F(pick_spots)(which, (F(spots))yes, (F(spots))no);
}

#undef E
#undef ITEM
#undef LANE
#undef F
#undef MASK
#undef CALL
#undef CALL_BYTES
#undef NARROW
#undef BEATS
#endif
