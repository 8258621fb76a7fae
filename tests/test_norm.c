/* layer norm and batch norm as ops: statistics by formula, running ones, gradients; low dtypes;
 * with the addition of a residual connection before, fused and not. */
#include "core/torc.h"

#include "core/ops/ops.h"
#include "tests/gradients.h"
#include "tests/low.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    return torc_layer_norm_op(in[0], in[1], in[2], 1e-3);
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
    return torc_batch_norm_op(in[0], in[1], in[2], mean, var, how != NULL, 0.1, 1e-3);
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

static torc_tensor *g_layer_norm_of_one(torc_tensor *const *in, const void *how)
{
    return g_layer_norm((torc_tensor *[]){in[0], in[1], in[1]}, how);
}

static torc_tensor *g_batch_norm_of_one(torc_tensor *const *in, const void *how)
{
    return g_batch_norm((torc_tensor *[]){in[0], in[1], in[1]}, how);
}

TEST(a_tensor_may_be_weight_and_bias)
{
    const torc_shape rows[] = {TORC_SHAPE(3, 5), TORC_SHAPE(5)};
    check_gradients("layer_norm", g_layer_norm_of_one, NULL, 2, rows, -1, 1);
    check_gradients("batch_norm", g_batch_norm_of_one, "training", 2, rows, -1, 1);
}

/* ---- bf16 and f16 ---- */

enum { ROOM = 4096 };

static torc_tensor *drawn(torc_shape shape, torc_dtype dtype)
{
    torc_tensor *t = torc_keep(torc_to(torc_randn(shape), dtype));
    torc_set_requires_grad(t, true);
    return t;
}

/* A copy in f32. */
static torc_tensor *widened(torc_tensor *t)
{
    torc_tensor *copy = torc_keep(torc_mul_scalar(torc_detach(torc_to(t, TORC_F32)), 1));
    torc_set_requires_grad(copy, true);
    return copy;
}

static void check_near(torc_tensor *a, torc_tensor *b, double absolute, double relative)
{
    double va[ROOM], vb[ROOM];
    CHECK_INT(torc_numel(a), torc_numel(b));
    torc_read(a, TORC_F64, va, torc_numel(a));
    torc_read(b, TORC_F64, vb, torc_numel(b));
    for (int64_t i = 0; i < torc_numel(a); i++)
        CHECK_NEAR(va[i], vb[i], absolute + relative * fabs(vb[i]));
}

/* Given g, the gradient of y: that of x, and of w in its own dtype. */
static void check_low(torc_dtype low, torc_tensor *x, torc_tensor *w, torc_tensor *y,
                      torc_tensor *wide_x, torc_tensor *wide_w, torc_tensor *wide_y)
{
    torc_tensor *g = torc_to(torc_randn(torc_shape_of(y)), low);
    CHECK_INT(torc_dtype_of(y), low);
    check_near(y, wide_y, 1e-5, low_unit(low));
    torc_backward(torc_sum(torc_mul(torc_to(y, TORC_F32), torc_to(g, TORC_F32))));
    torc_backward(torc_sum(torc_mul(wide_y, torc_to(g, TORC_F32))));
    check_near(torc_grad(x), torc_grad(wide_x), 1e-5, low_unit(low));
    check_near(torc_grad(w), torc_grad(wide_w), 1e-5,
               torc_dtype_of(w) == low ? low_unit(low) : 1e-5);
    torc_tape_clear();
}

/* Beside weights of f32, and of its own dtype: what f32 gives, rounded once. */
TEST_LOW(low_is_rounded_once)
{
    const torc_shape rows = TORC_SHAPE(9, 35), images = TORC_SHAPE(3, 5, 4, 6);
    for (int own = 0; own < 2; own++) {
        torc_dtype dtype = own ? low : TORC_F32;
        torc_tensor *x = drawn(rows, low), *w = drawn(TORC_SHAPE(35), dtype);
        torc_tensor *wide_x = widened(x), *wide_w = widened(w);
        check_low(low, x, w, torc_layer_norm_op(x, w, torc_detach(w), 0), wide_x, wide_w,
                  torc_layer_norm_op(wide_x, wide_w, torc_detach(wide_w), 0));

        x = drawn(images, low), w = drawn(TORC_SHAPE(5), dtype);
        wide_x = widened(x), wide_w = widened(w);
        torc_tensor *mean[2], *var[2], *y[2];
        for (int i = 0; i < 2; i++) {
            mean[i] = torc_zeros(TORC_SHAPE(5));
            var[i] = torc_ones(TORC_SHAPE(5));
            torc_tensor *weight = i ? wide_w : w;
            y[i] = torc_batch_norm_op(i ? wide_x : x, weight, torc_detach(weight), mean[i], var[i],
                                      true, 0.1, 0);
        }
        check_near(mean[0], mean[1], 1e-6, 0);
        check_near(var[0], var[1], 1e-6, 0);
        check_low(low, x, w, y[0], wide_x, wide_w, y[1]);
    }
}

TEST(running_statistics_of_another_dtype_move)
{
    torc_tensor *mean = torc_zeros(TORC_SHAPE(3), .dtype = TORC_BF16);
    torc_tensor *var = torc_zeros(TORC_SHAPE(3), .dtype = TORC_F64);
    torc_batch_norm_op(torc_full(TORC_SHAPE(4, 3), 2), NULL, NULL, mean, var, true, 0.5, 0);
    CHECK_NEAR(torc_item(torc_max(mean)), 1, 0);
    torc_batch_norm_op(torc_full(TORC_SHAPE(4, 3), 2), NULL, NULL, mean, var, true, 0.5, 0);
    CHECK_NEAR(torc_item(torc_min(mean)), 1.5, 0);
}

