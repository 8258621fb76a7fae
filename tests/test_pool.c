/* max_pool2d and avg_pool2d as ops. */
#include "tests/gradients.h"
#include "tests/low.h"

typedef struct geometry {
    int kernel, stride, padding;
} geometry;

static torc_tensor *g_max(torc_tensor *const *in, const void *how)
{
    const geometry *g = how;
    return torc_max_pool2d_op(in[0], g->kernel, .stride = g->stride, .padding = g->padding);
}

static torc_tensor *g_avg(torc_tensor *const *in, const void *how)
{
    const geometry *g = how;
    return torc_avg_pool2d_op(in[0], g->kernel, .stride = g->stride, .padding = g->padding);
}

TEST(the_largest_and_the_mean)
{
    torc_tensor *x = torc_reshape(torc_arange(16), TORC_SHAPE(1, 1, 4, 4));
    float found[4];
    torc_read(torc_max_pool2d_op(x, 2), TORC_F32, found, 4);
    CHECK_NEAR(found[0], 5, 0);
    CHECK_NEAR(found[3], 15, 0);
    torc_read(torc_avg_pool2d_op(x, 2), TORC_F32, found, 4);
    CHECK_NEAR(found[0], 2.5, 0);
    torc_tensor *edge = torc_slice(torc_avg_pool2d_op(x, 3, .stride = 1, .padding = 1), 2, 0, 1, 1);
    torc_read(edge, TORC_F32, found, 4);
    CHECK_NEAR(found[0], (0 + 1 + 4 + 5) / 9.0, 1e-6); /* padding counts */
}

TEST(padding_never_wins)
{
    torc_tensor *x = torc_full(TORC_SHAPE(1, 1, 2, 2), -5);
    CHECK_NEAR(torc_item(torc_max(torc_max_pool2d_op(x, 2, .padding = 1))), -5, 0);
}

TEST(gradients_match_differences)
{
    const geometry grid[] = {{2, 2, 0}, {3, 1, 1}, {3, 2, 1}, {1, 1, 0}};
    const torc_shape shapes[] = {TORC_SHAPE(2, 3, 6, 5), TORC_SHAPE(0, 3, 6, 5)};
    for (size_t i = 0; i < sizeof grid / sizeof *grid; i++)
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
            check_gradients("max_pool2d", g_max, &grid[i], 1, &shapes[k], -1, 1);
            check_gradients("avg_pool2d", g_avg, &grid[i], 1, &shapes[k], -1, 1);
        }
}

/* As in a network: the pooling reads what a convolution wrote, stored channels last. */
static torc_tensor *g_after_conv(torc_tensor *const *in, const void *how)
{
    (void)how;
    torc_tensor *y = torc_conv2d_op(in[0], in[1], NULL, .padding = 1);
    return torc_flatten(torc_max_pool2d_op(torc_tanh(y), 2), 1);
}

TEST(chain_of_image_ops)
{
    check_gradients("conv, tanh, max_pool2d, flatten", g_after_conv, NULL, 2,
                    (torc_shape[]){TORC_SHAPE(2, 2, 4, 4), TORC_SHAPE(3, 2, 3, 3)}, -1, 1);
}

TEST_DIES(an_image_has_four_dimensions, 1, "expected [N, C, H, W], found [4, 4]")
{
    torc_max_pool2d_op(torc_ones(TORC_SHAPE(4, 4)), 2);
}

/* Low all through: a maximum is exact, a mean is that in f32 rounded. */
TEST_LOW(low_stays_low)
{
    torc_tensor *x = torc_to(torc_randn(TORC_SHAPE(2, 5, 8, 6)), low);
    torc_set_requires_grad(x, true);
    torc_tensor *wide = torc_to(x, TORC_F32);
    torc_tensor *max = torc_max_pool2d_op(x, 2), *mean = torc_avg_pool2d_op(x, 3, .stride = 1);
    torc_tensor *max_wide = torc_max_pool2d_op(wide, 2);
    torc_tensor *mean_wide = torc_avg_pool2d_op(wide, 3, .stride = 1);
    CHECK_INT(torc_dtype_of(max), low);
    CHECK_INT(torc_dtype_of(mean), low);
    CHECK(torc_item(torc_max(torc_abs(torc_sub(torc_to(max, TORC_F32), max_wide)))) == 0);
    double largest = torc_item(torc_max(torc_abs(mean_wide)));
    CHECK(torc_item(torc_max(torc_abs(torc_sub(torc_to(mean, TORC_F32), mean_wide)))) <=
          low_unit(low) * largest);
    torc_backward(torc_sum(torc_to(torc_mul(max, max), TORC_F32)));
    CHECK_INT(torc_dtype_of(torc_grad(x)), low);
    double sum = torc_item(torc_sum(torc_to(torc_grad(x), TORC_F64)));
    double size = torc_item(torc_sum(torc_abs(torc_to(max, TORC_F64))));
    CHECK_NEAR(sum, 2 * torc_item(torc_sum(torc_to(max, TORC_F64))), low_unit(low) * size);
}
