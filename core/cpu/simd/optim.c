/*
 * optim -- one pass over all parameters: what a step does to an element is done while its p, g, m
 * and v are in registers, so a step costs the memory's time and no more.
 *
 *     stretches   |==== 0 ====|= 1 =|========= 2 =========|3|     laid end to end
 *     threads     |------- 0 -------|------- 1 -------|---- 2 --- ...
 *
 * The formulas are torch.optim's. Every element is computed by itself, in an order of operations
 * that does not depend on the cut; only sum_squares adds, part by part.
 */
#include "core/cpu/simd.h"
#include "core/cpu/parallel.h"

#include <math.h>
#include <stdlib.h>

#define GRAIN 1024 /* threads meet at a multiple of this from the first element */
#define PART 65536

static int64_t total(const stretch *s, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += s[i].n;
    return sum;
}

/* What a step does to elements p.first .. of one stretch. */
typedef void (*update)(const stretch *s, part p, const void *step);

/* The thread's share of all stretches laid end to end. */
static void update_share(part mine, const stretch *s, int64_t n, update f, const void *step)
{
    int64_t start = 0; /* of stretch i, among all elements */
    for (int64_t i = 0; i < n && start < mine.first + mine.n; start += s[i++].n) {
        int64_t first = max_i64(0, mine.first - start);
        int64_t end = min_i64(s[i].n, mine.first + mine.n - start);
        if (first < end)
            f(&s[i], (part){first, end - first}, step);
    }
}

static void update_all(const stretch *s, int64_t n, int64_t streams, update f, const void *step)
{
    int64_t all = total(s, n);
    PARALLEL(all * streams * (int64_t)sizeof(float), all, GRAIN, update_share, s, n, f, step);
}

/* ---- gradients ---- */

static void scale_part(const stretch *s, part p, const void *step)
{
    float *g = s->g + p.first;
    const float factor = ((const clipping *)step)->factor;
#pragma omp simd
    for (int64_t i = 0; i < p.n; i++)
        g[i] *= factor;
}

void SIMD(cpu_scale)(const stretch *s, int64_t n, const clipping *c)
{
    if (c->factor != 1)
        update_all(s, n, 2, scale_part, c);
}

void SIMD(cpu_clip)(clipping *c, double max_norm, const loss_scale *scale)
{
    clipping_find(c, max_norm, scale);
}

void SIMD(cpu_unscale)(clipping *c, loss_scale *scale)
{
    clipping_unscale(c, scale);
}

void SIMD(cpu_rescale)(loss_scale *scale, scale_rule rule)
{
    loss_scale_next(scale, rule);
}

/* Squares of f32 are exact in f64, so fused or not they add up the same; LANES is fixed, and so
 * are the bits at every level. */
#define LANES 32

static double squares_of(const float *g, int64_t n)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            lane[l] += (double)g[i + l] * (double)g[i + l];
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)g[i + l] * (double)g[i + l];
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

/* The parts of all stretches one after the other: first[i] is the number of stretch i's first. */
static void square_parts(part mine, const stretch *s, const int64_t *first, double *sums)
{
    int64_t i = 0;
    for (int64_t k = mine.first; k < mine.first + mine.n; k++) {
        while (first[i + 1] <= k)
            i++;
        part p = part_of(s[i].n, PART, k - first[i]);
        sums[k] = squares_of(s[i].g + p.first, p.n);
    }
}

void SIMD(cpu_sum_squares)(double *sum, const stretch *s, int64_t n)
{
    int64_t *first = base_alloc((size_t)n + 1, sizeof *first);
    for (int64_t i = 0; i < n; i++)
        first[i + 1] = first[i] + part_count(s[i].n, PART);
    int64_t parts = first[n];
    double *sums = base_alloc((size_t)parts + 1, sizeof *sums);
    PARALLEL(total(s, n) * (int64_t)sizeof(float), parts, 1, square_parts, s, first, sums);
    *sum = 0;
    for (int64_t k = 0; k < parts; k++)
        *sum += sums[k];
    free(sums);
    free(first);
}

/* ---- steps of scaled gradients ----
 *
 * They are scaled into a few KiB, from where the step reads them at once: rounded, as if they had
 * been stored. In one expression with what follows the product would be fused into a sum, and a
 * clipped step had other bits than a call that clips, then a step. */
