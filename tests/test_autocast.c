/* autocast: which dtype comes out of which op, that masters and their gradients stay f32, that the
 * copies are never stale, and that training goes where f32 goes. */
#include "core/torc.h"

#include "tests/low.h"

#include "core/loss_scale.h"
#include "core/ops/autocast.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static torc_tensor *parameter(torc_shape shape)
{
    torc_tensor *t = torc_keep(torc_randn(shape));
    torc_set_requires_grad(t, true);
    return t;
}

TEST_LOW(products_give_low_and_sums_give_f32)
{
    torc_tensor *w = parameter(TORC_SHAPE(5, 4)), *x = torc_randn(TORC_SHAPE(3, 4));
    torc_autocast(low)
    {
        torc_tensor *y = torc_linear_op(x, w, NULL);
        CHECK(torc_dtype_of(y) == low);
        CHECK(torc_dtype_of(torc_relu(y)) == low);
        CHECK(torc_dtype_of(torc_matmul(x, torc_transpose(w, 0, 1))) == low);
        CHECK(torc_dtype_of(torc_relu(x)) == TORC_F32);
        CHECK(torc_dtype_of(torc_sum(y)) == TORC_F32);
        CHECK(torc_dtype_of(torc_softmax(y, -1)) == TORC_F32);
        torc_tensor *target = torc_zeros(TORC_SHAPE(3), .dtype = TORC_I64);
        CHECK(torc_dtype_of(torc_cross_entropy(y, target)) == TORC_F32);
        CHECK(torc_dtype_of(torc_add(y, torc_ones(TORC_SHAPE(5)))) == TORC_F32);
        torc_autocast(TORC_F32)
        {
            CHECK(torc_dtype_of(torc_linear_op(x, w, NULL)) == TORC_F32);
        }
        CHECK(torc_dtype_of(torc_linear_op(x, w, NULL)) == low);
    }
    CHECK(torc_dtype_of(torc_linear_op(x, w, NULL)) == TORC_F32);
}

TEST(leaving_by_break_leaves_the_scope)
{
    for (int i = 0; i < 2; i++)
        torc_autocast(TORC_BF16)
        {
            CHECK(autocast_here() == TORC_BF16);
            break;
        }
    CHECK(autocast_here() == TORC_F32);
}

/* |a - b| against the largest of b: errors of single elements cancel in a sum. */
static void check_close(torc_tensor *a, torc_tensor *b, double tolerance)
{
    int64_t n = torc_numel(a);
    double *va = malloc((size_t)n * sizeof *va), *vb = malloc((size_t)n * sizeof *vb), largest = 0;
    torc_read(a, TORC_F64, va, n);
    torc_read(b, TORC_F64, vb, n);
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(vb[i]));
    for (int64_t i = 0; i < n; i++)
        CHECK(fabs(va[i] - vb[i]) <= tolerance * largest);
    free(va);
    free(vb);
}

/* ---- gradients: f32, near those of full precision, for every kind of op ---- */

typedef torc_tensor *(*forward)(torc_tensor *const *p);

static torc_tensor *f_matmul(torc_tensor *const *p)
{
    return torc_matmul(p[0], torc_transpose(p[1], 0, 1));
}

static torc_tensor *f_linear(torc_tensor *const *p)
{
    return torc_gelu_tanh(torc_linear_op(p[0], p[1], p[2]));
}

static torc_tensor *f_norm(torc_tensor *const *p)
{
    return torc_layer_norm_op(torc_linear_op(p[0], p[1], NULL), p[2], p[2], 1e-5);
}

static torc_tensor *f_attention(torc_tensor *const *p)
{
    torc_tensor *q = torc_reshape(torc_linear_op(p[0], p[1], p[2]), TORC_SHAPE(2, 2, 4, 8));
    return torc_scaled_dot_product_attention(q, q, q, .causal = true);
}

static torc_tensor *f_conv(torc_tensor *const *p)
{
    torc_tensor *x = torc_reshape(p[0], TORC_SHAPE(1, 2, 8, 8));
    torc_tensor *w = torc_reshape(torc_slice(p[1], 0, 0, 9, 1), TORC_SHAPE(8, 2, 3, 3));
    return torc_max_pool2d_op(torc_conv2d_op(x, w, NULL), 2);
}

static torc_tensor *loss_of(forward f, torc_tensor *const *p, torc_dtype scope)
{
    torc_tensor *loss = NULL;
    torc_autocast(scope)
    {
        torc_tensor *y = f(p);
        loss = torc_mean(torc_mul(y, y));
    }
    return loss;
}

