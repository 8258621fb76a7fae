/*
 * vmath -- functions of one number that become functions of a whole vector in a loop under `#pragma
 * omp simd`.
 *
 *     double   glibc's libmvec (link -lmvec before -lm): exp(x[i]) becomes one call of
 *              _ZGVbN2v_exp (SSE4), _ZGVdN4v_exp (AVX2) or _ZGVeN8v_exp (AVX-512)
 *     float    float_exp, float_tanh, float_erf, float_log1p below, without a branch or a call; the
 *              rest from libmvec
 *
 * glibc declares its variants in math.h for -ffast-math alone, which this project never uses, so
 * they are declared again here. All are right on NaN, infinities and zeros; within 4 ulp by glibc's
 * documentation, within 2.5 below (tanh; the others 1.5). A function that is not listed is called
 * element by element.
 */
#ifndef TORC_CPU_SIMD_VMATH_H
#define TORC_CPU_SIMD_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VECTOR_MATH(name) \
    extern __attribute__((simd("notinbranch"))) double name(double x); \
    extern __attribute__((simd("notinbranch"))) float name##f(float x);
VECTOR_MATH(exp)
VECTOR_MATH(log)
VECTOR_MATH(log1p)
VECTOR_MATH(tanh)
VECTOR_MATH(erf)
VECTOR_MATH(sin)
VECTOR_MATH(cos)
#undef VECTOR_MATH

extern __attribute__((simd("notinbranch"))) double pow(double x, double y);
extern __attribute__((simd("notinbranch"))) float powf(float x, float y);

#define float_log logf
#define float_pow powf
#define float_sqrt sqrtf
#define float_fabs fabsf

static inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x between -low and high, both positive: of positive floats the bits are ordered as integers, of
 * negative ones backwards. As comparisons of floats with constants the compiler would make a case
 * of its own of each bound, and blend the cases. A NaN becomes a bound. */
static inline float float_within(float x, float low, float high)
{
    int32_t above = (int32_t)float_bits(high), bits = (int32_t)float_bits(x);
    uint32_t below = float_bits(-low), smaller = (uint32_t)(bits < above ? bits : above);
    return float_of_bits(smaller < below ? smaller : below);
}

/* 2^n for n from -127, which gives 0, to 128, which gives infinity. */
static inline float float_power_of_2(int32_t n)
{
    return float_of_bits((uint32_t)(n + 127) << 23);
}

/*
 * e^x = 2^n e^r with |r| <= ln 2 / 2. Returns e^r - 1, a polynomial (Cephes expf), and leaves n.
 * Adding 1.5 2^23 rounds to an integer, which is then in the lowest bits; ln 2 is taken off in two
 * pieces, the first so short that n times it is exact. |x| must be below 2^21. Powers are summed in
 * pairs (Estrin), for one operation after the other would wait for its forerunner.
 */
static inline float float_exp_reduced(float x, int32_t *n)
{
    const float shift = 0x1.8p23f;
    float shifted = x * 1.44269504088896341f + shift, whole = shifted - shift;
    *n = (int32_t)(float_bits(shifted) - float_bits(shift));
    float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float s = r * r, p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * s + (r * 8.3334519073e-3f + 4.1665795894e-2f);
    p = p * s + (r * 1.6666665459e-1f + 5.0000001201e-1f);
    return p * s + r;
}

/* 2^n in two factors: either alone is a normal number where e^x is large, or small, as can be. */
static inline float float_exp(float x)
{
    int32_t n;
    float power = float_exp_reduced(float_within(x, 104, 89), &n) + 1; /* to 0 and infinity */
    power = power * float_power_of_2(n >> 1) * float_power_of_2(n - (n >> 1));
    return x != x ? x : power;
}

/* With m = e^(-2 |x|) - 1, which loses nothing where x is small: tanh |x| = -m / (2 + m). Beyond 44
 * 2^n is 0 and m is -1. */
static inline float float_tanh(float x)
{
    int32_t n;
    float reduced = float_exp_reduced(float_within(-2 * fabsf(x), 88, 0), &n);
    float scale = float_power_of_2(n), m = reduced * scale + (scale - 1);
    return x != x ? x : copysignf(-m / (2 + m), x);
}

/* Up to 0.928 a polynomial; above, 1 - e^p with p a polynomial that tends to -x^2. Polynomials: N.
 * Juffa, "Efficient faithfully-rounded implementation of error function erff()", Stack Overflow,
 * 2016. Both are computed for every x, so that no lane waits for another. */
static inline float float_erf(float x)
{
    int32_t n;
    float t = float_within(fabsf(x), 0, 4), s = t * t, f = s * s; /* erf 4 is 1 to the last bit */
    float near = s * -5.96761703e-4f + 4.99119423e-3f;
    near = near * f + (s * -2.67681349e-2f + 1.12819925e-1f);
    near = near * f + (s * -3.76125336e-1f + 1.28379166e-1f);
    near = near * x + x;
    float p = (t * -1.72853470e-5f + 3.83197126e-4f) * s + (t * -3.88396438e-3f + 2.42546219e-2f);
    p = p * t - 1.06777877e-1f;
    p = p * s - (t * 6.34846687e-1f + 1.28717512e-1f);
    p = p * t - t;
    float rest = float_exp_reduced(p, &n) + 1;
    float far = copysignf(1 - rest * float_power_of_2(n), x);
    return fabsf(x) > 0.927734375f ? far : near; /* near of NaN */
}

/* log(1 + x), for x from -0.29 to 1 only. Above sqrt(2) - 1 it is log 2 + log(1 + (x - 1) / 2);
 * either way what is left is a polynomial (Cephes logf). */
static inline float float_log1p(float x)
{
    float upper = x > 0.414213562f, f = upper != 0 ? 0.5f * x - 0.5f : x, s = f * f;
    float p = f * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    float low = p * s * f - 0.5f * s - upper * 2.12194440e-4f;
    return f + low + upper * 0.693359375f;
}

#endif
