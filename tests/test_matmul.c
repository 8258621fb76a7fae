/* matmul: values against loops in double, broadcasts, gradients. */
#include "tests/gradients.h"
#include "tests/low.h"

#include <stdlib.h>

/* Values that f32 holds exactly, with products that sum exactly. */
static torc_tensor *whole_numbers(torc_shape shape, int salt)
{
    torc_tensor *t = torc_zeros(shape);
    int64_t n = torc_numel(t);
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((i * 5 + salt) % 7 - 3);
    torc_write(t, TORC_F32, v, n);
    free(v);
    return t;
}

static double at(torc_tensor *t, int64_t row, int64_t column)
{
    torc_tensor *r = torc_slice(torc_slice(t, 0, row, row + 1, 1), 1, column, column + 1, 1);
    return torc_item(r);
}

static void check_product(torc_tensor *a, torc_tensor *b)
{
    torc_tensor *y = torc_matmul(a, b);
    int64_t m = torc_size(a, 0), k = torc_size(a, 1), n = torc_size(b, 1);
    for (int64_t i = 0; i < m; i += 3)
        for (int64_t j = 0; j < n; j += 5) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += at(a, i, l) * at(b, l, j);
            CHECK_NEAR(at(y, i, j), sum, 0);
        }
}

TEST(products_are_exact_in_every_orientation)
{
    torc_tensor *a = whole_numbers(TORC_SHAPE(7, 13), 1), *b = whole_numbers(TORC_SHAPE(13, 11), 2);
    torc_tensor *at_ = torc_transpose(whole_numbers(TORC_SHAPE(13, 7), 3), 0, 1);
    torc_tensor *bt = torc_transpose(whole_numbers(TORC_SHAPE(11, 13), 4), 0, 1);
    check_product(a, b);
    check_product(at_, b);
    check_product(a, bt);
    check_product(at_, bt);
    check_product(torc_slice(whole_numbers(TORC_SHAPE(7, 26), 5), 1, 0, 26, 2), b);
}

TEST(of_an_empty_inner_dimension_is_zero)
{
    torc_tensor *y = torc_matmul(torc_ones(TORC_SHAPE(2, 0)), torc_ones(TORC_SHAPE(0, 3)));
    CHECK_NEAR(torc_item(torc_sum(torc_abs(y))), 0, 0);
}

TEST_LOW(low_products_accumulate_in_f32)
{
    /* bf16 alone stops at 256, f16 at 2048 */
    torc_tensor *a = torc_ones(TORC_SHAPE(1, 3072), .dtype = low);
    torc_tensor *b = torc_ones(TORC_SHAPE(3072, 1), .dtype = low);
    CHECK_NEAR(torc_item(torc_matmul(a, b)), 3072, 0);
}

static torc_tensor *g_matmul(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_matmul(in[0], in[1]);
}

static torc_tensor *g_square(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_matmul(in[0], in[0]);
}

TEST(gradients_match_differences)
{
    const torc_shape pairs[][2] = {
        {TORC_SHAPE(2, 3), TORC_SHAPE(3, 4)},          {TORC_SHAPE(2, 2, 3), TORC_SHAPE(2, 3, 4)},
        {TORC_SHAPE(2, 2, 3), TORC_SHAPE(3, 4)},       {TORC_SHAPE(2, 3), TORC_SHAPE(2, 3, 4)},
        {TORC_SHAPE(2, 1, 2, 3), TORC_SHAPE(3, 3, 2)}, {TORC_SHAPE(0, 3), TORC_SHAPE(3, 4)},
        {TORC_SHAPE(2, 0), TORC_SHAPE(0, 4)},          {TORC_SHAPE(1, 5), TORC_SHAPE(5, 1)},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        check_gradients("matmul", g_matmul, NULL, 2, pairs[i], -1, 1);
    check_gradients("square", g_square, NULL, 1, (torc_shape[]){TORC_SHAPE(3, 3)}, -1, 1);
}

TEST_DIES(inner_dimensions, 1, "torc_matmul: inner dimensions differ: [32, 784] x [128, 10]")
{
    torc_matmul(torc_ones(TORC_SHAPE(32, 784)), torc_ones(TORC_SHAPE(128, 10)));
}
