/*
 * softmax -- rows of the last dimension: softmax, log_softmax, logsumexp and their gradients.
 *
 *     softmax      y = e^(x - m) / sum e^(x - m)       dx = y (g - sum y g)
 *     log_softmax  y = x - lse                         dx = g - e^y sum g
 *
 * m is the row's maximum: the largest power is e^0. Rows are independent, so the number of threads
 * cannot be seen in the result.
 */
#ifndef T
#include "core/cpu/simd/rows.h"

/* Two passes of arithmetic over a row cost about as much as moving these bytes an element. */
#define ROW_WORK 16

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/softmax.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/softmax.c"

void SIMD(cpu_softmax)(tensor *out, const tensor *x, bool log)
{
    int64_t rows = row_count(x), n = row_length(x);
    if (rows == 0 || n == 0)
        return;
    if (x->dtype == TORC_F64)
        softmax_f64(tensor_data(out), tensor_data(x), rows, n, log);
    else
        softmax_f32(tensor_data(out), tensor_data(x), rows, n, log);
}

void SIMD(cpu_softmax_grad)(sink dx, const tensor *y, const tensor *g, bool log)
{
    int64_t rows = row_count(y), n = row_length(y);
    if (!dx.t || rows == 0 || n == 0)
        return;
    if (y->dtype == TORC_F64)
        softmax_grad_f64(tensor_data(dx.t), dx.add, tensor_data(y), tensor_data(g), rows, n, log);
    else
        softmax_grad_f32(tensor_data(dx.t), dx.add, tensor_data(y), tensor_data(g), rows, n, log);
}

void SIMD(cpu_logsumexp)(tensor *out, const tensor *x)
{
    int64_t rows = row_count(x), n = row_length(x); /* no columns: the sum is 0, its log -inf */
    if (x->dtype == TORC_F64)
        logsumexp_f64(tensor_data(out), tensor_data(x), rows, n);
    else
        logsumexp_f32(tensor_data(out), tensor_data(x), rows, n);
}

#else

/* Powers first, then their sum divides them: one exponential a number. */
static void F(softmax_row)(T *out, const T *x, int64_t n)
{
    double total = F(row_sum_exp)(out, x, n, F(row_max)(x, n));
    T factor = (T)(1 / total);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] *= factor;
}

/* The maximum is taken off before the small rest: x - lse at once would round lse to x's size. */
static void F(log_softmax_row)(T *out, const T *x, int64_t n)
{
    T largest = F(row_max)(x, n), rest = (T)log(F(row_sum_exp)(NULL, x, n, largest));
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = (x[i] - largest) - rest;
}

static void F(softmax)(T *out, const T *x, int64_t rows, int64_t n, bool log)
{
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * ROW_WORK))
    for (int64_t row = 0; row < rows; row++)
        (log ? F(log_softmax_row) : F(softmax_row))(out + row * n, x + row * n, n);
}

/* sum a b, in stretches as row_sum(). */
static double F(row_dot)(const T *a, const T *b, int64_t n)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sum = {0};
        for (int64_t i = first; i < min_i64(n, first + ROW_STRETCH); i += LANES(T))
            sum += F(load_some)(a + i, n - i, 0) * F(load_some)(b + i, n - i, 0);
        total += F(sum_lanes)(sum);
    }
    return total;
}

static void F(softmax_grad_row)(T *dx, bool add, const T *y, const T *g, int64_t n)
{
    T mean = (T)F(row_dot)(y, g, n), keep = add;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = (keep != 0 ? dx[i] : 0) + y[i] * (g[i] - mean);
}

static void F(log_softmax_grad_row)(T *dx, bool add, const T *y, const T *g, int64_t n)
{
    T sum = (T)F(row_sum)(g, n);
    for (int64_t i = 0; i < n; i += LANES(T)) {
        F(vec) d = F(load_some)(g + i, n - i, 0) - F(exp)(F(load_some)(y + i, n - i, 0)) * sum;
        if (add)
            d += F(load_some)(dx + i, n - i, 0);
        F(store_some)(dx + i, d, n - i);
    }
}

static void F(softmax_grad)(T *dx, bool add, const T *y, const T *g, int64_t rows, int64_t n,
                            bool log)
{
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * ROW_WORK))
    for (int64_t row = 0; row < rows; row++)
        (log ? F(log_softmax_grad_row) : F(softmax_grad_row))(dx + row * n, add, y + row * n,
                                                              g + row * n, n);
}

static void F(logsumexp)(T *out, const T *x, int64_t rows, int64_t n)
{
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * ROW_WORK))
    for (int64_t row = 0; row < rows; row++)
        out[row] = F(row_lse)(x + row * n, n);
}

#undef T
#undef F
#endif
