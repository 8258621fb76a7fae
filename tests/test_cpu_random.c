/*
 * uniform, normal and dropout: the draws themselves against Philox one by one, the laws by their
 * moments, and what must not matter: level, threads, dtype, layout.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

#include "core/rng.h"

#define KEY 0x0123456789abcdefu

static uint32_t draw_of(uint64_t counter, int64_t i)
{
    uint32_t four[4];
    philox(KEY, counter + (uint64_t)(i / 4), four);
    return four[i % 4];
}

/* The counter's low half overflows on the way. */
#define COUNTER 0xfffffff0u

TEST(uniform_is_its_draws)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(5003)), *y = made(TORC_F64, SHAPE(5003));
        k->uniform(x, KEY, COUNTER, -3, 5);
        k->uniform(y, KEY, COUNTER, -3, 5);
        for (int64_t i = 0; i < 5003; i++) {
            uint32_t bits = draw_of(COUNTER, i);
            CHECK(value_at(x, i) == (float)(-3 + (bits >> 8) * 0x1p-24 * 8));
            CHECK(value_at(y, i) == -3 + bits * 0x1p-32 * 8);
        }
    }
}

/* Bounds whose difference is no power of two: products and sums round. */
TEST(uniform_same_at_every_level)
{
    enum { N = 300000 };
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64};
    for (int d = 0; d < 2; d++) {
        tensor *first = made(dtypes[d], SHAPE(N)), *x = made(dtypes[d], SHAPE(N));
        cpu_kernels_at(CPU_V2)->uniform(first, KEY, 9, 0.1, 0.7);
        EACH_LEVEL(k)
        {
            k->uniform(x, KEY, 9, 0.1, 0.7);
            CHECK(!memcmp(tensor_data(x), tensor_data(first), N * tensor_item_size(x)));
        }
    }
}

/* Between bounds a few f32 apart many values round up, but never to high itself. */
TEST(uniform_stays_below_high)
{
    tensor *x = made(TORC_F32, SHAPE(30000));
    EACH_LEVEL(k)
    {
        k->uniform(x, KEY, 9, 0.1, 0.1000001);
        for (int64_t i = 0; i < 30000; i++)
            CHECK(value_at(x, i) >= 0.1f && value_at(x, i) < 0.1000001f);
    }
}

TEST(threads_do_not_matter)
{
    enum { N = 300001 };
    tensor *one = made(TORC_F32, SHAPE(N)), *three = made(TORC_F32, SHAPE(N));
    EACH_LEVEL(k)
    {
        omp_set_num_threads(1);
        k->normal(one, KEY, 5, 0, 1);
        omp_set_num_threads(3);
        k->normal(three, KEY, 5, 0, 1);
        CHECK(!memcmp(tensor_data(one), tensor_data(three), N * sizeof(float)));
    }
}

TEST(normal_is_box_and_muller)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(1001)), *y = made(TORC_F64, SHAPE(1001));
        k->normal(x, KEY, COUNTER, 1, 2);
        k->normal(y, KEY, COUNTER, 1, 2);
        for (int64_t i = 0; i < 1001; i++) {
            double u = (draw_of(COUNTER, i / 2 * 2) + 1.0) * 0x1p-32;
            double angle = 2 * M_PI * (draw_of(COUNTER, i / 2 * 2 + 1) * 0x1p-32);
            double z = sqrt(-2 * log(u)) * (i % 2 ? sin(angle) : cos(angle));
            CHECK_NEAR(value_at(y, i), 1 + 2 * z, 1e-14);
            CHECK_NEAR(value_at(x, i), 1 + 2 * z, 1e-7);
        }
    }
}

/* Moments of 10^6 draws lie within five of their own standard deviations. */
TEST(normal_moments)
{
    enum { N = 1000000 };
    tensor *x = made(TORC_F32, SHAPE(N));
    cpu_kernels()->normal(x, 7, 0, 0, 1);
    double sum = 0, square = 0, fourth = 0;
    for (int64_t i = 0; i < N; i++) {
        double v = value_at(x, i);
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
    }
    CHECK_NEAR(sum / N, 0, 5 * sqrt(1.0 / N));
    CHECK_NEAR(square / N, 1, 5 * sqrt(2.0 / N));
    CHECK_NEAR(fourth / N, 3, 5 * sqrt(96.0 / N));
}

