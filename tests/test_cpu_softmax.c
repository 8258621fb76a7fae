/*
 * softmax, log_softmax, logsumexp and cross_entropy of the CPU, at every level, against their
 * formulas in f64.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static const int64_t widths[] = {1, 2, 7, 10, 16, 65, 1000, 1024, 5003};

static double lse_of(const tensor *x, int64_t row, int64_t n)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, value_at(x, row * n + i));
    for (int64_t i = 0; i < n; i++)
        sum += exp(value_at(x, row * n + i) - largest);
    return largest + log(sum);
}

static void check_softmax(const kernels *k, torc_dtype dtype, int64_t n, double tolerance)
{
    const int64_t rows = 3;
    tensor *x = made(dtype, SHAPE(rows, n)), *y = made(dtype, SHAPE(rows, n));
    tensor *ly = made(dtype, SHAPE(rows, n)), *lse = made(dtype, SHAPE(rows, 1));
    tensor *g = made(dtype, SHAPE(rows, n)), *dx = made(dtype, SHAPE(rows, n));
    tensor *ldx = made(dtype, SHAPE(rows, n));
    set_random(x, -8, 8, 1);
    set_random(g, -1, 1, 2);
    set_random(ldx, -1, 1, 3);
    tensor *before = made(dtype, SHAPE(rows, n));
    set_random(before, -1, 1, 3);
    k->softmax(y, x, false);
    k->softmax(ly, x, true);
    k->logsumexp(lse, x);
    k->softmax_grad((sink){dx, false}, y, g, false);
    k->softmax_grad((sink){ldx, true}, ly, g, true);
    for (int64_t row = 0; row < rows; row++) {
        double expected = lse_of(x, row, n), dot = 0, sum = 0;
        CHECK_NEAR(value_at(lse, row), expected, tolerance);
        for (int64_t i = row * n; i < row * n + n; i++) {
            dot += exp(value_at(x, i) - expected) * value_at(g, i);
            sum += value_at(g, i);
        }
        for (int64_t i = row * n; i < row * n + n; i++) {
            double p = exp(value_at(x, i) - expected);
            CHECK_NEAR(value_at(y, i), p, tolerance);
            CHECK_NEAR(value_at(ly, i), value_at(x, i) - expected, tolerance);
            CHECK_NEAR(value_at(dx, i), p * (value_at(g, i) - dot), tolerance);
            CHECK_NEAR(value_at(ldx, i), value_at(before, i) + value_at(g, i) - p * sum,
                       4 * tolerance);
        }
    }
}

TEST(softmax_and_gradients)
{
    EACH_LEVEL(k)
    for (int i = 0; i < ARRAY_LENGTH(widths); i++) {
        check_softmax(k, TORC_F32, widths[i], 4e-6);
        check_softmax(k, TORC_F64, widths[i], 1e-13);
    }
}

/* Every power of 2^-126 .. 1 in steps, against the C library's. */
TEST(powers_are_within_two_units)
{
    EACH_LEVEL(k)
    {
        const int64_t n = 4000;
        tensor *x = made(TORC_F32, SHAPE(n, 2)), *y = made(TORC_F32, SHAPE(n, 2));
        for (int64_t i = 0; i < n; i++)
            set_value(x, 2 * i + 1, -87.0 * (double)i / (double)n);
        k->softmax_grad((sink){y, false}, x, x, true); /* g - e^y sum g, where y = g */
        k->softmax(y, x, false);
        for (int64_t i = 0; i < n; i++) {
            double small = exp(value_at(x, 2 * i + 1)), expected = small / (1 + small);
            CHECK(fabs(value_at(y, 2 * i + 1) / expected - 1) < 4e-7);
        }
    }
}

TEST(rows_with_infinities_and_nan)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(4, 40)), *y = made(TORC_F32, SHAPE(4, 40));
        tensor *lse = made(TORC_F32, SHAPE(4, 1));
        for (int i = 0; i < 160; i++)
            set_value(x, i, i < 40 ? -INFINITY : 0);
        set_value(x, 45, -INFINITY);
        set_value(x, 90, NAN);
        set_value(x, 130, INFINITY);
        k->softmax(y, x, false);
        k->logsumexp(lse, x);
        CHECK(isnan(value_at(y, 3)));
        CHECK(value_at(lse, 0) == -INFINITY);
        CHECK(value_at(y, 45) == 0);
        CHECK_NEAR(value_at(y, 46), 1.0 / 39, 1e-6);
        CHECK_NEAR(value_at(lse, 1), log(39), 1e-6);
        CHECK(isnan(value_at(y, 81)));
        CHECK(isnan(value_at(lse, 2)));
        CHECK(value_at(lse, 3) == INFINITY);
        k->softmax(y, x, true);
        CHECK(value_at(y, 45) == -INFINITY);
        CHECK(isnan(value_at(y, 3)));
    }
}

TEST(large_logits_do_not_overflow)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(1, 20)), *y = made(TORC_F32, SHAPE(1, 20));
        for (int i = 0; i < 20; i++)
            set_value(x, i, 3e38 * (i == 7));
        k->softmax(y, x, false);
        CHECK(value_at(y, 7) == 1);
        CHECK(value_at(y, 8) == 0);
    }
}

TEST(empty_rows)
{
    EACH_LEVEL(k)
    {
        tensor *none = made(TORC_F32, SHAPE(3, 0)), *lse = made(TORC_F32, SHAPE(3, 1));
        k->softmax(none, none, false);
        k->logsumexp(lse, none);
        CHECK(value_at(lse, 2) == -INFINITY);
        tensor *no_rows = made(TORC_F32, SHAPE(0, 5));
        k->softmax(no_rows, no_rows, true);
        k->softmax_grad((sink){no_rows, false}, no_rows, no_rows, false);
    }
}

