/* Reductions: values by formula, any dimensions, empty ones, gradients. */
#include "tests/gradients.h"
#include "tests/low.h"

#include <math.h>
#include <stdlib.h>

static torc_tensor *counting(int64_t rows, int64_t columns)
{
    return torc_reshape(torc_arange(rows * columns), TORC_SHAPE(rows, columns));
}

TEST(sums_over_any_dimensions)
{
    torc_tensor *t = counting(3, 4); /* 0 .. 11 */
    CHECK_NEAR(torc_item(torc_sum(t)), 66, 0);
    float found[4];
    torc_read(torc_sum(t, .dims = TORC_DIMS(0)), TORC_F32, found, 4);
    CHECK_NEAR(found[3], 3 + 7 + 11, 0);
    torc_tensor *kept = torc_mean(t, .dims = TORC_DIMS(-1), .keepdim = true);
    CHECK_INT(torc_ndim(kept), 2);
    torc_read(kept, TORC_F32, found, 3);
    CHECK_NEAR(found[2], 9.5, 0);
}

TEST(long_sums_stay_exact)
{
    int64_t n = 20 * 1000 * 1000; /* f32 alone would stop counting at 2^24 */
    CHECK_NEAR(torc_item(torc_sum(torc_ones(TORC_SHAPE(n)))), (double)n, 1e-6);
}

TEST(variance_by_formula)
{
    torc_tensor *t = counting(2, 4);
    CHECK_NEAR(torc_item(torc_var(torc_slice(t, 0, 0, 1, 1))), 5.0 / 3, 1e-6);
    CHECK_NEAR(torc_item(torc_var(torc_slice(t, 0, 0, 1, 1), .biased = true)), 1.25, 1e-6);
}

TEST(extremes_and_where_they_are)
{
    torc_tensor *t = torc_zeros(TORC_SHAPE(2, 3));
    torc_write(t, TORC_F32, (float[]){1, 5, 5, -2, -7, -1}, 6);
    float found[3];
    torc_read(torc_max(t, .dims = TORC_DIMS(1)), TORC_F32, found, 2);
    CHECK_NEAR(found[0], 5, 0);
    CHECK_NEAR(found[1], -1, 0);
    CHECK_NEAR(torc_item(torc_min(t)), -7, 0);
    int64_t at[2];
    torc_read(torc_argmax(t, .dims = TORC_DIMS(1)), TORC_I64, at, 2);
    CHECK_INT(at[0], 1); /* the first of equals */
    CHECK_INT(at[1], 2);
    CHECK_NEAR(torc_item(torc_argmax(t)), 1, 0);
}

TEST(nothing_sums_to_zero)
{
    torc_tensor *none = torc_zeros(TORC_SHAPE(0, 3));
    CHECK_NEAR(torc_item(torc_sum(none)), 0, 0);
    CHECK(isnan(torc_item(torc_mean(none))));
    CHECK_INT(torc_numel(torc_sum(none, .dims = TORC_DIMS(0))), 3);
    CHECK_INT(torc_numel(torc_max(none, .dims = TORC_DIMS(1))), 0);
}

TEST(full_means_weigh_their_elements)
{
    CHECK_NEAR(torc_weight(torc_mean(torc_ones(TORC_SHAPE(6, 2)))), 12, 0);
    CHECK_NEAR(torc_weight(torc_mul_scalar(torc_mean(torc_ones(TORC_SHAPE(7))), 0.5)), 7, 0);
}

/* ---- gradients ---- */

static torc_reduce_options as_options(const void *how)
{
    return *(const torc_reduce_options *)how;
}

/* The ops as functions, called with the options in `how`. */
#define OP(name) \
    static torc_tensor *g_##name(torc_tensor *const *in, const void *how) \
    { \
        return (torc_##name)(TORC_HERE, in[0], as_options(how)); \
    }
OP(sum)
OP(mean)
OP(max)
OP(min)
OP(var)
OP(logsumexp)

TEST(gradients_match_differences)
{
    static const struct {
        const char *name;
        test_op f;
    } ops[] = {{"sum", g_sum}, {"mean", g_mean}, {"max", g_max},
               {"min", g_min}, {"var", g_var},   {"logsumexp", g_logsumexp}};
    const torc_reduce_options how[] = {
        {.keepdim = false},
        {.dims = TORC_DIMS(0)},
        {.dims = TORC_DIMS(-1), .keepdim = true},
        {.dims = TORC_DIMS(0, 2)},
        {.dims = TORC_DIMS(2, 1), .keepdim = true},
    };
    const torc_shape shape = TORC_SHAPE(3, 4, 2);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (size_t k = 0; k < sizeof how / sizeof *how; k++)
            check_gradients(ops[i].name, ops[i].f, &how[k], 1, &shape, -2, 2);
    const torc_shape empty = TORC_SHAPE(0, 4, 2);
    check_gradients("sum of nothing", g_sum, &how[1], 1, &empty, -2, 2);
}

TEST_DIES(max_of_nothing, 1, "expected at least one element to choose from, found [0]")
{
    torc_max(torc_zeros(TORC_SHAPE(0)));
}

TEST_DIES(a_dimension_named_twice, 1, "dimension 1 is named twice")
{
    torc_sum(torc_zeros(TORC_SHAPE(2, 2)), .dims = TORC_DIMS(1, -1));
}

/* ---- bf16 and f16 ---- */

/* In autocast sums are f32, and their gradients come back as x is; outside all stays low. */
TEST_LOW(sums_of_low)
{
    const int64_t columns = low == TORC_F16 ? 293 : 43; /* 2051 takes 12 bits, 301 9 */
    torc_tensor *x = torc_ones(TORC_SHAPE(7, columns), .dtype = low);
    torc_set_requires_grad(x, true);
    CHECK_INT(torc_dtype_of(torc_sum(x)), low);
    CHECK_NEAR(torc_item(torc_sum(x)), low == TORC_F16 ? 2052 : 300, 0);
    torc_autocast(low)
    {
        torc_tensor *sum = torc_sum(x), *mean = torc_mean(x, .dims = TORC_DIMS(0));
        CHECK_INT(torc_dtype_of(sum), TORC_F32);
        CHECK_INT(torc_dtype_of(mean), TORC_F32);
        CHECK_INT(torc_dtype_of(torc_var(x)), TORC_F32);
        CHECK_INT(torc_dtype_of(torc_max(x)), low);
        CHECK_NEAR(torc_item(sum), (double)(7 * columns), 0);
        torc_backward(sum);
    }
    CHECK_INT(torc_dtype_of(torc_grad(x)), low);
    CHECK_NEAR(torc_item(torc_max(torc_grad(x))), 1, 0);
}
