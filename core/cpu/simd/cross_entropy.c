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
#include "core/cpu/simd/rows.h"

#define ROW_WORK 16 /* an exponential and two reads: as long as moving these bytes an element */

typedef struct rows { /* logits [n, classes] */
    const int64_t *target;
    int64_t n, classes, counted, ignore;
    double smoothing;
} rows;

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/cross_entropy.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/cross_entropy.c"

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
    else
        cross_entropy_grad_f32(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(lse),
                               tensor_data(logits), &r);
}

#else

static double F(row_loss)(T *lse, const T *x, int64_t target, const rows *r)
{
    *lse = F(row_lse)(x, r->classes);
    double loss = (double)*lse - x[target], s = r->smoothing;
    if (s == 0) /* also keeps 0 * inf, of a class that is masked out, from becoming a NaN */
        return loss;
    double mean = F(row_sum)(x, r->classes) / (double)r->classes;
    return (1 - s) * loss + s * (*lse - mean);
}

static void F(cross_entropy)(double *losses, T *lse, const T *x, const rows *r)
{
#pragma omp parallel for schedule(static) if (parallel_worth(r->n * r->classes * ROW_WORK))
    for (int64_t i = 0; i < r->n; i++) {
        lse[i] = 0;
        losses[i] = 0;
        if (r->target[i] != r->ignore)
            losses[i] = F(row_loss)(&lse[i], x + i * r->classes, r->target[i], r);
    }
}

/* factor: g / counted. The target's own is made apart: p - 1 loses nothing where p is nearly 1. */
static void F(row_grad)(T *dx, bool add, const T *x, T lse, int64_t target, T factor, const rows *r)
{
    T even = (T)(r->smoothing / (double)r->classes), before = add ? dx[target] : 0;
    T chosen = F(exp)((F(vec)){0} + (x[target] - lse))[0] - (T)(1 - r->smoothing) - even;
    for (int64_t i = 0; i < r->classes; i += LANES(T)) {
        int64_t n = r->classes - i;
        F(vec) d = factor * (F(exp)(F(load_some)(x + i, n, 0) - lse) - even);
        if (add)
            d += F(load_some)(dx + i, n, 0);
        F(store_some)(dx + i, d, n);
    }
    dx[target] = before + factor * chosen;
}

static void F(cross_entropy_grad)(T *dx, bool add, const T *g, const T *lse, const T *x,
                                  const rows *r)
{
    T factor = r->counted ? (T)(*g / (double)r->counted) : 0;
#pragma omp parallel for schedule(static) if (parallel_worth(r->n * r->classes * ROW_WORK))
    for (int64_t i = 0; i < r->n; i++) {
        T *row = dx + i * r->classes;
        if (r->target[i] != r->ignore)
            F(row_grad)(row, add, x + i * r->classes, lse[i], r->target[i], factor, r);
        else if (!add)
            memset(row, 0, (size_t)r->classes * sizeof *row);
    }
}

#undef T
#undef F
#endif
