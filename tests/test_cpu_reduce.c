/*
 * sum, max, min and argmax at every level, against plain loops in f64.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static const torc_dtype float_dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};

/* The element of out that element i of x belongs to, when dims in `mask` are reduced. */
static int64_t target_of(const tensor *x, const tensor *out, int64_t i)
{
    int64_t index = 0, place = 1;
    for (int d = x->ndim - 1; d >= 0; d--) {
        index += i % x->shape[d] % out->shape[d] * place;
        place *= out->shape[d];
        i /= x->shape[d];
    }
    return index;
}

static long double combined(reduce_op op, long double a, double x)
{
    if (op == REDUCE_SUM)
        return a + x;
    if (isnan(a) || isnan(x))
        return NAN;
    return op == REDUCE_MAX ? fmaxl(a, x) : fminl(a, x);
}

static double start_of(reduce_op op)
{
    return op == REDUCE_SUM ? 0 : op == REDUCE_MAX ? -INFINITY : INFINITY;
}

static tensor *result_for(const tensor *x, int mask, layout how)
{
    int64_t shape[TORC_MAX_DIMS];
    for (int d = 0; d < x->ndim; d++)
        shape[d] = mask >> d & 1 ? 1 : x->shape[d];
    return made_as(how, x->dtype, x->ndim, shape);
}

static void check_reduce(const kernels *k, reduce_op op, const tensor *x, int mask, layout how,
                         double scale, bool add)
{
    tensor *out = result_for(x, mask, how);
    int64_t n = tensor_numel(out), wrong = 0;
    long double *expected = base_alloc((size_t)n + 1, sizeof *expected);
    for (int64_t i = 0; i < n; i++)
        expected[i] = start_of(op);
    for (int64_t i = 0; i < tensor_numel(x); i++) {
        int64_t to = target_of(x, out, i);
        expected[to] = combined(op, expected[to], value_at(x, i));
    }
    for (int64_t i = 0; i < n; i++)
        set_value(out, i, add ? 3 : NAN);
    k->reduce(op, out, x, scale, add);
    double tolerance = x->dtype == TORC_BF16 ? 0x1p-8 : x->dtype == TORC_F32 ? 1e-6 : 1e-13;
    for (int64_t i = 0; i < n; i++)
        wrong +=
            !test_near(value_at(out, i), scale * (double)expected[i] + (add ? 3 : 0), tolerance);
    test_check(!wrong, __FILE__, __LINE__, "op %d of %s [%lld, %lld, %lld], dims %x: %lld wrong",
               op, torc_dtype_name(x->dtype), (long long)x->shape[0], (long long)x->shape[1],
               (long long)x->shape[2], mask, (long long)wrong);
    free(expected);
}

TEST(every_layout_every_dims)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1}, {3, 5, 7}, {2, 40, 300}, {70, 3, 10}, {4, 600, 3}};
    EACH_LEVEL(k)
    for (int n = 0; n < 5 * 3 * LAYOUTS * 8; n++) {
        tensor *x = made_as(n / 15 % LAYOUTS, float_dtypes[n / 5 % 3], 3, shapes[n % 5]);
        set_random(x, -2, 2, 5);
        for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++)
            check_reduce(k, op, x, n / 15 / LAYOUTS, n % 4, op ? 1 : 0.25, !op && n % 2);
    }
}

/* More elements than one part has, as rows, as columns and as few columns. */
TEST(many_elements)
{
    static const int64_t shapes[][3] = {{1, 1, 400003}, {1, 300, 1100}, {2, 50000, 5}};
    EACH_LEVEL(k)
    for (int s = 0; s < 3; s++)
        for (int mask = 1; mask < 8; mask++) {
            tensor *x = made(TORC_F32, 3, shapes[s]);
            set_random(x, 0, 1, 6);
            check_reduce(k, REDUCE_SUM, x, mask, CONTIGUOUS, 1, false);
            check_reduce(k, REDUCE_MAX, x, mask, CONTIGUOUS, 1, false);
        }
}

/* 10^7 times 0.1f: a running sum in f32 would be off by 9 %. */
TEST(long_sums_are_accurate)
{
    tensor *x = made(TORC_F32, SHAPE(10000000)), *out = made(TORC_F32, SHAPE(1));
    cpu_kernels()->fill(x, 0.1);
    EACH_LEVEL(k)
    {
        k->reduce(REDUCE_SUM, out, x, 1, false);
        CHECK_NEAR(value_at(out, 0) / (1e7 * (double)0.1f), 1, 1e-7);
    }
}

TEST(nan_wins)
{
    EACH_LEVEL(k)
    for (int at = 0; at < 999; at += 37)
        for (int mask = 1; mask < 4; mask++) {
            tensor *x = made(TORC_F32, SHAPE(3, 333, 1));
            set_random(x, -2, 2, 8);
            set_value(x, at, NAN);
            set_value(x, (at + 400) % 999, INFINITY);
            check_reduce(k, REDUCE_MAX, x, mask, CONTIGUOUS, 1, false);
            check_reduce(k, REDUCE_MIN, x, mask, CONTIGUOUS, 1, false);
        }
}

