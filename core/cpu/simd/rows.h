/*
 * rows -- what the kernels over rows of the last dimension share: sums that stay exact on long
 * rows, and the logarithm of a sum of powers.
 *
 * A row is summed in stretches, in T and in the lanes of a vector; the stretches are added in
 * double. The error so does not grow with the row's length. For f32, f64 and bf16, as vector.h.
 */
#ifndef TORC_CPU_SIMD_ROWS_H
#define TORC_CPU_SIMD_ROWS_H

#include "core/cpu/simd/vector.h"

/* Of a weight or bias that may be missing. */
static inline void *data_or_null(const tensor *t)
{
    return t ? tensor_data(t) : NULL;
}

#define ROW_STRETCH 1024

/* Of a tensor's last dimension; a single number is a row of one. */
static inline int64_t row_length(const tensor *t)
{
    return t->ndim ? t->shape[t->ndim - 1] : 1;
}

static inline int64_t row_count(const tensor *t)
{
    int64_t rows = 1;
    for (int d = 0; d < t->ndim - 1; d++)
        rows *= t->shape[d];
    return rows;
}

#define EACH "core/cpu/simd/rows.h"
#include "core/cpu/simd/each.h"

#elif defined T

/* The largest of a row; NaN is never larger, -inf for an empty row. */
static inline T F(row_max)(const E *x, int64_t n)
{
    F(vec) largest = (F(vec)){0} - (T)INFINITY;
    for (int64_t i = 0; i < n; i += LANES(T))
        largest = F(larger)(F(read_some)(x + i, n - i, -(T)INFINITY), largest);
    return F(max_lanes)(largest);
}

static inline double F(row_sum)(const E *x, int64_t n)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sum = {0};
        for (int64_t i = first; i < min_i64(n, first + ROW_STRETCH); i += LANES(T))
            sum += F(read_some)(x + i, n - i, 0);
        total += F(sum_lanes)(sum);
    }
    return total;
}

/* The sum of e^(x - shift); `powers`, if not NULL, gets the terms. */
static ALWAYS_INLINE double F(row_sum_exp)(T *powers, const E *x, int64_t n, T shift)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sum = {0};
        for (int64_t i = first; i < min_i64(n, first + ROW_STRETCH); i += LANES(T)) {
            F(vec) power = F(exp)(F(read_some)(x + i, n - i, -(T)INFINITY) - shift);
            sum += power;
            if (powers)
                F(store_some)(powers + i, power, n - i);
        }
        total += F(sum_lanes)(sum);
    }
    return total;
}

/* log of the sum of e^x. An infinite maximum is no shift: inf - inf would make a NaN of a row that
 * has an answer, -inf where all are -inf and inf where one is. */
static inline T F(row_lse)(const E *x, int64_t n)
{
    T largest = F(row_max)(x, n), shift = isinf(largest) ? 0 : largest;
    return (T)(shift + log(F(row_sum_exp)(NULL, x, n, shift)));
}

#undef T
#undef E
#undef F
#endif