/* ---- dropout ---- */

TEST(dropout_decides_as_uniform_does)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    static const double chances[] = {0, 0.1, 0.5, 0.999, 1};
    EACH_LEVEL(k)
    for (int n = 0; n < 3 * 5 * 3; n++) {
        double p = chances[n / 3 % 5];
        layout how = n / 15; /* contiguous, transposed, sliced */
        tensor *u = made(TORC_F32, SHAPE(7, 501)), *x = made(dtypes[n % 3], SHAPE(7, 501));
        tensor *y = made_as(how, dtypes[n % 3], SHAPE(7, 501));
        k->uniform(u, KEY, COUNTER, 0, 1);
        set_random(x, 1, 2, 3);
        k->dropout((sink){y, false}, x, p, KEY, COUNTER);
        for (int64_t i = 0; i < tensor_numel(x); i++) {
            double kept = value_at(u, i) >= p ? value_at(x, i) / (1 - p) : 0;
            CHECK_NEAR(value_at(y, i), kept, n % 3 == 2 ? 0x1p-8 : 1e-6);
        }
    }
}

TEST(dropout_adds)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 4; way++) {
        torc_dtype dtype = way & 2 ? TORC_BF16 : TORC_F32;
        layout how = way & 1 ? TRANSPOSED : CONTIGUOUS;
        tensor *x = made(dtype, SHAPE(70, 50)), *y = made(TORC_F32, SHAPE(70, 50));
        tensor *sum = made_as(how, dtype, SHAPE(70, 50));
        set_random(x, 1, 2, 3);
        set_random(sum, -1, 1, 4);
        double before = value_at(sum, 3499);
        k->uniform(y, KEY, 4, 0, 1);
        k->dropout((sink){sum, true}, x, 0.3, KEY, 4);
        double kept = value_at(y, 3499) >= 0.3 ? value_at(x, 3499) / 0.7 : 0;
        CHECK_NEAR(value_at(sum, 3499), before + kept, way & 2 ? 0x1p-8 : 1e-6);
    }
}

TEST(dropout_that_adds_is_the_same_at_every_level)
{
    enum { N = 5003 };
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64};
    for (int d = 0; d < 2; d++) {
        tensor *first = made(dtypes[d], SHAPE(N)), *y = made(dtypes[d], SHAPE(N));
        tensor *x = made(dtypes[d], SHAPE(N));
        set_random(x, 1, 2, 3);
        set_random(first, -1, 1, 4);
        cpu_kernels_at(CPU_V2)->dropout((sink){first, true}, x, 0.3, KEY, 4);
        EACH_LEVEL(k)
        {
            set_random(y, -1, 1, 4);
            k->dropout((sink){y, true}, x, 0.3, KEY, 4);
            CHECK(!memcmp(tensor_data(y), tensor_data(first), N * tensor_item_size(y)));
        }
    }
}

/* The draw that is just p is kept. */
TEST(dropout_at_the_bound)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(8)), *y = made(TORC_F32, SHAPE(8));
        k->fill(x, 1);
        double p = (draw_of(0, 5) >> 8) * 0x1p-24;
        k->dropout((sink){y, false}, x, p, KEY, 0);
        CHECK_NEAR(value_at(y, 5), 1 / (1 - p), 1e-6);
    }
}

/* What is dropped is gone, even if it was no number. */
TEST(dropout_of_nan)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(100)), *y = made(TORC_F32, SHAPE(100));
        k->fill(x, NAN);
        k->dropout((sink){y, false}, x, 0.5, KEY, 0);
        for (int64_t i = 0; i < 100; i++) {
            bool kept = (draw_of(0, i) >> 8) * 0x1p-24 >= 0.5;
            CHECK_INT(isnan(value_at(y, i)), kept);
        }
    }
}
