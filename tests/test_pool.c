/* max_pool2d and avg_pool2d as ops. */
#include "tests/gradients.h"
#include "tests/harness.h"

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

/* bf16 all through: a maximum is exact, a mean is that in f32 rounded. */
TEST(bf16_stays_bf16)
{
    torc_tensor *x = torc_to(torc_randn(TORC_SHAPE(2, 5, 8, 6)), TORC_BF16);
    torc_set_requires_grad(x, true);
    torc_tensor *wide = torc_to(x, TORC_F32);
    torc_tensor *low = torc_max_pool2d_op(x, 2), *mean = torc_avg_pool2d_op(x, 3, .stride = 1);
    torc_tensor *max_wide = torc_max_pool2d_op(wide, 2);
    torc_tensor *mean_wide = torc_avg_pool2d_op(wide, 3, .stride = 1);
    CHECK_INT(torc_dtype_of(low), TORC_BF16);
    CHECK_INT(torc_dtype_of(mean), TORC_BF16);
    CHECK(torc_item(torc_max(torc_abs(torc_sub(torc_to(low, TORC_F32), max_wide)))) == 0);
    double largest = torc_item(torc_max(torc_abs(mean_wide)));
    CHECK(torc_item(torc_max(torc_abs(torc_sub(torc_to(mean, TORC_F32), mean_wide)))) <=
          0x1p-8 * largest);
    torc_backward(torc_sum(torc_to(torc_mul(low, low), TORC_F32)));
    CHECK_INT(torc_dtype_of(torc_grad(x)), TORC_BF16);
    double sum = torc_item(torc_sum(torc_to(torc_grad(x), TORC_F64)));
    double size = torc_item(torc_sum(torc_abs(torc_to(low, TORC_F64))));
    CHECK_NEAR(sum, 2 * torc_item(torc_sum(torc_to(low, TORC_F64))), 0x1p-8 * size);
}