TEST_LOW(gradients_of_masters_are_f32_and_near)
{
    const forward all[] = {f_matmul, f_linear, f_norm, f_attention, f_conv};
    torc_seed(7);
    for (size_t i = 0; i < ARRAY_LENGTH(all); i++) {
        torc_tensor *p[2][3];
        const torc_shape shape[] = {TORC_SHAPE(8, 16), TORC_SHAPE(16, 16), TORC_SHAPE(16)};
        for (int k = 0; k < 3; k++) {
            p[0][k] = parameter(shape[k]);
            p[1][k] = torc_keep(torc_detach(torc_mul_scalar(p[0][k], 1)));
            torc_set_requires_grad(p[1][k], true);
        }
        torc_backward(loss_of(all[i], p[0], low));
        torc_backward(loss_of(all[i], p[1], TORC_F32));
        for (int k = 0; k < 3; k++) {
            torc_tensor *narrow = torc_grad(p[0][k]), *full = torc_grad(p[1][k]);
            CHECK((narrow != NULL) == (full != NULL));
            if (!narrow || !full)
                continue;
            CHECK(torc_dtype_of(narrow) == TORC_F32);
            check_close(narrow, full,
                        16 * low_unit(low)); /* some ten roundings behind each other */
        }
    }
}

/* 1000 contributions of 2^-10 on top of 1 are lost in bf16, one by one, and are not in f32. */
TEST_LOW(the_gradient_of_a_master_is_not_rounded)
{
    torc_tensor *w = parameter(TORC_SHAPE(1, 1000)),
                *x = torc_full(TORC_SHAPE(1, 1000), 1.0 / 1024);
    torc_tensor *one = torc_ones(TORC_SHAPE(1, 1000));
    for (int i = 0; i <= 1000; i++) {
        torc_tensor *loss = NULL;
        torc_autocast(low)
        {
            loss = torc_sum(torc_linear_op(i ? x : one, w, NULL));
        }
        torc_backward(loss);
    }
    CHECK_NEAR(torc_item(torc_mean(torc_grad(w))), 1 + 1000.0 / 1024, 1e-6);
}

/* ---- copies ---- */

static double product_with(torc_tensor *w, torc_dtype low)
{
    double y = 0;
    torc_autocast(low)
    {
        y = torc_item(torc_linear_op(torc_ones(TORC_SHAPE(1, 1)), w, NULL));
    }
    return y;
}

/* The first dtype has the copy that stays, the other gets one of its own each time. */
TEST(a_master_in_scopes_of_two_dtypes)
{
    torc_tensor *w = torc_tensor_new(TORC_SHAPE(1, 1), .data = (float[]){1 + 0x1p-9f});
    for (int turn = 0; turn < 2; turn++)
        for (torc_dtype low = TORC_BF16; low != TORC_DTYPES; low = low_after(low))
            CHECK_NEAR(product_with(w, low), low == TORC_F16 ? 1 + 0x1p-9 : 1, 0);
}

/* As one who took torc_data() would. */
static void put_number(float *data, float number)
{
    device_current()->from_host(data, &number, sizeof number);
}

TEST_LOW(the_copy_of_a_master_follows_every_write)
{
    torc_tensor *w = torc_tensor_new(TORC_SHAPE(1, 1), .requires_grad = true);
    float two = 2, *data = torc_data(w);
    CHECK_NEAR(product_with(w, low), 0, 0);
    torc_write(w, TORC_F32, &two, 1);
    CHECK_NEAR(product_with(w, low), 2, 0);
    put_number(data, 3); /* behind the library's back: seen in the next step */
    torc_tape_clear();
    CHECK_NEAR(product_with(w, low), 3, 0);
    put_number(torc_data(w), 4);
    CHECK_NEAR(product_with(w, low), 4, 0);
}

TEST_LOW(the_copy_of_a_master_follows_the_optimizer)
{
    torc_module *net = torc_linear(1, 1, .no_bias = true);
    torc_tensor *w = torc_parameter_at(net, 0, NULL);
    torc_init_constant(w, 1);
    torc_optimizer *sgd = torc_sgd(net, .lr = 0.5f);
    CHECK_NEAR(product_with(w, low), 1, 0);
    torc_backward(torc_sum(torc_forward(net, torc_ones(TORC_SHAPE(1, 1)))));
    torc_step(sgd);
    CHECK_NEAR(product_with(w, low), 0.5, 0);
}

