/*
 * vector -- vectors of the level's full width as values, for loops that the compiler alone does not
 * turn into good vector code.
 *
 *     v4   16 floats or 8 doubles        v3   8 or 4        v2   4 or 2
 *
 * + - * / and comparisons work on them as they are (a GCC extension); a number next to a vector
 * counts for all its lanes. Every function exists for f32, f64 and bf16, name_f32 and so on: this
 * file includes itself once for each. So do the kernels built on it, with
 *
 *     T   the type computed in: float for bf16, whose vectors are those of f32
 *     E   the type in memory of activations, which read() and write() convert; load() and store()
 *         are for what is kept in T. Where E is T they are the same
 *     F(name)   the name
 */
#ifndef TORC_CPU_SIMD_VECTOR_H
#define TORC_CPU_SIMD_VECTOR_H

#include "core/cpu/bf16.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined __AVX512F__
#define VECTOR_BYTES 64
#define VECTOR_CALL(name) _mm512_##name
#elif defined __AVX__
#define VECTOR_BYTES 32
#define VECTOR_CALL(name) _mm256_##name
#else
#define VECTOR_BYTES 16
#define VECTOR_CALL(name) _mm_##name
#endif

#define LANES(type) ((int64_t)(VECTOR_BYTES / sizeof(type)))
#define ALWAYS_INLINE inline __attribute__((always_inline))

#define T float
#define E float
#define F(name) name##_f32
#define CALL(name) VECTOR_CALL(name##_ps)
#define LANE int32_t /* an integer of T's size: what comparisons and shuffles are told in */
#include "core/cpu/simd/vector.h"
#define T double
#define E double
#define F(name) name##_f64
#define CALL(name) VECTOR_CALL(name##_pd)
#define LANE int64_t
#include "core/cpu/simd/vector.h"
#define T float
#define E uint16_t
#define F(name) name##_bf16
#define CALL(name) VECTOR_CALL(name##_ps)
#define LANE int32_t
#include "core/cpu/simd/vector.h"

/* bf16 to float and back, a vector at a time: as bf16.h does it, one number at a time. */
typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));

static ALWAYS_INLINE vec_f32 widen(halves v)
{
#ifdef __AVX512F__ /* of which GCC 12 would make four instructions, in halves */
    return (vec_f32)((words)_mm512_cvtepu16_epi32((__m256i)v) << 16);
#else
    return (vec_f32)(__builtin_convertvector(v, words) << 16);
#endif
}

static ALWAYS_INLINE halves narrow(vec_f32 v)
{
    words bits = (words)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    words nan = bits >> 16 | 0x40, is_nan = (words)(v != v);
    return __builtin_convertvector((nan & is_nan) | (rounded & ~is_nan), halves);
}

#define READ(suffix, type, get, put) \
    static ALWAYS_INLINE vec_##suffix read_##suffix(const type *from) \
    { \
        return get; \
    } \
    static ALWAYS_INLINE void write_##suffix(type *to, vec_##suffix v) \
    { \
        put; \
    }
READ(f32, float, load_f32(from), store_f32(to, v))
READ(f64, double, load_f64(from), store_f64(to, v))
READ(bf16, uint16_t, widen(*(const halves *)from), *(halves *)to = narrow(v))

/* Of a row's next n numbers, as many as a vector holds; what is missing is `fill`. */
static ALWAYS_INLINE vec_f32 read_some_f32(const float *from, int64_t n, float fill)
{
    return load_some_f32(from, n, fill);
}

static ALWAYS_INLINE vec_f64 read_some_f64(const double *from, int64_t n, double fill)
{
    return load_some_f64(from, n, fill);
}

/* The fill is not rounded to bf16: so a mean, say, is one that a subtraction of it makes 0. */
static ALWAYS_INLINE vec_f32 read_some_bf16(const uint16_t *from, int64_t n, float fill)
{
    if (n >= LANES(float))
        return read_bf16(from);
#ifdef __AVX512F__
    __mmask16 there = (__mmask16)((1u << n) - 1);
    halves some = (halves)_mm256_maskz_loadu_epi16(there, from);
    return _mm512_mask_mov_ps((vec_f32){0} + fill, there, widen(some));
#else
    float lane[VECTOR_BYTES / sizeof(float)];
    store_f32(lane, (vec_f32){0} + fill);
    for (int64_t i = 0; i < n; i++)
        lane[i] = bf16_to_f32(from[i]);
    return load_f32(lane);
#endif
}

static ALWAYS_INLINE void write_some_f32(float *to, vec_f32 v, int64_t n)
{
    store_some_f32(to, v, n);
}

static ALWAYS_INLINE void write_some_f64(double *to, vec_f64 v, int64_t n)
{
    store_some_f64(to, v, n);
}

