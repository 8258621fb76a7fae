/* torc_init_*: distributions by their moments, the seed, dtypes and layouts, what is refused. */
#include "core/torc.h"

#include "core/base.h"
#include "tests/harness.h"

#include <math.h>

enum { MANY = 40000 };

static double mean_of(torc_tensor *t)
{
    return torc_item(torc_mean(t));
}

static double deviation_of(torc_tensor *t)
{
    return sqrt(torc_item(torc_var(t)));
}

/* Bounds are four standard errors. */
TEST(normal_has_its_moments)
{
    torc_tensor *t = torc_tensor_new(TORC_SHAPE(MANY));
    torc_init_normal(t, 3, 2);
    CHECK_NEAR(mean_of(t), 3, 4 * 2 / sqrt(MANY) / 4);
    CHECK_NEAR(deviation_of(t), 2, 4 * 2 / sqrt(2.0 * MANY) / 3);
    torc_init_normal(t, 3, 0);
    CHECK_NEAR(torc_item(torc_max(t)), 3, 0);
}

TEST(uniform_has_its_bounds)
{
    torc_tensor *t = torc_tensor_new(TORC_SHAPE(MANY));
    torc_init_uniform(t, -1, 3);
    CHECK(torc_item(torc_min(t)) >= -1 && torc_item(torc_min(t)) < -0.99);
    CHECK(torc_item(torc_max(t)) <= 3 && torc_item(torc_max(t)) > 2.99);
    CHECK_NEAR(mean_of(t), 1, 4 * 4 / sqrt(12.0 * MANY) / 2);
    CHECK_NEAR(deviation_of(t), 4 / sqrt(12), 0.01);
}

TEST(the_seed_decides)
{
    torc_tensor *a = torc_tensor_new(TORC_SHAPE(9)), *b = torc_tensor_new(TORC_SHAPE(9));
    torc_seed(1);
    torc_init_uniform(a, 0, 1);
    torc_init_uniform(b, 0, 1);
    CHECK(torc_item(torc_max(torc_abs(torc_sub(a, b)))) > 0.01); /* the generator moved on */
    torc_seed(1);
    torc_init_uniform(b, 0, 1);
    CHECK_NEAR(torc_item(torc_max(torc_abs(torc_sub(a, b)))), 0, 0);
}

/* A network starts the same whatever the place of its rank among however many. */
TEST(the_world_does_not_decide)
{
    const world worlds[] = {
        {.size = 1}, {.size = 4}, {.rank = 3, .size = 4}, {.rank = 5, .size = 64}};
    double first = 0;
    for (int i = 0; i < ARRAY_LENGTH(worlds); i++) {
        base_set_world(worlds[i]);
        torc_seed(7);
        torc_module *net = torc_sequential(torc_conv2d(2, 3, 3), torc_embedding(9, 4),
                                           torc_transformer_block(8, 2));
        double sum = 0;
        for (int64_t k = 0; k < torc_parameter_count(net); k++) {
            torc_tensor *p = torc_parameter_at(net, k, NULL);
            sum += (double)(k + 1) * torc_item(torc_sum(torc_mul(p, torc_mul(p, p))));
        }
        first = i ? first : sum;
        CHECK(sum == first && sum != 0);
    }
}

TEST(every_float_dtype_and_layout)
{
    const torc_dtype low[] = {TORC_BF16, TORC_F16};
    for (int i = 0; i < 2; i++) {
        torc_tensor *narrow = torc_tensor_new(TORC_SHAPE(MANY), .dtype = low[i]);
        torc_init_normal(narrow, 0, 1);
        CHECK_NEAR(deviation_of(torc_to(narrow, TORC_F32)), 1, 0.02);
    }
    torc_tensor *wide = torc_tensor_new(TORC_SHAPE(MANY), .dtype = TORC_F64);
    torc_init_uniform(wide, 5, 6);
    CHECK_NEAR(mean_of(wide), 5.5, 0.01);
    torc_tensor *whole = torc_tensor_new(TORC_SHAPE(100, 3));
    torc_init_constant(torc_slice(whole, 1, 0, 1, 1), 2); /* a column */
    torc_init_uniform(torc_slice(whole, 1, 2, 3, 1), 7, 8);
    CHECK_NEAR(torc_item(torc_sum(torc_slice(whole, 1, 0, 2, 1))), 200, 0);
    CHECK(torc_item(torc_min(torc_slice(whole, 1, 2, 3, 1))) >= 7);
}

TEST(nothing_is_filled_with_nothing)
{
    torc_tensor *t = torc_tensor_new(TORC_SHAPE(3, 0));
    torc_init_normal(t, 0, 1);
    torc_init_constant(t, 1);
    CHECK_INT(torc_numel(t), 0);
}

TEST_DIES(a_negative_deviation, 1,
          "torc_init_normal: expected a standard deviation of 0 or more, found -1")
{
    torc_init_normal(torc_ones(TORC_SHAPE(2)), 0, -1);
}

TEST_DIES(bounds_the_wrong_way_round, 1, "torc_init_uniform: expected low <= high, found 1 and 0")
{
    torc_init_uniform(torc_ones(TORC_SHAPE(2)), 1, 0);
}

TEST_DIES(random_integers, 1, "torc_init_uniform: expected a float dtype, found int64")
{
    torc_init_uniform(torc_ones(TORC_SHAPE(2), .dtype = TORC_I64), 0, 1);
}
