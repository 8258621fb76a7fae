/* dropout: how many, which, and the same again in backward. */
#include "core/torc.h"

#include "tests/low.h"

#include <math.h>

TEST(keeps_the_mean)
{
    int64_t n = 1000000;
    torc_tensor *y = torc_dropout_op(torc_ones(TORC_SHAPE(n)), 0.3, true);
    double deviation = sqrt(0.3 / 0.7 / (double)n); /* of the mean of n independent elements */
    CHECK_NEAR(torc_item(torc_mean(y)), 1, 5 * deviation);
    CHECK_NEAR(torc_item(torc_max(y)), 1 / 0.7, 1e-6);
}

TEST(backward_drops_the_same)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(1000), .requires_grad = true);
    torc_init_constant(x, 2);
    torc_tensor *y = torc_dropout_op(x, 0.5, true);
    torc_backward(torc_sum(y));
    torc_tensor *twice = torc_mul_scalar(torc_grad(x), 2);
    CHECK_NEAR(torc_item(torc_max(torc_abs(torc_sub(twice, y)))), 0, 0);
}

TEST(two_calls_differ_and_a_seed_repeats)
{
    torc_tensor *x = torc_ones(TORC_SHAPE(100));
    torc_seed(5);
    torc_tensor *a = torc_dropout_op(x, 0.5, true), *b = torc_dropout_op(x, 0.5, true);
    torc_seed(5);
    torc_tensor *again = torc_dropout_op(x, 0.5, true);
    CHECK(torc_item(torc_max(torc_abs(torc_sub(a, b)))) > 0);
    CHECK_NEAR(torc_item(torc_max(torc_abs(torc_sub(a, again)))), 0, 0);
}

TEST(the_ends_of_the_range)
{
    torc_tensor *x = torc_ones(TORC_SHAPE(100));
    CHECK(torc_dropout_op(x, 0, true) == x);
    CHECK(torc_dropout_op(x, 0.5, false) == x);
    CHECK_NEAR(torc_item(torc_sum(torc_dropout_op(x, 1, true))), 0, 0);
}

TEST_DIES(a_probability, 1, "expected a probability from 0 to 1, found 1.5")
{
    torc_dropout_op(torc_ones(TORC_SHAPE(1)), 1.5, true);
}

/* The draws do not depend on the dtype, and a low result is the f32 one rounded. */
TEST_LOW(low_drops_the_same)
{
    torc_tensor *x = torc_ones(TORC_SHAPE(1003)), *narrow = torc_to(x, low);
    torc_set_requires_grad(narrow, true);
    torc_seed(5);
    torc_tensor *y = torc_dropout_op(x, 0.3, true);
    torc_seed(5);
    torc_tensor *low_y = torc_dropout_op(narrow, 0.3, true);
    CHECK_INT(torc_dtype_of(low_y), low);
    torc_tensor *rounded = torc_to(torc_to(y, low), TORC_F32);
    CHECK(torc_item(torc_max(torc_abs(torc_sub(torc_to(low_y, TORC_F32), rounded)))) == 0);
    torc_backward(torc_sum(torc_to(low_y, TORC_F32)));
    torc_tensor *off = torc_sub(torc_to(torc_grad(narrow), TORC_F32), rounded);
    CHECK(torc_item(torc_max(torc_abs(off))) == 0);
}