static ALWAYS_INLINE void write_some_bf16(uint16_t *to, vec_f32 v, int64_t n)
{
    if (n >= LANES(float)) {
        write_bf16(to, v);
        return;
    }
#ifdef __AVX512F__
    _mm256_mask_storeu_epi16(to, (__mmask16)((1u << n) - 1), (__m256i)narrow(v));
#else
    uint16_t lane[VECTOR_BYTES / sizeof(float)];
    write_bf16(lane, v);
    memcpy(to, lane, (size_t)n * sizeof *lane);
#endif
}

/*
 * e^x, 1 ulp off (2 without FMA). x = n ln 2 + r with |r| <= ln 2 / 2; e^r is a polynomial (Cephes
 * expf); 2^n goes into the exponent's bits. Adding 1.5 2^23 rounds to an integer and leaves that in
 * the lowest bits. The bounds make n -127 and 128, whose bits are those of 0 and infinity: so e^x
 * is 0 below -87.7 and infinite above 88.4. NaN stays NaN.
 */
static ALWAYS_INLINE vec_f32 exp_f32(vec_f32 x)
{
    const vec_f32 zero = {0};
    x = larger_f32(zero - 88.0f, x);
    x = smaller_f32(zero + 89.0f, x);
    vec_f32 shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
    vec_f32 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec_f32 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * (vec_f32)(((lanes_f32)shifted + 127) << 23);
}

#define exp_bf16 exp_f32

/* The C library's: gradient checks ask for accuracy, not speed. */
static ALWAYS_INLINE vec_f64 exp_f64(vec_f64 x)
{
    for (int i = 0; i < (int)LANES(double); i++)
        x[i] = exp(x[i]);
    return x;
}

#elif defined T

typedef T F(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef T F(loose_vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef uint8_t F(bytes) __attribute__((vector_size(VECTOR_BYTES / sizeof(T)))); /* one a lane */
typedef LANE F(lane);
typedef LANE F(lanes) __attribute__((vector_size(VECTOR_BYTES)));

static ALWAYS_INLINE F(vec) F(load)(const T *from)
{
    return *(const F(loose_vec) *)from;
}

static ALWAYS_INLINE void F(store)(T *to, F(vec) v)
{
    *(F(loose_vec) *)to = v;
}

/* Of a row's next n numbers, as many as a vector holds; what is missing is `fill`. */
static ALWAYS_INLINE F(vec) F(load_some)(const T *from, int64_t n, T fill)
{
    if (n >= LANES(T))
        return F(load)(from);
    F(vec) filled = (F(vec)){0} + fill;
#ifdef __AVX512F__
    return CALL(mask_loadu)(filled, (__mmask16)((1u << n) - 1), from);
#else
    T lane[VECTOR_BYTES / sizeof(T)];
    F(store)(lane, filled);
    memcpy(lane, from, (size_t)n * sizeof(T));
    return F(load)(lane);
#endif
}

static ALWAYS_INLINE void F(store_some)(T *to, F(vec) v, int64_t n)
{
    if (n >= LANES(T)) {
        F(store)(to, v);
        return;
    }
#ifdef __AVX512F__
    CALL(mask_storeu)(to, (__mmask16)((1u << n) - 1), v);
#else
    T lane[VECTOR_BYTES / sizeof(T)];
    F(store)(lane, v);
    memcpy(to, lane, (size_t)n * sizeof(T));
#endif
}

/* Of each lane; b where either is a NaN. */
static ALWAYS_INLINE F(vec) F(larger)(F(vec) a, F(vec) b)
{
    return CALL(max)(a, b);
}

static ALWAYS_INLINE F(vec) F(smaller)(F(vec) a, F(vec) b)
{
    return CALL(min)(a, b);
}

/* v, but 0 in the lanes where `not` holds. */
static ALWAYS_INLINE F(vec) F(unless)(F(vec) v, F(lanes) not )
{
    return (F(vec))((F(lanes))v & ~not );
}

/* a where the condition holds, else b. */
static ALWAYS_INLINE F(vec) F(choose)(F(lanes) condition, F(vec) a, F(vec) b)
{
    return (F(vec))(((F(lanes))a & condition) | ((F(lanes))b & ~condition));
}

/* Halves are added to halves: as exact as it gets, and short. Unrolled, the loops are a few
 * instructions on registers; as they stand the compiler would send every half through memory. */
static ALWAYS_INLINE T F(sum_lanes)(F(vec) v)
{
#ifdef __AVX512F__
    return CALL(reduce_add)(v);
#else
    T lane[VECTOR_BYTES / sizeof(T)];
    F(store)(lane, v);
#pragma GCC unroll 4
    for (int half = VECTOR_BYTES / sizeof(T) / 2; half; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
#endif
}

static ALWAYS_INLINE T F(max_lanes)(F(vec) v)
{
    T lane[VECTOR_BYTES / sizeof(T)];
    F(store)(lane, v);
#pragma GCC unroll 4
    for (int half = VECTOR_BYTES / sizeof(T) / 2; half; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

#undef T
#undef E
#undef F
#undef CALL
#undef LANE
#endif
