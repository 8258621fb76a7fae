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
 * A row crosses the memory bus once, also where a residual is added first: what is read of it again
 * is in L1 by then, or in L2 if it is long. Rows go TOGETHER, and one does not see another:
 *
 *     row 0   x x x x  -->  sum 0     an addition waits for the one before, so a row alone
 *     row 1   x x x x  -->  sum 1     would leave the adder idle most of the time; and a vector
 *     row 2   x x x x  -->  sum 2     of w, dw or db is in a register for all of the rows
 *     row 3   x x x x  -->  sum 3
 *
 * A missing weight is a row of ones, a missing bias a row of zeros: one loop for all cases. T, E
 * and F are those of vector.h.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/rows.h"

#define PARTS 64    /* at most */
#define PART_ROWS 8 /* at least */
#define TOGETHER 4

/* `step` for every vector of elements first .. end - 1 of a row, at i, of which `left` elements
 * count. Twice in the code: what a constant says is whole needs no mask and no branch. */
#define EACH_VECTOR(i, left, first, end, step) \
    do { \
        int64_t i = first; \
        for (const int64_t left = LANES(T); i + left <= (end); i += left) \
            step; \
        const int64_t left = (end)-i; \
        if (left > 0) \
            step; \
    } while (0)

#define EACH "core/cpu/simd/norm.c"
#include "core/cpu/simd/each.h"

/* The kernel for the dtype of x. */
#define OF_DTYPE(kernel, x, ...) \
    ((x)->dtype == TORC_F64    ? kernel##_f64(__VA_ARGS__) \
     : (x)->dtype == TORC_BF16 ? kernel##_bf16(__VA_ARGS__) \
                               : kernel##_f32(__VA_ARGS__))

void SIMD(cpu_layer_norm)(tensor *out, tensor *mean, tensor *rstd, tensor *sum, const tensor *x,
                          const tensor *residual, const tensor *w, const tensor *b, double eps)
{
    OF_DTYPE(layer_norm, x, out, mean, rstd, sum, x, residual, w, b, eps);
}

void SIMD(cpu_layer_norm_grad)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                               const tensor *w, const tensor *mean, const tensor *rstd)
{
    OF_DTYPE(layer_norm_grad, x, dx, dw, db, g, x, w, mean, rstd);
}

#else

/* The row given, or one of scratch memory full of `value`. */
static const T *F(row_of)(const tensor *given, T value, scratch_use use, int64_t n)
{
    if (given)
        return tensor_data(given);
    T *row = scratch(use, (size_t)n * sizeof *row);
    for (int64_t i = 0; i < n; i++)
        row[i] = value;
    return row;
}

/* ---- forward: `count` rows of n elements from x on. count is a constant where these are called,
 * so that their loops are unrolled and what they keep is in registers. ---- */

/* x, or the sum of x and residual as rounded into sum, added to the sums of the rows. */
static ALWAYS_INLINE void F(add_rows)(F(vec) * sums, E *sum, const E *x, const E *residual,
                                      int64_t n, int64_t i, int64_t left, int count)
{
    for (int r = 0; r < count; r++) {
        int64_t at = r * n + i;
        F(vec) v = F(read_some)(x + at, left, 0);
        if (residual) {
            F(write_some)(sum + at, v + F(read_some)(residual + at, left, 0), left);
            v = F(read_some)(sum + at, left, 0);
        }
        sums[r] += v;
    }
}

static ALWAYS_INLINE void F(row_means)(T *mean, E *sum, const E *x, const E *residual, int64_t n,
                                       int count)
{
    double total[TOGETHER] = {0};
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sums[TOGETHER] = {0};
        EACH_VECTOR(i, left, first, min_i64(n, first + ROW_STRETCH),
                    F(add_rows)(sums, sum, x, residual, n, i, left, count));
        for (int r = 0; r < count; r++)
            total[r] += F(sum_lanes)(sums[r]);
    }
    for (int r = 0; r < count; r++)
        mean[r] = (T)(total[r] / (double)n);
}

static ALWAYS_INLINE void F(add_squares)(F(vec) * sums, const E *x, const T *mean, int64_t n,
                                         int64_t left, int count)
{
    for (int r = 0; r < count; r++) {
        F(vec) d = F(read_some)(x + r * n, left, mean[r]) - mean[r];
        sums[r] += d * d;
    }
}

