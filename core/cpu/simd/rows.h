/*
 * rows -- what the kernels over rows of the last dimension share: an exponential, and sums that
 * stay exact on long rows.
 *
 * Every function exists for float and for double, name_f32 and name_f64: this file includes itself
 * once for each, with T the type and F(name) the name. softmax.c and others do the same.
 */
#ifndef TORC_CPU_SIMD_ROWS_H
#define TORC_CPU_SIMD_ROWS_H

#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"

#include <math.h>
#include <string.h>

/* A row is summed in stretches of so many elements, in T and in the lanes of a vector; the
 * stretches are added in double. The error so does not grow with the row's length. */
#define ROW_STRETCH 1024

/*
 * e^x, 1 ulp off (2 without FMA). x = n ln 2 + r with |r| <= ln 2 / 2; e^r is a polynomial (Cephes
 * expf); 2^n goes into the exponent's bits. Adding 1.5 2^23 rounds to an integer and leaves that in
 * the lowest bits. The bounds make n -127 and 128, whose bits are those of 0 and infinity: so e^x
 * is 0 below -87.7 and infinite above 88.4. No branch and no call: a loop over it becomes vector
 * code, whose remainder has the same bits as its vectors. NaN stays NaN.
 */
static inline float exp_f32(float x)
{
    x = x < -88.0f ? -88.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    uint32_t bits;
    float power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline double exp_f64(double x)
{
    return exp(x);
}

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/rows.h"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/rows.h"

#elif defined T

/* The largest of a row; NaN is never larger, -inf for an empty row. */
static inline T F(row_max)(const T *x, int64_t n)
{
    T largest = -(T)INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static inline double F(row_sum)(const T *x, int64_t n)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        int64_t last = min_i64(n, first + ROW_STRETCH);
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < last; i++)
            sum += x[i];
        total += sum;
    }
    return total;
}

/* The sum of e^(x - shift). */
static inline double F(row_sum_exp)(const T *x, int64_t n, T shift)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        int64_t last = min_i64(n, first + ROW_STRETCH);
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < last; i++)
            sum += F(exp)(x[i] - shift);
        total += sum;
    }
    return total;
}

/* log of the sum of e^x. An infinite maximum is no shift: inf - inf would make a NaN of a row that
 * has an answer, -inf where all are -inf and inf where one is. */
static inline T F(row_lse)(const T *x, int64_t n)
{
    T largest = F(row_max)(x, n), shift = isinf(largest) ? 0 : largest;
    return (T)(shift + log(F(row_sum_exp)(x, n, shift)));
}

#undef T
#undef F
#endif