/* ---- together with recomputation, precision, training ---- */

static torc_tensor *two_layers(torc_tensor *const *in, void *net)
{
    return torc_forward((torc_module *)net, in[0]);
}

TEST_LOW(recomputing_returns_to_the_scope)
{
    torc_module *net = torc_sequential(torc_linear(8, 8), torc_gelu_layer(), torc_linear(8, 8));
    torc_tensor *x = torc_randn(TORC_SHAPE(4, 8)), *w = torc_parameter_at(net, 0, NULL);
    float grad[2][64];
    for (int again = 0; again < 2; again++) {
        torc_tensor *loss = NULL;
        torc_autocast(low)
        {
            torc_tensor *y = again ? torc_recompute(two_layers, net, 1, &x) : torc_forward(net, x);
            loss = torc_sum(torc_mul(y, y));
        }
        torc_backward(loss);
        torc_read(torc_grad(w), TORC_F32, grad[again], 64);
        torc_zero_grad_of(w);
    }
    CHECK(memcmp(grad[0], grad[1], sizeof grad[0]) == 0);
}

TEST_LOW(matmul_precision_rounds_operands_alone)
{
    const double small = low_unit(low) / 2;
    torc_tensor *x = torc_full(TORC_SHAPE(1, 1), 1 + small), *w = torc_ones(TORC_SHAPE(1, 1));
    CHECK_NEAR(torc_item(torc_linear_op(x, w, NULL)), 1 + small, 1e-9);
    torc_set_matmul_precision(low);
    torc_tensor *y = torc_linear_op(x, w, NULL);
    CHECK(torc_dtype_of(y) == TORC_F32);
    CHECK_NEAR(torc_item(y), 1, 0);
    torc_tensor *b = torc_full(TORC_SHAPE(1), small); /* is added in f32 */
    CHECK_NEAR(torc_item(torc_linear_op(w, w, b)), 1 + small, 1e-9);
    torc_set_matmul_precision(TORC_F32);
    CHECK_NEAR(torc_item(torc_matmul(x, w)), 1 + small, 1e-9);
}

/* A line is fitted as well as in f32: updates smaller than a low weight's last bit are not lost.
 */
TEST_LOW(training_goes_where_f32_goes)
{
    loss_scale_forget(); /* what is usual */
    double last[2];
    for (int full = 0; full < 2; full++) {
        torc_seed(11);
        torc_module *net =
            torc_sequential(torc_linear(4, 32), torc_gelu_layer(), torc_linear(32, 1));
        torc_optimizer *opt = torc_adamw(net, .lr = 3e-3f);
        for (int step = 0; step < 300; step++) {
            torc_tensor *x = torc_randn(TORC_SHAPE(64, 4)), *loss = NULL;
            torc_tensor *y = torc_sum(x, .dims = TORC_DIMS(1), .keepdim = true);
            torc_autocast(full ? TORC_F32 : low)
            {
                loss = torc_mse_loss(torc_forward(net, x), y);
            }
            torc_backward(loss);
            torc_step(opt);
            last[full] = torc_item(loss);
            torc_tape_clear();
        }
    }
    CHECK(last[0] < 0.02 && last[1] < 0.02);
}

TEST_DIES(f64_is_no_scope, 1, "torc_autocast: expected TORC_BF16, TORC_F16, or TORC_F32")
{
    torc_autocast(TORC_F64)
    {
    }
}

TEST_DIES(outside_of_it_dtypes_do_not_mix, 1, "torc_add: dtypes differ: bfloat16 [2] and float32")
{
    torc_add(torc_ones(TORC_SHAPE(2), .dtype = TORC_BF16), torc_ones(TORC_SHAPE(2)));
}

/* The user's own f32 input has a copy that stays from step to step, as a parameter's does. */
TEST_LOW(the_copy_of_a_users_own_input_stays)
{
    torc_module *net = torc_sequential(torc_linear(4, 8), torc_gelu_layer(), torc_linear(8, 1));
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(6, 4)));
    double first = 0;
    for (int step = 0; step < 3; step++) {
        torc_tensor *loss = NULL;
        torc_autocast(low)
        {
            loss = torc_mean(torc_forward(net, x));
        }
        torc_backward(loss);
        first = step ? first : torc_item(loss);
        CHECK_NEAR(torc_item(loss), first, 0);
    }
}
