/*
 * sgd and adam against torch.optim's formulas in f64, over several steps and stretches of all
 * sizes; sum_squares and scale; steps of gradients that are scaled on the way.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

#define STRETCHES 7
static const int64_t sizes[STRETCHES] = {1, 0, 15, 4099, 70001, 3, 1024};

typedef struct work {
    stretch s[STRETCHES];
    double *p[STRETCHES], *m[STRETCHES], *v[STRETCHES]; /* what they should be */
} work;

static double noise(int64_t i)
{
    uint64_t x = ((uint64_t)i + 77) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 31) * 0xBF58476D1CE4E5B9u;
    return (double)(x >> 11) * 0x1p-52 - 1;
}

static work work_new(void)
{
    work w;
    for (int k = 0; k < STRETCHES; k++) {
        size_t n = (size_t)sizes[k] + 1;
        w.s[k] = (stretch){base_alloc(n, 4), base_alloc(n, 4), base_alloc(n, 4), base_alloc(n, 4),
                           sizes[k]};
        w.p[k] = base_alloc(n, sizeof(double));
        w.m[k] = base_alloc(n, sizeof(double));
        w.v[k] = base_alloc(n, sizeof(double));
        for (int64_t i = 0; i < sizes[k]; i++)
            w.p[k][i] = w.s[k].p[i] = (float)noise(i + 1000 * k);
    }
    return w;
}

static void new_gradients(work *w, int step)
{
    for (int k = 0; k < STRETCHES; k++)
        for (int64_t i = 0; i < sizes[k]; i++)
            w->s[k].g[i] = (float)noise(i * 31 + step * 7 + k);
}

static void check_parameters(const work *w, double tolerance)
{
    for (int k = 0; k < STRETCHES; k++)
        for (int64_t i = 0; i < sizes[k]; i++)
            CHECK_NEAR(w->s[k].p[i], w->p[k][i], tolerance);
}

static void sgd_by_hand(work *w, sgd_step c)
{
    for (int k = 0; k < STRETCHES; k++)
        for (int64_t i = 0; i < sizes[k]; i++) {
            double g = w->s[k].g[i] + (double)c.weight_decay * w->p[k][i], *m = &w->m[k][i];
            *m = c.first ? g : (double)c.momentum * *m + (1 - (double)c.dampening) * g;
            if (c.momentum != 0)
                g = c.nesterov ? g + (double)c.momentum * *m : *m;
            w->p[k][i] -= (double)c.lr * g;
        }
}

TEST(sgd_is_torch_optim_sgd)
{
    static const sgd_step kinds[] = {{0.1f, 0, 0, 0, false, true},
                                     {0.1f, 0, 0, 0.01f, false, true},
                                     {0.1f, 0.9f, 0, 0, false, true},
                                     {0.1f, 0.9f, 0.5f, 0.01f, false, true},
                                     {0.1f, 0.9f, 0, 0.01f, true, true}};
    EACH_LEVEL(k)
    for (int kind = 0; kind < ARRAY_LENGTH(kinds); kind++) {
        work w = work_new();
        sgd_step c = kinds[kind];
        w.s[3].m[0] = NAN; /* what was in the buffer before the first step does not count */
        for (int step = 0; step < 5; step++, c.first = false) {
            new_gradients(&w, step);
            k->sgd(w.s, STRETCHES, c, NULL);
            sgd_by_hand(&w, c);
        }
        check_parameters(&w, 2e-6);
    }
}

static void adam_by_hand(work *w, adam_step c)
{
    for (int k = 0; k < STRETCHES; k++)
        for (int64_t i = 0; i < sizes[k]; i++) {
            double g = w->s[k].g[i], *p = &w->p[k][i], *m = &w->m[k][i], *v = &w->v[k][i];
            if (c.decoupled)
                *p -= (double)c.lr * c.weight_decay * *p;
            else
                g += (double)c.weight_decay * *p;
            *m = (double)c.beta1 * *m + (1 - (double)c.beta1) * g;
            *v = (double)c.beta2 * *v + (1 - (double)c.beta2) * g * g;
            *p -= (double)c.lr / c.bias1 * *m / (sqrt(*v) / sqrt(c.bias2) + (double)c.eps);
        }
}

static adam_step adam_at(adam_step c, int t)
{
    c.bias1 = 1 - pow((double)c.beta1, t);
    c.bias2 = 1 - pow((double)c.beta2, t);
    return c;
}

TEST(adam_is_torch_optim_adam)
{
    static const adam_step kinds[] = {{0.01f, 0.9f, 0.999f, 1e-8f, 0, false, 0, 0},
                                      {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, false, 0, 0},
                                      {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, true, 0, 0}};
    EACH_LEVEL(k)
    for (int kind = 0; kind < ARRAY_LENGTH(kinds); kind++) {
        work w = work_new();
        for (int t = 1; t <= 5; t++) {
            new_gradients(&w, t);
            k->adam(w.s, STRETCHES, adam_at(kinds[kind], t), NULL);
            adam_by_hand(&w, adam_at(kinds[kind], t));
        }
        check_parameters(&w, 2e-6);
    }
}

