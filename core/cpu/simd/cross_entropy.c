/*
 * cross_entropy -- the loss of a classifier, straight from its logits.
 *
 *     row    loss = (1 - s) (lse - x[t]) + s (lse - mean x)         s: label smoothing
 *            dx = g / counted (e^(x - lse) - (1 - s) [i = t] - s / C)
 *
 * Only lse, a number a row, is kept between the two: the probabilities, as large as the logits, are
 * computed again where they are used. The rows' losses are noted one by one and then added on one
 * thread, so the sum has the same bits on any number of threads.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/number.h"
#include "core/cpu/simd/rows.h"
#include "core/cpu/simd/vmath.h"

#define ROW_WORK 16 /* an exponential and two reads: as long as moving these bytes an element */

/* Rows whose logarithms are taken together; which these are does not depend on the threads. */
#define PART_ROWS 64

typedef struct rows { /* logits [n, classes] */
    const int64_t *target;
    int64_t n, classes, counted, ignore;
    double smoothing;
} rows;

#define EACH "core/cpu/simd/cross_entropy.c"
#include "core/cpu/simd/each.h"

static rows rows_of(const tensor *logits, const tensor *target, int64_t counted, int64_t ignore,
                    double smoothing)
{
    return (rows){
        tensor_data(target), logits->shape[0], logits->shape[1], counted, ignore, smoothing};
}

void SIMD(cpu_cross_entropy)(tensor *loss, tensor *lse, const tensor *logits, const tensor *target,
                             int64_t counted, int64_t ignore, double smoothing)
{
    rows r = rows_of(logits, target, counted, ignore, smoothing);
    double *losses = scratch(SCRATCH_PARTS, (size_t)r.n * sizeof *losses), sum = 0;
    if (logits->dtype == TORC_F64)
        cross_entropy_f64(losses, tensor_data(lse), tensor_data(logits), &r);
    else if (logits->dtype == TORC_BF16)
        cross_entropy_bf16(losses, tensor_data(lse), tensor_data(logits), &r);
    else
        cross_entropy_f32(losses, tensor_data(lse), tensor_data(logits), &r);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < r.n; i++)
        sum += losses[i];
    double mean = counted ? sum / (double)counted : 0;
    if (loss->dtype == TORC_F64)
        *(double *)tensor_data(loss) = mean;
    else
        *(float *)tensor_data(loss) = (float)mean;
}

void SIMD(cpu_cross_entropy_grad)(sink dx, const tensor *g, const tensor *lse, const tensor *logits,
                                  const tensor *target, int64_t counted, int64_t ignore,
                                  double smoothing)
{
    if (!dx.t)
        return;
    rows r = rows_of(logits, target, counted, ignore, smoothing);
    if (logits->dtype == TORC_F64)
        cross_entropy_grad_f64(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(lse),
                               tensor_data(logits), &r);
    else if (logits->dtype == TORC_BF16)
        cross_entropy_grad_bf16(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(lse),
                                tensor_data(logits), &r);
    else
        cross_entropy_grad_f32(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(lse),
                               tensor_data(logits), &r);
}

#else

static double F(row_loss)(T lse, const E *x, int64_t target, const rows *r)
{
    double loss = (double)lse - F(number)(x[target]), s = r->smoothing;
    if (s == 0) /* also keeps 0 * inf, of a class that is masked out, from becoming a NaN */
        return loss;
    double mean = F(row_sum)(x, r->classes) / (double)r->classes;
    return (1 - s) * loss + s * (lse - mean);
}

/* lse is the shift and `losses` the sum of powers until their logarithms are taken, many at once.
 * An infinite maximum is no shift, as in row_lse(). */
static void F(part_losses)(double *losses, T *lse, const E *x, part p, const rows *r)
{
    for (int64_t i = p.first; i < p.first + p.n; i++) {
        const E *row = x + i * r->classes;
        bool counts = r->target[i] != r->ignore;
        T largest = counts ? F(row_max)(row, r->classes) : 0;
        lse[i] = isinf(largest) ? 0 : largest;
        losses[i] = counts ? F(row_sum_exp)(NULL, row, r->classes, lse[i]) : 1;
    }
#pragma omp simd
    for (int64_t i = p.first; i < p.first + p.n; i++)
        lse[i] = (T)((double)lse[i] + log(losses[i]));
    for (int64_t i = p.first; i < p.first + p.n; i++) {
        bool counts = r->target[i] != r->ignore;
        losses[i] = counts ? F(row_loss)(lse[i], x + i * r->classes, r->target[i], r) : 0;
    }
}

static void F(cross_entropy)(double *losses, T *lse, const E *x, const rows *r)
{
#pragma omp parallel for schedule(static) if (parallel_worth(r->n * r->classes * ROW_WORK))
    for (int64_t i = 0; i < part_count(r->n, PART_ROWS); i++)
        F(part_losses)(losses, lse, x, part_of(r->n, PART_ROWS, i), r);
}

/* factor: g / counted. The target's own is made apart: p - 1 loses nothing where p is nearly 1. */
static void F(row_grad)(E *dx, bool add, const E *x, T lse, int64_t target, T factor, const rows *r)
{
    T even = (T)(r->smoothing / (double)r->classes), before = add ? F(number)(dx[target]) : 0;
    F(vec) power = F(exp)((F(vec)){0} + (F(number)(x[target]) - lse));
    T chosen = power[0] - (T)(1 - r->smoothing) - even;
    for (int64_t i = 0; i < r->classes; i += LANES(T)) {
        int64_t n = r->classes - i;
        F(vec) d = factor * (F(exp)(F(read_some)(x + i, n, 0) - lse) - even);
        if (add)
            d += F(read_some)(dx + i, n, 0);
        F(write_some)(dx + i, d, n);
    }
    dx[target] = F(element)(before + factor * chosen);
}

static void F(cross_entropy_grad)(E *dx, bool add, const T *g, const T *lse, const E *x,
                                  const rows *r)
{
    T factor = r->counted ? (T)(*g / (double)r->counted) : 0;
#pragma omp parallel for schedule(static) if (parallel_worth(r->n * r->classes * ROW_WORK))
    for (int64_t i = 0; i < r->n; i++) {
        E *row = dx + i * r->classes;
        if (r->target[i] != r->ignore)
            F(row_grad)(row, add, x + i * r->classes, lse[i], r->target[i], factor, r);
        else if (!add)
            memset(row, 0, (size_t)r->classes * sizeof *row);
    }
}

#undef T
#undef E
#undef F
#endif
