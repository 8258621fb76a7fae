/* Losses: values by formula, weights, what is ignored, gradients, labels that are out of range. */
#include "tests/gradients.h"
#include "tests/low.h"

#include <math.h>
#include <stdlib.h>

static torc_tensor *targets(torc_shape shape, const int64_t *values)
{
    torc_tensor *t = torc_zeros(shape, .dtype = TORC_I64);
    torc_write(t, TORC_I64, values, torc_numel(t));
    return t;
}

static torc_tensor *logits(void)
{
    torc_tensor *x = torc_zeros(TORC_SHAPE(3, 4));
    torc_write(x, TORC_F32, (float[]){1, 2, 3, 4, 0, 0, 0, 0, -1, 5, 2, 0}, 12);
    return x;
}

/* -log softmax, in double */
static double cost(const double *x, int n, int target)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(x[i]);
    return log(sum) - x[target];
}

TEST(cross_entropy_by_formula)
{
    const double a[] = {1, 2, 3, 4}, b[] = {0, 0, 0, 0}, c[] = {-1, 5, 2, 0};
    torc_tensor *y = torc_cross_entropy(logits(), targets(TORC_SHAPE(3), (int64_t[]){3, 0, 2}));
    CHECK_NEAR(torc_item(y), (cost(a, 4, 3) + cost(b, 4, 0) + cost(c, 4, 2)) / 3, 1e-6);
    CHECK_NEAR(torc_weight(y), 3, 0);
    y = torc_cross_entropy(logits(), targets(TORC_SHAPE(3), (int64_t[]){3, -100, 2}));
    CHECK_NEAR(torc_item(y), (cost(a, 4, 3) + cost(c, 4, 2)) / 2, 1e-6);
    CHECK_NEAR(torc_weight(y), 2, 0);
    y = torc_cross_entropy(logits(), targets(TORC_SHAPE(3), (int64_t[]){3, 0, 2}),
                           .ignore_index = TORC_IGNORE(0));
    CHECK_NEAR(torc_weight(y), 2, 0);
    double smooth = 0;
    for (int i = 0; i < 4; i++)
        smooth += cost(a, 4, i) / 4;
    y = torc_cross_entropy(torc_slice(logits(), 0, 0, 1, 1), targets(TORC_SHAPE(1), (int64_t[]){3}),
                           .label_smoothing = 0.1f);
    CHECK_NEAR(torc_item(y), 0.9 * cost(a, 4, 3) + 0.1 * smooth, 1e-6);
}

TEST(large_logits_do_not_overflow)
{
    torc_tensor *x = torc_mul_scalar(logits(), 1e4);
    torc_tensor *y = torc_cross_entropy(x, targets(TORC_SHAPE(3), (int64_t[]){3, 0, 1}));
    CHECK_NEAR(torc_item(y), log(4) / 3, 1e-6);
}

TEST(nothing_counts_nothing)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(0, 4), .requires_grad = true);
    torc_tensor *y = torc_cross_entropy(x, targets(TORC_SHAPE(0), NULL));
    CHECK_NEAR(torc_item(y), 0, 0);
    CHECK_NEAR(torc_weight(y), 0, 0);
    torc_backward(y);
    y = torc_cross_entropy(logits(), targets(TORC_SHAPE(3), (int64_t[]){-100, -100, -100}));
    CHECK_NEAR(torc_item(y), 0, 0);
    CHECK_NEAR(torc_weight(torc_mse_loss(x, x)), 0, 0);
}

TEST(the_other_losses_by_formula)
{
    torc_tensor *x = torc_zeros(TORC_SHAPE(3)), *t = torc_zeros(TORC_SHAPE(3));
    torc_write(x, TORC_F32, (float[]){1, -2, 0}, 3);
    torc_write(t, TORC_F32, (float[]){0, 1, 1}, 3);
    CHECK_NEAR(torc_item(torc_mse_loss(x, t)), (1 + 9 + 1) / 3.0, 1e-6);
    CHECK_NEAR(torc_item(torc_l1_loss(x, t)), (1 + 3 + 1) / 3.0, 1e-6);
    double bce = log1p(exp(1)) + log1p(exp(2)) + log(2);
    CHECK_NEAR(torc_item(torc_bce_with_logits(x, t)), bce / 3, 1e-6);
}

/* ---- gradients ---- */

typedef struct entropy_how {
    int64_t ignore;
    float smoothing;
} entropy_how;

static torc_tensor *g_entropy(torc_tensor *const *in, const void *how)
{
    const entropy_how *h = how;
    torc_tensor *t = targets(TORC_SHAPE(2, 3), (int64_t[]){4, 1, 0, 2, 1, 3});
    return torc_cross_entropy(in[0], t, .ignore_index = h->ignore, .label_smoothing = h->smoothing);
}

static torc_tensor *constant_target(torc_tensor *x)
{
    return torc_full(torc_shape_of(x), 0.3, .dtype = TORC_F64);
}

