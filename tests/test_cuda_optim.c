/*
 * The optimizers' kernels of the GPU against the CPU's: more stretches than a launch takes, of all
 * sizes, some in the middle of a pack.
 */
#include "tests/cuda_tensors.h"

enum { COUNT = 170, ROOM = 80000 };

/* The same stretches over memory of the host, and over the GPU's. */
typedef struct work {
    twin all[4]; /* p, g, m, v */
    stretch host[COUNT], gpu[COUNT];
} work;

/* Most are small; some are of several chunks, some of nothing. */
static int64_t size_of(int k)
{
    return k == 3 ? 20001 : k == 100 ? 16384 : k % 11 == 5 ? 0 : k * 37 % 301;
}

static stretch stretch_at(tensor *const t[4], int64_t at, int64_t n)
{
    float *p[4];
    for (int i = 0; i < 4; i++)
        p[i] = (float *)tensor_data(t[i]) + at;
    return (stretch){p[0], p[1], p[2], p[3], n};
}

/* Stretches begin where the one before ends, most of them in the middle of a pack; `packed`: at the
 * next pack. */
static work work_new(bool packed)
{
    work w;
    tensor *host[4], *gpu[4];
    for (int i = 0; i < 4; i++) {
        w.all[i] = twin_random(made(TORC_F32, SHAPE(ROOM)), i < 3 ? -1 : 0, 1,
                               (uint64_t)(i + 10 * packed));
        host[i] = w.all[i].host;
        gpu[i] = w.all[i].gpu;
    }
    for (int64_t k = 0, at = 0; k < COUNT; k++) {
        int64_t n = size_of((int)k);
        w.host[k] = stretch_at(host, at, n);
        w.gpu[k] = stretch_at(gpu, at, n);
        at += packed ? (n + 3) / 4 * 4 : n;
        if (at > ROOM)
            abort();
    }
    return w;
}

/* All four, the elements beside the stretches too. */
static void check_work(const work *w, double tolerance)
{
    for (int i = 0; i < 4; i++)
        check_twins(w->all[i], tolerance);
}

TEST(sgd)
{
    static const sgd_step kinds[] = {{0.1f, 0, 0, 0, false, true},
                                     {0.1f, 0, 0, 0.01f, false, true},
                                     {0.1f, 0.9f, 0.5f, 0.01f, false, true},
                                     {0.1f, 0.9f, 0, 0.01f, true, false}};
    for (int kind = 0; kind < ARRAY_LENGTH(kinds); kind++) {
        work w = work_new(kind % 2);
        cpu_kernels()->sgd(w.host, COUNT, kinds[kind], NULL);
        cuda_kernels.sgd(w.gpu, COUNT, kinds[kind], NULL);
        check_work(&w, 1e-6);
    }
}

/* What was in the buffer before the first step does not count. */
TEST(sgd_starts_from_anything)
{
    twin t[4];
    for (int i = 0; i < 4; i++)
        t[i] = twin_random(made(TORC_F32, SHAPE(9)), -1, 1, (uint64_t)i);
    cpu_kernels()->fill(t[2].host, NAN);
    t[2] = twin_of(t[2].host);
    tensor *host[] = {t[0].host, t[1].host, t[2].host, t[3].host};
    tensor *gpu[] = {t[0].gpu, t[1].gpu, t[2].gpu, t[3].gpu};
    const sgd_step c = {0.1f, 0.9f, 0.5f, 0.01f, false, true};
    const stretch a = stretch_at(host, 0, 9), b = stretch_at(gpu, 0, 9);
    cpu_kernels()->sgd(&a, 1, c, NULL);
    cuda_kernels.sgd(&b, 1, c, NULL);
    check_twins(t[0], 1e-6);
    check_twins(t[2], 1e-6);
    CHECK(!isnan(value_at(t[0].host, 8)));
}

TEST(adam)
{
    static const adam_step kinds[] = {{0.01f, 0.9f, 0.999f, 1e-8f, 0, false, 0.1, 0.001},
                                      {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, false, 0.19, 0.002},
                                      {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, true, 1, 1}};
    for (int kind = 0; kind < ARRAY_LENGTH(kinds); kind++) {
        work w = work_new(kind % 2);
        cpu_kernels()->adam(w.host, COUNT, kinds[kind], NULL);
        cuda_kernels.adam(w.gpu, COUNT, kinds[kind], NULL);
        check_work(&w, 2e-6);
    }
}

