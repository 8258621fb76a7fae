/*
 * norm -- layer_norm over rows of the last dimension (Ba, Kiros, Hinton 2016).
 *
 *     y = xhat w + b,   xhat = (x - mean) rstd,   rstd = 1 / sqrt(var + eps)
 *     dx = rstd (g w - mean(g w) - xhat mean(g w xhat)),   dw = sum g xhat,   db = sum g
 *
 *     rows   |--- part 0 ---|--- part 1 ---| ... |          each part sums its rows into dw, db of
 *                 dw, db         dw, db                     its own; then the parts are added in
 *                    '------- + ---'------- + ...           order: same bits on any thread count
 *
 * A missing weight is a row of ones, a missing bias a row of zeros: one loop for all cases.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/rows.h"

#define PARTS 64    /* at most */
#define PART_ROWS 8 /* at least */

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/norm.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/norm.c"

void SIMD(cpu_layer_norm)(tensor *out, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                          const tensor *b, double eps)
{
    int64_t rows = row_count(x), n = x->shape[x->ndim - 1];
    if (x->dtype == TORC_F64)
        layer_norm_f64(tensor_data(out), tensor_data(mean), tensor_data(rstd), tensor_data(x),
                       data_or_null(w), data_or_null(b), rows, n, eps);
    else
        layer_norm_f32(tensor_data(out), tensor_data(mean), tensor_data(rstd), tensor_data(x),
                       data_or_null(w), data_or_null(b), rows, n, eps);
}

void SIMD(cpu_layer_norm_grad)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                               const tensor *w, const tensor *mean, const tensor *rstd)
{
    int64_t rows = row_count(x), n = x->shape[x->ndim - 1];
    if (x->dtype == TORC_F64)
        layer_norm_grad_f64(dx, dw, db, tensor_data(g), tensor_data(x), data_or_null(w),
                            tensor_data(mean), tensor_data(rstd), rows, n);
    else
        layer_norm_grad_f32(dx, dw, db, tensor_data(g), tensor_data(x), data_or_null(w),
                            tensor_data(mean), tensor_data(rstd), rows, n);
}

#else

/* The row given, or one of scratch memory full of `value`. */
static const T *F(row_of)(const T *given, T value, scratch_use use, int64_t n)
{
    if (given)
        return given;
    T *row = scratch(use, (size_t)n * sizeof *row);
    for (int64_t i = 0; i < n; i++)
        row[i] = value;
    return row;
}

/* Around the mean, in a second pass: a difference of squares would cancel where the mean is large.
 */
static double F(row_square_sum)(const T *x, T mean, int64_t n)
{
    double total = 0;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sum = {0};
        for (int64_t i = first; i < min_i64(n, first + ROW_STRETCH); i += LANES(T)) {
            F(vec) d = F(load_some)(x + i, n - i, mean) - mean;
            sum += d * d;
        }
        total += F(sum_lanes)(sum);
    }
    return total;
}

static void F(layer_norm)(T *out, T *mean, T *rstd, const T *x, const T *w, const T *b,
                          int64_t rows, int64_t n, double eps)
{
    w = F(row_of)(w, 1, SCRATCH_WEIGHTS, n);
    b = F(row_of)(b, 0, SCRATCH_OTHER, n);
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * (int64_t)sizeof(T) * 2))
    for (int64_t row = 0; row < rows; row++) {
        const T *from = x + row * n;
        T *to = out + row * n;
        T m = (T)(F(row_sum)(from, n) / (double)n);
        T r = (T)(1 / sqrt(F(row_square_sum)(from, m, n) / (double)n + eps));
        mean[row] = m;
        rstd[row] = r;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] = (from[i] - m) * r * w[i] + b[i];
    }
}

/* One row's dx, and its share added to dw and db. */
static void F(row_grad)(T *dx, bool add, T *restrict dw, T *restrict db, const T *g, const T *x,
                        const T *w, T mean, T rstd, int64_t n)
{
    T sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t i = 0; i < n; i++) {
        T xhat = (x[i] - mean) * rstd, gw = g[i] * w[i];
        dw[i] += g[i] * xhat;
        db[i] += g[i];
        sum += gw;
        dot += gw * xhat;
    }
    sum /= (T)n;
    dot /= (T)n;
    if (dx && add)
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            dx[i] += rstd * (g[i] * w[i] - sum - (x[i] - mean) * rstd * dot);
    else if (dx)
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            dx[i] = rstd * (g[i] * w[i] - sum - (x[i] - mean) * rstd * dot);
}

/* out (+)= the parts' rows, in order. */
static void F(add_parts)(sink out, const T *parts, int64_t count, int64_t step, int64_t n)
{
    if (!out.t)
        return;
    T *to = tensor_data(out.t);
    if (!out.add)
        memset(to, 0, (size_t)n * sizeof *to);
    for (int64_t part = 0; part < count; part++)
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] += parts[part * step + i];
}

static void F(layer_norm_grad)(sink dx, sink dw, sink db, const T *g, const T *x, const T *w,
                               const T *mean, const T *rstd, int64_t rows, int64_t n)
{
    int64_t size = max_i64(PART_ROWS, part_count(rows, PARTS)), count = part_count(rows, size);
    T *parts = scratch(SCRATCH_PARTS, (size_t)(count * 2 * n) * sizeof *parts);
    T *to = dx.t ? tensor_data(dx.t) : NULL;
    w = F(row_of)(w, 1, SCRATCH_WEIGHTS, n);
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * (int64_t)sizeof(T) * 3))
    for (int64_t index = 0; index < count; index++) {
        T *sums = parts + index * 2 * n;
        part p = part_of(rows, size, index);
        memset(sums, 0, (size_t)(2 * n) * sizeof *sums);
        for (int64_t row = p.first; row < p.first + p.n; row++)
            F(row_grad)
        (to ? to + row * n : NULL, dx.add, sums, sums + n, g + row * n, x + row * n, w, mean[row],
         rstd[row], n);
    }
    F(add_parts)(dw, parts, count, 2 * n, n);
    F(add_parts)(db, parts + n, count, 2 * n, n);
}

#undef T
#undef F
#endif