/* ---- an addition and layer norm, fused and not ---- */

typedef struct pass {
    torc_tensor *sum, *y, *x, *branch, *w, *b;
} pass;

static torc_tensor *add_layer_norm(bool fused, torc_tensor *x, torc_tensor *branch, torc_tensor *w,
                                   torc_tensor *b, torc_tensor **sum)
{
    if (fused)
        return op_add_layer_norm(TORC_HERE, x, branch, w, b, 0, sum);
    *sum = torc_add(x, branch);
    return torc_layer_norm_op(*sum, w, b, 0);
}

/* Each of the two results is used, as in a residual network: the sum twice. */
static pass run(bool fused, torc_shape shape, torc_shape of_branch, torc_dtype dtype,
                torc_dtype branch, torc_dtype weights)
{
    torc_seed(5);
    torc_shape width = TORC_SHAPE(shape.dim[shape.ndim - 1]);
    pass p = {.x = drawn(shape, dtype), .branch = drawn(of_branch, branch)};
    p.w = drawn(width, weights), p.b = drawn(width, weights);
    p.y = add_layer_norm(fused, p.x, p.branch, p.w, p.b, &p.sum);
    torc_tensor *next = torc_add(p.sum, torc_gelu(p.y));
    torc_tensor *weighted = torc_mul(next, drawn(shape, torc_dtype_of(next)));
    torc_backward(torc_sum(torc_add(weighted, torc_relu(p.sum))));
    return p;
}

static void check_bits(torc_tensor *a, torc_tensor *b)
{
    double va[ROOM], vb[ROOM];
    CHECK_INT(torc_dtype_of(a), torc_dtype_of(b));
    CHECK_INT(torc_numel(a), torc_numel(b));
    torc_read(a, TORC_F64, va, torc_numel(a));
    torc_read(b, TORC_F64, vb, torc_numel(b));
    CHECK(!memcmp(va, vb, (size_t)torc_numel(a) * sizeof *va));
}

static void check_fused(torc_shape shape, torc_shape of_branch, torc_dtype dtype, torc_dtype branch,
                        torc_dtype weights)
{
    pass a = run(true, shape, of_branch, dtype, branch, weights);
    pass b = run(false, shape, of_branch, dtype, branch, weights);
    check_bits(a.sum, b.sum);
    check_bits(a.y, b.y);
    check_bits(torc_grad(a.x), torc_grad(b.x));
    check_bits(torc_grad(a.branch), torc_grad(b.branch));
    check_bits(torc_grad(a.w), torc_grad(b.w));
    check_bits(torc_grad(a.b), torc_grad(b.b));
    torc_tape_clear();
}

TEST_LOW(an_addition_in_the_kernel_is_one_before_it)
{
    const torc_shape shapes[] = {TORC_SHAPE(0, 5), TORC_SHAPE(1, 1), TORC_SHAPE(7),
                                 TORC_SHAPE(2, 33), TORC_SHAPE(3, 5, 64)};
    for (size_t i = 0; i < ARRAY_LENGTH(shapes); i++) {
        check_fused(shapes[i], shapes[i], TORC_F32, TORC_F32, TORC_F32);
        check_fused(shapes[i], shapes[i], TORC_F64, TORC_F64, TORC_F64);
        check_fused(shapes[i], shapes[i], low, low, TORC_F32);
        check_fused(shapes[i], shapes[i], low, low, low);
    }
}

TEST_LOW(what_cannot_be_fused_is_added_before)
{
    check_fused(TORC_SHAPE(3, 20), TORC_SHAPE(20), TORC_F32, TORC_F32, TORC_F32);
    torc_autocast(low)
    {
        check_fused(TORC_SHAPE(3, 20), TORC_SHAPE(3, 20), TORC_F32, low, TORC_F32);
        check_fused(TORC_SHAPE(3, 20), TORC_SHAPE(3, 20), low, TORC_F32, TORC_F32);
    }
}

static torc_tensor *g_add_layer_norm(torc_tensor *const *in, const void *how)
{
    torc_tensor *sum, *y = op_add_layer_norm(TORC_HERE, in[0], in[1], in[2], in[3], 1e-3, &sum);
    return how ? torc_mul(sum, y) : y;
}

TEST(gradients_through_the_addition_match_differences)
{
    const torc_shape shapes[] = {TORC_SHAPE(3, 5), TORC_SHAPE(3, 5), TORC_SHAPE(5), TORC_SHAPE(5)};
    check_gradients("the norm", g_add_layer_norm, NULL, 4, shapes, -1, 1);
    check_gradients("the norm and the sum", g_add_layer_norm, "", 4, shapes, -1, 1);
}

TEST_DIES(terms_must_agree, 1, "torc_add: ")
{
    torc_tensor *sum;
    op_add_layer_norm(TORC_HERE, torc_ones(TORC_SHAPE(2, 5)), torc_ones(TORC_SHAPE(2, 4)), NULL,
                      NULL, 0, &sum);
}

TEST_DIES(widths_must_agree, 1, "expected weight and bias of 5, found [4]")
{
    torc_layer_norm_op(torc_ones(TORC_SHAPE(2, 5)), torc_ones(TORC_SHAPE(4)), NULL, 0);
}