static void copy_to_host(float *to, tensor *const t[4], int i, int64_t n)
{
    device_cuda.to_host(to, tensor_data(t[i]), (size_t)n * sizeof *to);
}

/* However the elements are dealt out to stretches, each gets the same bits: a rank that owns a
 * slice must agree with one that owns all. */
TEST(adam_does_not_see_the_cut)
{
    enum { N = 30000 };
    const adam_step c = {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, true, 0.1, 0.001};
    tensor *whole[4], *cut[4];
    static float a[N], b[N];
    for (int i = 0; i < 4; i++) {
        tensor *t = made(TORC_F32, SHAPE(N));
        whole[i] = twin_random(t, i < 3 ? -1 : 0, 1, (uint64_t)i).gpu;
        cut[i] = twin_of(t).gpu;
    }
    const stretch one = stretch_at(whole, 0, N);
    cuda_kernels.adam(&one, 1, c, NULL);
    stretch parts[COUNT];
    int64_t n = 0;
    for (int64_t at = 0, size; at < N; at += size) {
        size = min_i64(N - at, 1 + (at * 7 + 13) % 900);
        parts[n++] = stretch_at(cut, at, size);
    }
    cuda_kernels.adam(parts, n, c, NULL);
    for (int i = 0; i < 4; i++) {
        copy_to_host(a, whole, i, N);
        copy_to_host(b, cut, i, N);
        CHECK(!memcmp(a, b, sizeof a));
    }
}

/* A clipping in the GPU's memory, with what c has. */
static storage *clipping_on_gpu(clipping c)
{
    storage *s = storage_new(sizeof c);
    device_cuda.from_host(s->data, &c, sizeof c);
    return s;
}

/* Of gradients times a factor, and of none. */
TEST(steps_that_scale_or_skip)
{
    const sgd_step plain = {0.1f, 0, 0, 0.01f, false, false};
    const sgd_step momentum = {0.1f, 0.9f, 0.5f, 0.01f, false, false};
    const adam_step adam = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, false, 0.1, 0.001};
    for (int skip = 0; skip < 2; skip++) {
        work w = work_new(skip);
        const clipping c = {.factor = 0.3f, .skip = skip};
        const clipping *there = clipping_on_gpu(c)->data;
        cpu_kernels()->sgd(w.host, COUNT, plain, &c);
        cuda_kernels.sgd(w.gpu, COUNT, plain, there);
        cpu_kernels()->sgd(w.host, COUNT, momentum, &c);
        cuda_kernels.sgd(w.gpu, COUNT, momentum, there);
        cpu_kernels()->adam(w.host, COUNT, adam, &c);
        cuda_kernels.adam(w.gpu, COUNT, adam, there);
        check_work(&w, skip ? 0 : 2e-6);
    }
}

/* The bits of a pass of scale() before the step. */
TEST(a_step_scales_as_scale_does)
{
    const adam_step adam = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, false, 0.1, 0.001};
    const clipping *c = clipping_on_gpu((clipping){.factor = 0.3f})->data;
    work a = work_new(false), b = work_new(false);
    static float x[ROOM], y[ROOM];
    cuda_kernels.scale(a.gpu, COUNT, c);
    cuda_kernels.adam(a.gpu, COUNT, adam, NULL);
    cuda_kernels.adam(b.gpu, COUNT, adam, c);
    for (int i = 0; i < 4; i++) {
        device_cuda.to_host(x, tensor_data(a.all[i].gpu), sizeof x);
        device_cuda.to_host(y, tensor_data(b.all[i].gpu), sizeof y);
        CHECK(i == 1 || !memcmp(x, y, sizeof x));
    }
}