/* Around the mean, in a second pass: a difference of squares would cancel where the mean is large.
 */
static ALWAYS_INLINE void F(row_rstds)(T *rstd, const E *x, const T *mean, int64_t n, double eps,
                                       int count)
{
    double total[TOGETHER] = {0};
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sums[TOGETHER] = {0};
        EACH_VECTOR(i, left, first, min_i64(n, first + ROW_STRETCH),
                    F(add_squares)(sums, x + i, mean, n, left, count));
        for (int r = 0; r < count; r++)
            total[r] += F(sum_lanes)(sums[r]);
    }
    for (int r = 0; r < count; r++)
        rstd[r] = (T)(1 / sqrt(total[r] / (double)n + eps));
}

static ALWAYS_INLINE void F(write_rows)(E *out, const E *x, const T *mean, const T *rstd,
                                        const T *w, const T *b, int64_t n, int64_t left, int count)
{
    F(vec) slope = F(load_some)(w, left, 0), constant = F(load_some)(b, left, 0);
    for (int r = 0; r < count; r++) {
        F(vec) d = F(read_some)(x + r * n, left, 0) - mean[r];
        F(write_some)(out + r * n, d * rstd[r] * slope + constant, left);
    }
}

typedef struct F(norm) {
    E *out, *sum;
    const E *x, *residual;
    T *mean, *rstd;
    const T *w, *b;
    int64_t n;
    double eps;
} F(norm);

static ALWAYS_INLINE void F(norm_rows)(const F(norm) * o, int64_t row, int count)
{
    int64_t n = o->n, start = row * n;
    E *out = o->out + start, *sum = o->residual ? o->sum + start : NULL;
    const E *x = o->x + start, *residual = o->residual ? o->residual + start : NULL;
    const T *w = o->w, *b = o->b;
    T mean[TOGETHER], rstd[TOGETHER];
    if (residual)
        F(row_means)(mean, sum, x, residual, n, count);
    else /* of a constant NULL nothing is left in the loop */
        F(row_means)(mean, NULL, x, NULL, n, count);
    x = residual ? sum : x;
    F(row_rstds)(rstd, x, mean, n, o->eps, count);
    EACH_VECTOR(i, left, 0, n,
                F(write_rows)(out + i, x + i, mean, rstd, w + i, b + i, n, left, count));
    for (int r = 0; r < count; r++) {
        o->mean[row + r] = mean[r];
        o->rstd[row + r] = rstd[r];
    }
}

static void F(layer_norm)(tensor *out, tensor *mean, tensor *rstd, tensor *sum, const tensor *x,
                          const tensor *residual, const tensor *w, const tensor *b, double eps)
{
    int64_t rows = row_count(x), n = x->shape[x->ndim - 1];
    const F(norm) o = {.out = tensor_data(out),
                       .sum = data_or_null(sum),
                       .x = tensor_data(x),
                       .residual = data_or_null(residual),
                       .mean = tensor_data(mean),
                       .rstd = tensor_data(rstd),
                       .w = F(row_of)(w, 1, SCRATCH_WEIGHTS, n),
                       .b = F(row_of)(b, 0, SCRATCH_OTHER, n),
                       .n = n,
                       .eps = eps};
    int64_t moved = rows * n * (int64_t)sizeof(E) * (residual ? 4 : 2);
#pragma omp parallel for schedule(static) if (parallel_worth(moved))
    for (int64_t first = 0; first < rows; first += TOGETHER) {
        if (rows - first >= TOGETHER)
            F(norm_rows)(&o, first, TOGETHER);
        else
            for (int64_t row = first; row < rows; row++)
                F(norm_rows)(&o, row, 1);
    }
}

/* ---- backward ---- */

typedef struct F(norm_grad) {
    E *dx; /* may be NULL */
    bool add;
    const E *g, *x;
    const T *w, *mean, *rstd;
    int64_t n;
} F(norm_grad);

/* dx of one row, whose mean(g w) is `sum` and whose mean(g w xhat) is `dot`. */
static ALWAYS_INLINE void F(write_dx)(E *dx, bool add, const E *g, const E *x, const T *w, T mean,
                                      T rstd, T sum, T dot, int64_t left)
{
    F(vec) gw = F(read_some)(g, left, 0) * F(load_some)(w, left, 0);
    F(vec) xhat = (F(read_some)(x, left, 0) - mean) * rstd;
    F(vec) d = rstd * (gw - sum - xhat * dot);
    F(write_some)(dx, add ? F(read_some)(dx, left, 0) + d : d, left);
}

