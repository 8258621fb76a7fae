/* layer norm and batch norm as ops: statistics by formula, running ones, gradients. */
#include "tests/gradients.h"
#include "tests/harness.h"

#include <math.h>

TEST(rows_have_mean_zero_and_variance_one)
{
    torc_tensor *x = torc_add_scalar(torc_mul_scalar(torc_randn(TORC_SHAPE(5, 64)), 3), 100);
    torc_tensor *y = torc_layer_norm_op(x, NULL, NULL, 0);
    for (int i = 0; i < 5; i++) {
        torc_tensor *row = torc_slice(y, 0, i, i + 1, 1);
        CHECK_NEAR(torc_item(torc_mean(row)), 0, 1e-5);
        CHECK_NEAR(torc_item(torc_var(row, .biased = true)), 1, 1e-4);
    }
}

TEST(running_statistics_move)
{
    float data[] = {1, 2, 3, 6}; /* [2, 2]: channel means 2 and 4, unbiased variances 2 and 8 */
    torc_tensor *x = torc_zeros(TORC_SHAPE(2, 2));
    torc_write(x, TORC_F32, data, 4);
    torc_tensor *mean = torc_zeros(TORC_SHAPE(2)), *var = torc_ones(TORC_SHAPE(2));
    torc_batch_norm_op(x, NULL, NULL, mean, var, true, 0.1, 0);
    float found[2];
    torc_read(mean, TORC_F32, found, 2);
    CHECK_NEAR(found[1], 0.4, 1e-6);
    torc_read(var, TORC_F32, found, 2);
    CHECK_NEAR(found[0], 0.9 + 0.2, 1e-6);
    CHECK_NEAR(found[1], 0.9 + 0.8, 1e-6);
    torc_tensor *y = torc_batch_norm_op(x, NULL, NULL, mean, var, false, 0.1, 0);
    float out[4];
    torc_read(y, TORC_F32, out, 4);
    CHECK_NEAR(out[3], (6 - 0.4) / sqrt(1.7 + 1e-5), 1e-5);
}

TEST(a_share_of_nothing_moves_nothing)
{
    torc_tensor *mean = torc_full(TORC_SHAPE(2), 3), *var = torc_ones(TORC_SHAPE(2));
    torc_batch_norm_op(torc_zeros(TORC_SHAPE(0, 2)), NULL, NULL, mean, var, true, 0.1, 0);
    CHECK_NEAR(torc_item(torc_max(mean)), 3, 0);
}

static torc_tensor *g_layer_norm(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_layer_norm_op(in[0], torc_contiguous(in[1]), torc_contiguous(in[2]), 1e-3);
}

static torc_tensor *g_layer_norm_bare(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_layer_norm_op(in[0], NULL, NULL, 1e-3);
}

static torc_tensor *g_batch_norm(torc_tensor *const *in, const void *how)
{
    torc_shape channels = torc_shape_of(in[1]);
    torc_tensor *mean = torc_full(channels, 0.1, .dtype = TORC_F64);
    torc_tensor *var = torc_full(channels, 0.7, .dtype = TORC_F64);
    return torc_batch_norm_op(in[0], torc_contiguous(in[1]), torc_contiguous(in[2]), mean, var,
                              how != NULL, 0.1, 1e-3);
}

TEST(gradients_match_differences)
{
    const torc_shape rows[][3] = {{TORC_SHAPE(3, 5), TORC_SHAPE(5), TORC_SHAPE(5)},
                                  {TORC_SHAPE(2, 2, 4), TORC_SHAPE(4), TORC_SHAPE(4)},
                                  {TORC_SHAPE(0, 5), TORC_SHAPE(5), TORC_SHAPE(5)}};
    for (int i = 0; i < 3; i++) {
        check_gradients("layer_norm", g_layer_norm, NULL, 3, rows[i], -1, 1);
        check_gradients("layer_norm bare", g_layer_norm_bare, NULL, 1, rows[i], -1, 1);
    }
    const torc_shape images[][3] = {{TORC_SHAPE(4, 3), TORC_SHAPE(3), TORC_SHAPE(3)},
                                    {TORC_SHAPE(2, 3, 2, 3), TORC_SHAPE(3), TORC_SHAPE(3)}};
    for (int i = 0; i < 2; i++) {
        check_gradients("batch_norm", g_batch_norm, "training", 3, images[i], -1, 1);
        check_gradients("batch_norm, running", g_batch_norm, NULL, 3, images[i], -1, 1);
    }
}

TEST_DIES(widths_must_agree, 1, "expected weight and bias of 5, found [4]")
{
    torc_layer_norm_op(torc_ones(TORC_SHAPE(2, 5)), torc_ones(TORC_SHAPE(4)), NULL, 0);
}