TEST(nothing_to_reduce)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(3, 0)), *out = made(TORC_F32, SHAPE(3, 1));
        set_value(out, 2, 5);
        k->reduce(REDUCE_SUM, out, x, 1, true);
        CHECK_NEAR(value_at(out, 2), 5, 0);
        k->reduce(REDUCE_SUM, out, x, 1, false);
        CHECK_NEAR(value_at(out, 2), 0, 0);
        k->reduce(REDUCE_MAX, out, x, 1, false);
        CHECK(value_at(out, 2) == -INFINITY);
        k->reduce(REDUCE_SUM, made(TORC_F32, SHAPE(1, 0)), x, 1, false); /* no result either */
    }
}

TEST(threads_and_levels_do_not_matter)
{
    static const int64_t shapes[][3] = {{1, 1, 1000003}, {1, 3000, 700}, {1, 300000, 3}};
    for (int s = 0; s < 3; s++) {
        tensor *x = made(TORC_F32, 3, shapes[s]);
        set_random(x, -1, 1, 9);
        for (int mask = 1; mask < 8; mask++) {
            tensor *first = result_for(x, mask, CONTIGUOUS);
            cpu_kernels_at(CPU_V2)->reduce(REDUCE_SUM, first, x, 1, false);
            EACH_LEVEL(k)
            for (int threads = 1; threads <= 3; threads++) {
                tensor *out = result_for(x, mask, CONTIGUOUS);
                omp_set_num_threads(threads);
                k->reduce(REDUCE_SUM, out, x, 1, false);
                CHECK(!memcmp(tensor_data(out), tensor_data(first),
                              (size_t)tensor_numel(out) * sizeof(float)));
            }
        }
    }
}

/* ---- argmax ---- */

static int64_t argmax_by_hand(const tensor *x, const tensor *out, int64_t target, int dim)
{
    int64_t best = -1, place = 0;
    for (int64_t i = 0; i < tensor_numel(x); i++) {
        if (target_of(x, out, i) != target)
            continue;
        double v = value_at(x, i), top = best < 0 ? 0 : value_at(x, best);
        if (best < 0 || v > top || (isnan(v) && !isnan(top))) {
            best = i;
            int64_t inner = 1;
            for (int d = dim + 1; d < x->ndim; d++)
                inner *= x->shape[d];
            place = i / inner % x->shape[dim];
        }
    }
    return place;
}

TEST(argmax_every_dtype_and_layout)
{
    EACH_LEVEL(k)
    for (int n = 0; n < TORC_DTYPES * LAYOUTS * 3; n++) {
        torc_dtype dtype = n % TORC_DTYPES;
        int dim = n / TORC_DTYPES / LAYOUTS;
        tensor *x = made_as(n / TORC_DTYPES % LAYOUTS, dtype, SHAPE(3, 5, 70));
        set_random(x, 0, 9, 3);
        for (int64_t i = 0; dtype == TORC_F32 && i < tensor_numel(x); i += 97)
            set_value(x, i, NAN);
        int64_t shape[3] = {3, 5, 70};
        shape[dim] = 1;
        tensor *out = made(TORC_I64, 3, shape);
        k->argmax(out, x, dim);
        for (int64_t i = 0; i < tensor_numel(out); i++)
            CHECK_INT(value_at(out, i), argmax_by_hand(x, out, i, dim));
    }
}

TEST(argmax_takes_the_first)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(1, 5000)), *out = made(TORC_I64, SHAPE(1, 1));
        set_value(x, 3000, 1);
        set_value(x, 4000, 1);
        k->argmax(out, x, 1);
        CHECK_INT(value_at(out, 0), 3000);
        set_value(x, 4500, NAN);
        set_value(x, 4600, NAN);
        k->argmax(out, x, 1);
        CHECK_INT(value_at(out, 0), 4500);
        k->fill(x, -INFINITY);
        k->argmax(out, x, 1);
        CHECK_INT(value_at(out, 0), 0);
    }
}

/* The result may be f32 where x is bf16: then nothing is rounded to 8 bits. */
TEST(bf16_into_f32)
{
    static const int64_t sizes[] = {1, 7, 15, 16, 17, 33, 1003};
    EACH_LEVEL(k)
    for (int s = 0; s < ARRAY_LENGTH(sizes); s++)
        for (int dim = 0; dim < 2; dim++) {
            int64_t n = sizes[s], left = dim ? 211 : n;
            tensor *x = made(TORC_BF16, SHAPE(211, n));
            tensor *out = dim ? made(TORC_F32, SHAPE(211, 1)) : made(TORC_F32, SHAPE(1, n));
            double *sums = base_alloc((size_t)left, sizeof *sums);
            set_random(x, -1, 1, 7);
            k->reduce(REDUCE_SUM, out, x, 0.5, false);
            for (int64_t i = 0; i < 211 * n; i++)
                sums[dim ? i / n : i % n] += value_at(x, i) * 0.5;
            for (int64_t i = 0; i < left; i++)
                CHECK_NEAR(value_at(out, i), sums[i], 1e-6);
            free(sums);
        }
}