/* Rows' share of dw, db, sum(g w) and sum(g w xhat). What is beyond a row has g = 0. */
static ALWAYS_INLINE void F(add_grads)(T *dw, T *db, F(vec) * sums, F(vec) * dots, const E *g,
                                       const E *x, const T *w, const T *mean, const T *rstd,
                                       int64_t n, int64_t left, int count)
{
    F(vec) slope = F(load_some)(w, left, 0);
    F(vec) to_w = F(load_some)(dw, left, 0), to_b = F(load_some)(db, left, 0);
    for (int r = 0; r < count; r++) {
        F(vec) from = F(read_some)(g + r * n, left, 0), gw = from * slope;
        F(vec) xhat = (F(read_some)(x + r * n, left, mean[r]) - mean[r]) * rstd[r];
        to_w += from * xhat;
        to_b += from;
        sums[r] += gw;
        dots[r] += gw * xhat;
    }
    F(store_some)(dw, to_w, left);
    F(store_some)(db, to_b, left);
}

/* dx of `count` rows, a constant as in forward, and their share added to dw and db. */
static ALWAYS_INLINE void F(grad_rows)(const F(norm_grad) * o, int64_t row, T *dw, T *db, int count)
{
    int64_t n = o->n;
    const E *g = o->g + row * n, *x = o->x + row * n;
    const T *w = o->w;
    T mean[TOGETHER], rstd[TOGETHER];
    F(vec) sums[TOGETHER] = {0}, dots[TOGETHER] = {0};
    for (int r = 0; r < count; r++) {
        mean[r] = o->mean[row + r];
        rstd[r] = o->rstd[row + r];
    }
    EACH_VECTOR(
        i, left, 0, n,
        F(add_grads)(dw + i, db + i, sums, dots, g + i, x + i, w + i, mean, rstd, n, left, count));
    for (int r = 0; r < count && o->dx; r++) {
        E *dx = o->dx + (row + r) * n;
        T sum = F(sum_lanes)(sums[r]) / (T)n, dot = F(sum_lanes)(dots[r]) / (T)n;
        if (o->add)
            EACH_VECTOR(i, left, 0, n,
                        F(write_dx)(dx + i, true, g + r * n + i, x + r * n + i, w + i, mean[r],
                                    rstd[r], sum, dot, left));
        else
            EACH_VECTOR(i, left, 0, n,
                        F(write_dx)(dx + i, false, g + r * n + i, x + r * n + i, w + i, mean[r],
                                    rstd[r], sum, dot, left));
    }
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

static void F(layer_norm_grad)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                               const tensor *w, const tensor *mean, const tensor *rstd)
{
    int64_t rows = row_count(x), n = x->shape[x->ndim - 1];
    int64_t size = max_i64(PART_ROWS, part_count(rows, PARTS)), count = part_count(rows, size);
    T *parts = scratch(SCRATCH_PARTS, (size_t)(count * 2 * n) * sizeof *parts);
    const F(norm_grad) o = {.dx = data_or_null(dx.t),
                            .add = dx.add,
                            .g = tensor_data(g),
                            .x = tensor_data(x),
                            .w = F(row_of)(w, 1, SCRATCH_WEIGHTS, n),
                            .mean = tensor_data(mean),
                            .rstd = tensor_data(rstd),
                            .n = n};
#pragma omp parallel for schedule(static) if (parallel_worth(rows * n * (int64_t)sizeof(E) * 3))
    for (int64_t index = 0; index < count; index++) {
        T *sums = parts + index * 2 * n;
        part p = part_of(rows, size, index);
        int64_t row = p.first, end = p.first + p.n;
        memset(sums, 0, (size_t)(2 * n) * sizeof *sums);
        for (; end - row >= TOGETHER; row += TOGETHER)
            F(grad_rows)(&o, row, sums, sums + n, TOGETHER);
        for (; row < end; row++)
            F(grad_rows)(&o, row, sums, sums + n, 1);
    }
    F(add_parts)(dw, parts, count, 2 * n, n);
    F(add_parts)(db, parts + n, count, 2 * n, n);
}

#undef T
#undef E
#undef F
#endif