/* The three functions of core/clipping.h, to the bit, through good and bad steps. */
TEST(the_loss_scale_moves_as_on_the_host)
{
    const scale_rule rule = {2, 0.25f, 2};
    loss_scale here = {.scale = 24}, found;
    clipping c = {0}, seen;
    storage *scale = storage_new(sizeof here), *s = clipping_on_gpu(c);
    device_cuda.from_host(scale->data, &here, sizeof here);
    for (int i = 0; i < 12; i++) {
        c.squares = i % 5 == 4 ? INFINITY : 100.0 * (i + 1);
        device_cuda.from_host(s->data, &c, sizeof c);
        cpu_kernels()->clip(&c, 1, &here);
        cpu_kernels()->unscale(&c, &here);
        cpu_kernels()->rescale(&here, rule);
        cuda_kernels.clip(s->data, 1, scale->data);
        cuda_kernels.unscale(s->data, scale->data);
        cuda_kernels.rescale(scale->data, rule);
        device_cuda.to_host(&seen, s->data, sizeof seen);
        device_cuda.to_host(&found, scale->data, sizeof found);
        CHECK(seen.skip == c.skip && seen.factor == c.factor && seen.norm == c.norm);
        CHECK(found.scale == here.scale && found.good == here.good && !found.skipped);
        CHECK_INT(c.skip, i % 5 == 4);
    }
}

TEST(scale)
{
    for (int packed = 0; packed < 2; packed++)
        for (float factor = 0.3f; factor < 2; factor += 0.7f) { /* 0.3, and 1: nothing */
            work w = work_new(packed);
            clipping c = {.factor = factor};
            cpu_kernels()->scale(w.host, COUNT, &c);
            cuda_kernels.scale(w.gpu, COUNT, clipping_on_gpu(c)->data);
            check_work(&w, 0);
        }
}

/* The factor is the CPU's to the bit, also where it is 1 because nothing can be mended. */
TEST(clip)
{
    const double squares[] = {0, 1e-30, 4, 1e60, INFINITY, NAN};
    for (int i = 0; i < ARRAY_LENGTH(squares); i++)
        for (double most = 0; most < 3; most += 1.5) {
            clipping c = {.squares = squares[i]}, found;
            storage *s = clipping_on_gpu(c);
            cpu_kernels()->clip(&c, most, NULL);
            cuda_kernels.clip(s->data, most, NULL);
            device_cuda.to_host(&found, s->data, sizeof found);
            CHECK(found.factor == c.factor);
            CHECK(found.norm == c.norm || isnan(c.norm) == isnan(found.norm));
            storage_release(s);
        }
}

static double sum_squares_of(const stretch *s, int64_t n)
{
    double found;
    storage *room = storage_new(sizeof found);
    cuda_kernels.sum_squares(room->data, s, n);
    device_cuda.to_host(&found, room->data, sizeof found);
    storage_release(room);
    return found;
}

TEST(sum_squares)
{
    for (int packed = 0; packed < 2; packed++) {
        work w = work_new(packed);
        double expected;
        cpu_kernels()->sum_squares(&expected, w.host, COUNT);
        double found = sum_squares_of(w.gpu, COUNT);
        CHECK_NEAR(found / expected, 1, 1e-13);
        CHECK(sum_squares_of(w.gpu, 0) == 0);
        CHECK(sum_squares_of(w.gpu + 5, 1) == 0); /* a stretch of nothing */
    }
}

/* Gradients are not read beyond their end, and one that is not finite is seen. */
TEST(sum_squares_sees_all_and_nothing_else)
{
    for (int64_t n = 1; n < 40; n++) {
        tensor *t = made(TORC_F32, SHAPE(n + 1));
        set_random(t, -1, 1, 1);
        set_value(t, n, NAN);
        stretch s = {.g = tensor_data(twin_of(t).gpu), .n = n};
        CHECK(isfinite(sum_squares_of(&s, 1)));
        s.n++;
        CHECK(isnan(sum_squares_of(&s, 1)));
    }
}

/* Ranks must agree on the norm to the bit, wherever their gradients begin. */
TEST(sum_squares_does_not_see_the_address)
{
    enum { N = 20011 };
    double first = 0;
    for (int64_t offset = 0; offset < 5; offset++) {
        tensor *t = made(TORC_F32, SHAPE(N + 5));
        tensor *view = made_view(t, SHAPE(N), STRIDES(1), offset);
        set_random(view, -1, 1, 1);
        const stretch s = {.g = tensor_data(twin_of(view).gpu), .n = N};
        double found = sum_squares_of(&s, 1);
        first = first ? first : found;
        CHECK(found == first);
    }
}
