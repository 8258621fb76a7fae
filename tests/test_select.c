/* where, to. */
#include "tests/gradients.h"
#include "tests/harness.h"

static torc_tensor *odd(int64_t n)
{
    torc_tensor *c = torc_zeros(TORC_SHAPE(n), .dtype = TORC_BOOL);
    uint8_t values[16];
    for (int64_t i = 0; i < n; i++)
        values[i] = i % 2 == 1;
    torc_write(c, TORC_BOOL, values, n);
    return c;
}

TEST(where_chooses)
{
    float found[4];
    torc_read(torc_where(odd(4), torc_arange(4), torc_full(TORC_SHAPE(1), -1)), TORC_F32, found, 4);
    CHECK_NEAR(found[0], -1, 0);
    CHECK_NEAR(found[3], 3, 0);
}

TEST(conversions_follow_c)
{
    torc_tensor *x = torc_zeros(TORC_SHAPE(3));
    torc_write(x, TORC_F32, (float[]){-1.7f, 0, 200.9f}, 3);
    int64_t whole[3];
    torc_read(torc_to(x, TORC_I64), TORC_I64, whole, 3);
    CHECK_INT(whole[0], -1);
    CHECK_INT(whole[2], 200);
    torc_read(torc_to(x, TORC_BOOL), TORC_I64, whole, 3);
    CHECK_INT(whole[0], 1);
    CHECK_INT(whole[1], 0);
    torc_tensor *third = torc_full(TORC_SHAPE(1), 1.0 / 3, .dtype = TORC_BF16);
    CHECK_NEAR(torc_item(third), 171.0 / 512, 0); /* rounded to nearest */
    third = torc_full(TORC_SHAPE(1), 1.0 / 3, .dtype = TORC_F16);
    CHECK_NEAR(torc_item(third), 1365.0 / 4096, 0);
}

static torc_tensor *g_where(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_where(odd(4), in[0], in[1]);
}

static torc_tensor *g_to(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_to(torc_mul_scalar(in[0], 2), TORC_F64);
}

TEST(gradients_match_differences)
{
    check_gradients("where", g_where, NULL, 2, (torc_shape[]){TORC_SHAPE(3, 4), TORC_SHAPE(4)}, -1,
                    1);
    check_gradients("where", g_where, NULL, 2, (torc_shape[]){TORC_SHAPE(1), TORC_SHAPE(2, 1, 4)},
                    -1, 1);
    check_gradients("to", g_to, NULL, 1, (torc_shape[]){TORC_SHAPE(3)}, -1, 1);
}

TEST(gradients_pass_through_other_dtypes)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(2), .data = (float[]){1, 2}, .requires_grad = true);
    torc_backward(torc_to(torc_sum(torc_mul_scalar(torc_to(x, TORC_BF16), 3)), TORC_F32));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(x))), 6, 0);
}

TEST_DIES(a_condition_is_bool, 1, "expected a bool condition, found float32")
{
    torc_where(torc_ones(TORC_SHAPE(1)), torc_ones(TORC_SHAPE(1)), torc_ones(TORC_SHAPE(1)));
}