static torc_tensor *g_mse(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_mse_loss(in[0], constant_target(in[0]));
}

static torc_tensor *g_l1(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_l1_loss(in[0], constant_target(in[0]));
}

static torc_tensor *g_bce(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_bce_with_logits(in[0], constant_target(in[0]));
}

TEST(gradients_match_differences)
{
    const entropy_how hows[] = {{0, 0}, {1, 0}, {0, 0.2f}, {1, 0.3f}};
    const torc_shape classes = TORC_SHAPE(2, 3, 5), plain = TORC_SHAPE(3, 4);
    for (int i = 0; i < 4; i++)
        check_gradients("cross_entropy", g_entropy, &hows[i], 1, &classes, -2, 2);
    check_gradients("mse", g_mse, NULL, 1, &plain, -1, 1);
    check_gradients("l1", g_l1, NULL, 1, &plain, -1, 1);
    check_gradients("bce_with_logits", g_bce, NULL, 1, &plain, -2, 2);
}

TEST_DIES(a_label_outside_the_classes, 1, "target 4 at position 1 is outside the classes 0 .. 3")
{
    torc_cross_entropy(logits(), targets(TORC_SHAPE(3), (int64_t[]){0, 4, 1}));
}

TEST_DIES(a_target_of_another_shape, 1, "expected a target of the shape [3, 4], found [3]")
{
    torc_mse_loss(logits(), torc_zeros(TORC_SHAPE(3)));
}

/* ---- bf16 and f16 ---- */

/* Numbers that both hold exactly, so that only results are rounded. */
static torc_tensor *eighths(torc_shape shape, torc_dtype dtype)
{
    torc_tensor *t = torc_zeros(shape, .dtype = dtype);
    float v[24];
    for (int i = 0; i < 24; i++)
        v[i] = (float)(i * 7 % 24 - 12) / 8;
    torc_write(t, TORC_F32, v, 24);
    torc_set_requires_grad(t, true);
    return t;
}

/* The loss of low logits is the f32 one to the bit, and the gradient that one rounded. */
TEST_LOW(cross_entropy_of_low)
{
    int64_t classes[] = {0, 3, 7};
    torc_tensor *target = torc_zeros(TORC_SHAPE(3), .dtype = TORC_I64);
    torc_write(target, TORC_I64, classes, 3);
    torc_tensor *x = eighths(TORC_SHAPE(3, 8), TORC_F32);
    torc_tensor *narrow = eighths(TORC_SHAPE(3, 8), low);
    torc_tensor *loss = torc_cross_entropy(x, target);
    torc_tensor *low_loss = torc_cross_entropy(narrow, target);
    CHECK_INT(torc_dtype_of(low_loss), TORC_F32);
    CHECK_NEAR(torc_item(low_loss), torc_item(loss), 0);
    torc_backward(torc_add(loss, low_loss));
    CHECK_INT(torc_dtype_of(torc_grad(narrow)), low);
    float d[24], low_d[24];
    torc_read(torc_grad(x), TORC_F32, d, 24);
    torc_read(torc_grad(narrow), TORC_F32, low_d, 24);
    for (int i = 0; i < 24; i++)
        CHECK(fabsf(low_d[i] - d[i]) <= (float)low_unit(low) * fabsf(d[i]));
}

/* A low prediction and an f32 target: as if the prediction had been f32. */
TEST_LOW(two_dtypes_meet_in_autocast)
{
    torc_tensor *x = eighths(TORC_SHAPE(24), TORC_F32), *narrow = eighths(TORC_SHAPE(24), low);
    torc_tensor *target = torc_full(TORC_SHAPE(24), 0.3);
    torc_autocast(low)
    {
        torc_tensor *l1 = torc_l1_loss(narrow, target), *bce = torc_bce_with_logits(narrow, target);
        torc_tensor *mse = torc_mse_loss(narrow, target);
        CHECK_INT(torc_dtype_of(mse), TORC_F32);
        CHECK_NEAR(torc_item(mse), torc_item(torc_mse_loss(x, target)), 0);
        CHECK_NEAR(torc_item(l1), torc_item(torc_l1_loss(x, target)), 0);
        CHECK_NEAR(torc_item(bce), torc_item(torc_bce_with_logits(x, target)), 0);
        torc_backward(mse);
    }
    CHECK_INT(torc_dtype_of(torc_grad(narrow)), low);
    CHECK_NEAR(torc_item(torc_sum(torc_to(torc_grad(narrow), TORC_F64))),
               2.0 / 24 * (-0.5 / 8 * 24 - 0.3 * 24), low_unit(low));
}

TEST_DIES(two_dtypes_do_not_meet_outside, 1, "torc_mse_loss: dtypes differ")
{
    torc_mse_loss(eighths(TORC_SHAPE(24), TORC_BF16), torc_ones(TORC_SHAPE(24)));
}