#define BLOCK 1024

typedef struct scaled_step {
    update f;
    const void *step;
    float factor;
} scaled_step;

static float *moved(float *p, int64_t by)
{
    return p ? p + by : NULL;
}

static void scale_and_step(const stretch *s, part p, const void *step)
{
    const scaled_step how = *(const scaled_step *)step;
    float g[BLOCK];
    for (int64_t done = 0, n; done < p.n; done += n) {
        int64_t at = p.first + done;
        n = min_i64(p.n - done, BLOCK);
        for (int64_t i = 0; i < n; i++)
            g[i] = s->g[at + i] * how.factor;
        const stretch block = {s->p + at, g, moved(s->m, at), moved(s->v, at), n};
        how.f(&block, (part){0, n}, how.step);
    }
}

static void step_all(const stretch *s, int64_t n, int64_t streams, update f, const void *step,
                     const clipping *c)
{
    if (c && c->skip)
        return;
    if (c && c->factor != 1)
        update_all(s, n, streams, scale_and_step, &(scaled_step){f, step, c->factor});
    else
        update_all(s, n, streams, f, step);
}

/* ---- torch.optim.SGD ----
 *
 *     g <- g + weight_decay p
 *     m <- g at first, then momentum m + (1 - dampening) g
 *     p <- p - lr (nesterov ? g + momentum m : m)              without momentum: p - lr g */

static void sgd_plain(const stretch *s, part at, const void *step)
{
    const sgd_step c = *(const sgd_step *)step;
    float *p = s->p + at.first;
    const float *g = s->g + at.first;
#pragma omp simd
    for (int64_t i = 0; i < at.n; i++)
        p[i] -= c.lr * (g[i] + c.weight_decay * p[i]);
}

static void sgd_momentum(const stretch *s, part at, const void *step)
{
    const sgd_step c = *(const sgd_step *)step;
    const float take = c.first ? 1 : 1 - c.dampening;
    float *p = s->p + at.first, *m = s->m + at.first;
    const float *gradient = s->g + at.first;
#pragma omp simd
    for (int64_t i = 0; i < at.n; i++) {
        float g = gradient[i] + c.weight_decay * p[i];
        float old = c.first ? 0 : m[i]; /* it may be anything then, and 0 times a NaN is one */
        m[i] = c.momentum * old + take * g;
        p[i] -= c.lr * (c.nesterov ? g + c.momentum * m[i] : m[i]);
    }
}

void SIMD(cpu_sgd)(const stretch *s, int64_t n, sgd_step step, const clipping *c)
{
    if (step.momentum != 0)
        step_all(s, n, 5, sgd_momentum, &step, c);
    else
        step_all(s, n, 3, sgd_plain, &step, c);
}

/* ---- torch.optim.Adam, AdamW ----
 *
 *     AdamW: p <- p - lr weight_decay p           Adam: g <- g + weight_decay p
 *     m <- m + (1 - beta1) (g - m)                v <- beta2 v + (1 - beta2) g g
 *     p <- p - lr / bias1 * m / (sqrt(v) / sqrt(bias2) + eps) */

static void adam_part(const stretch *s, part at, const void *step)
{
    const adam_step c = *(const adam_step *)step;
    const float shrink = c.decoupled ? (float)(1 - (double)c.lr * c.weight_decay) : 1;
    const float decay = c.decoupled ? 0 : c.weight_decay;
    const float take1 = (float)(1 - (double)c.beta1), take2 = (float)(1 - (double)c.beta2);
    const float step_size = (float)(c.lr / c.bias1), root = (float)sqrt(c.bias2);
    float *p = s->p + at.first, *m = s->m + at.first, *v = s->v + at.first;
    const float *gradient = s->g + at.first;
#pragma omp simd
    for (int64_t i = 0; i < at.n; i++) {
        float g = gradient[i] + decay * p[i];
        m[i] += take1 * (g - m[i]);
        v[i] = c.beta2 * v[i] + take2 * g * g;
        p[i] = p[i] * shrink - step_size * m[i] / (sqrtf(v[i]) / root + c.eps);
    }
}

void SIMD(cpu_adam)(const stretch *s, int64_t n, adam_step step, const clipping *c)
{
    step_all(s, n, 7, adam_part, &step, c);
}