/* However the elements are dealt out to stretches and threads, each gets the same bits: a rank that
 * owns a slice must agree with one that owns all. */
TEST(adam_does_not_see_the_cut)
{
    enum { N = 200000 };
    adam_step c = adam_at((adam_step){0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, true, 0, 0}, 1);
    EACH_LEVEL(k)
    {
        float *memory[2][4];
        for (int i = 0; i < 8; i++) {
            memory[i / 4][i % 4] = base_alloc(N, sizeof(float));
            for (int64_t n = 0; n < N && i % 4 < 2; n++)
                memory[i / 4][i % 4][n] = (float)noise(n * 2 + i % 4);
        }
        float **a = memory[0], **b = memory[1];
        omp_set_num_threads(1);
        k->adam(&(stretch){a[0], a[1], a[2], a[3], N}, 1, c, NULL);
        stretch parts[1000];
        int n = 0;
        for (int64_t at = 0, size; at < N; at += size, n++) {
            size = min_i64(N - at, 1 + (at * 7 + 13) % 900);
            parts[n] = (stretch){b[0] + at, b[1] + at, b[2] + at, b[3] + at, size};
        }
        omp_set_num_threads(3);
        k->adam(parts, n, c, NULL);
        CHECK(!memcmp(a[0], b[0], N * sizeof(float)));
        CHECK(!memcmp(a[3], b[3], N * sizeof(float)));
    }
}

TEST(sum_squares_in_f64)
{
    work w = work_new();
    new_gradients(&w, 1);
    double expected = 0, first = 0;
    for (int k = 0; k < STRETCHES; k++)
        for (int64_t i = 0; i < sizes[k]; i++)
            expected += (double)w.s[k].g[i] * w.s[k].g[i];
    EACH_LEVEL(k)
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        double found;
        k->sum_squares(&found, w.s, STRETCHES);
        CHECK_NEAR(found / expected, 1, 1e-13);
        first = first ? first : found;
        CHECK(found == first); /* the same bits at every level, on any number of threads */
    }
    w.s[4].g[70000] = INFINITY;
    EACH_LEVEL(k)
    {
        double found;
        k->sum_squares(&found, w.s, STRETCHES);
        CHECK(found == INFINITY);
        k->sum_squares(&found, w.s, 0);
        CHECK(found == 0);
    }
}

TEST(scale_gradients)
{
    EACH_LEVEL(k)
    {
        work w = work_new();
        new_gradients(&w, 1);
        k->scale(w.s, STRETCHES, &(clipping){.factor = 0.5f});
        for (int n = 0; n < STRETCHES; n++)
            for (int64_t i = 0; i < sizes[n]; i++)
                CHECK(w.s[n].g[i] == 0.5f * (float)noise(i * 31 + 7 + n));
    }
}

/* ---- gradients that are scaled in registers ---- */

static void step_of(const kernels *k, int kind, work *w, const clipping *c)
{
    const adam_step adam = adam_at((adam_step){0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, false, 0, 0}, 3);
    if (kind == 2)
        k->adam(w->s, STRETCHES, adam, c);
    else
        k->sgd(w->s, STRETCHES, (sgd_step){0.1f, kind * 0.9f, 0, 0.01f, false, false}, c);
}

static void compare_stretches(const work *a, const work *b)
{
    for (int k = 0; k < STRETCHES; k++) {
        size_t bytes = (size_t)sizes[k] * sizeof(float);
        CHECK(!memcmp(a->s[k].p, b->s[k].p, bytes));
        CHECK(!memcmp(a->s[k].m, b->s[k].m, bytes));
        CHECK(!memcmp(a->s[k].v, b->s[k].v, bytes));
    }
}

/* The bits of a pass of scale() before it, weight decay and all: no product is fused into a sum. */
TEST(a_step_scales_as_scale_does)
{
    const clipping c = {.factor = 0.3f};
    EACH_LEVEL(k)
    for (int kind = 0; kind < 3; kind++) {
        work a = work_new(), b = work_new();
        for (int step = 0; step < 2; step++) {
            new_gradients(&a, step);
            new_gradients(&b, step);
            k->scale(a.s, STRETCHES, &c);
            step_of(k, kind, &a, NULL);
            step_of(k, kind, &b, &c);
        }
        compare_stretches(&a, &b);
    }
}

TEST(a_skipped_step_writes_nothing)
{
    const clipping c = {.factor = 0.5f, .skip = 1};
    EACH_LEVEL(k)
    for (int kind = 0; kind < 3; kind++) {
        work a = work_new(), b = work_new();
        new_gradients(&b, 0);
        b.s[4].g[7] = NAN;
        step_of(k, kind, &b, &c);
        compare_stretches(&a, &b);
    }
}