/* ---- cross entropy ---- */

typedef struct losses {
    tensor *x, *target, *loss, *lse, *g, *dx, *before;
    int64_t rows, classes, counted;
} losses;

#define IGNORED (-100)

static losses random_losses(torc_dtype dtype, int64_t rows, int64_t classes)
{
    losses l = {.rows = rows, .classes = classes};
    l.x = made(dtype, SHAPE(rows, classes));
    l.dx = made(dtype, SHAPE(rows, classes));
    l.before = made(dtype, SHAPE(rows, classes));
    l.target = made(TORC_I64, SHAPE(rows));
    torc_dtype exact = dtype == TORC_BF16 ? TORC_F32 : dtype;
    l.lse = made(exact, SHAPE(rows));
    l.loss = made(exact, 0, NULL);
    l.g = made(exact, 0, NULL);
    set_value(l.g, 0, 0.75);
    set_random(l.x, -6, 6, 1);
    set_random(l.dx, -1, 1, 2);
    set_random(l.before, -1, 1, 2);
    for (int64_t i = 0; i < rows; i++) {
        bool ignored = i % 5 == 3;
        set_value(l.target, i, ignored ? IGNORED : (double)(i * 7919 % classes));
        l.counted += !ignored;
    }
    return l;
}

/* `rounding`: of the gradient, where it is bf16. */
static void check_losses(const losses *l, double smoothing, bool add, double tolerance,
                         double rounding)
{
    double sum = 0, n = (double)l->classes;
    for (int64_t row = 0; row < l->rows; row++) {
        int64_t target = (int64_t)value_at(l->target, row);
        double lse = lse_of(l->x, row, l->classes), mean = 0;
        for (int64_t i = 0; i < l->classes; i++) {
            double x = value_at(l->x, row * l->classes + i);
            double d = exp(x - lse) - smoothing / n - (i == target) * (1 - smoothing);
            d *= target == IGNORED ? 0 : value_at(l->g, 0) / (double)l->counted;
            d += add ? value_at(l->before, row * l->classes + i) : 0;
            double off = value_at(l->dx, row * l->classes + i) - d;
            CHECK(fabs(off) <= tolerance * (1 + fabs(d)) + rounding * fabs(d));
            mean += x / n;
        }
        if (target == IGNORED)
            continue;
        sum += (1 - smoothing) * (lse - value_at(l->x, row * l->classes + target)) +
               smoothing * (lse - mean);
        CHECK_NEAR(value_at(l->lse, row), lse, tolerance);
    }
    CHECK_NEAR(value_at(l->loss, 0), sum / (double)l->counted, tolerance);
}

TEST(cross_entropy_and_gradient)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    EACH_LEVEL(k)
    for (int way = 0; way < 12; way++)
        for (int i = 0; i < ARRAY_LENGTH(widths); i++) {
            bool add = way & 1;
            torc_dtype dtype = dtypes[way / 4];
            double smoothing = way & 2 ? 0.1 : 0;
            losses l = random_losses(dtype, 11, widths[i]);
            k->cross_entropy(l.loss, l.lse, l.x, l.target, l.counted, IGNORED, smoothing);
            k->cross_entropy_grad((sink){l.dx, add}, l.g, l.lse, l.x, l.target, l.counted, IGNORED,
                                  smoothing);
            check_losses(&l, smoothing, add, dtype == TORC_F64 ? 1e-13 : 3e-6,
                         dtype == TORC_BF16 ? 0x1p-8 : 0);
        }
}

TEST(nothing_counted_gives_zero)
{
    EACH_LEVEL(k)
    for (int64_t rows = 0; rows < 4; rows++) {
        losses l = random_losses(TORC_F32, rows, 9);
        for (int64_t i = 0; i < rows; i++)
            set_value(l.target, i, IGNORED);
        set_value(l.loss, 0, 5);
        k->cross_entropy(l.loss, l.lse, l.x, l.target, 0, IGNORED, 0.1);
        k->cross_entropy_grad((sink){l.dx, false}, l.g, l.lse, l.x, l.target, 0, IGNORED, 0.1);
        CHECK(value_at(l.loss, 0) == 0);
        for (int64_t i = 0; i < rows * 9; i++)
            CHECK(value_at(l.dx, i) == 0);
    }
}

/* A class masked out by -inf has no gradient and spoils nothing. */
TEST(masked_classes)
{
    EACH_LEVEL(k)
    {
        losses l = random_losses(TORC_F32, 1, 20);
        set_value(l.x, 5, -INFINITY);
        k->cross_entropy(l.loss, l.lse, l.x, l.target, 1, IGNORED, 0);
        k->cross_entropy_grad((sink){l.dx, false}, l.g, l.lse, l.x, l.target, 1, IGNORED, 0);
        CHECK(isfinite(value_at(l.loss, 0)));
        CHECK(value_at(l.dx, 5) == 0);
        CHECK(value_at(l.dx, 6) > 0);
    }
}

TEST(same_bits_on_any_number_of_threads)
{
    EACH_LEVEL(k)
    {
        double found[3];
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            losses l = random_losses(TORC_F32, 3001, 65);
            k->cross_entropy(l.loss, l.lse, l.x, l.target, l.counted, IGNORED, 0);
            found[threads - 1] = value_at(l.loss, 0);
        }
        CHECK(found[0] == found[1] && found[0] == found[2]);
    }
}
