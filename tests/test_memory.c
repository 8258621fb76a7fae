/*
 * Memory of a step: what goes between torc's own layers as soon as nobody reads it, and what stays
 * because somebody could.
 *
 * A layer of the user's own in a network keeps all values around it: the same network with one,
 * which does nothing, is the reference for values, gradients and bytes.
 */
#include "core/torc.h"

#include "tests/harness.h"
#include "tests/values.h"

static torc_tensor *seen;

static torc_tensor *look(torc_module *self, torc_tensor *x)
{
    (void)self;
    return seen = x;
}

static torc_module *eye(void)
{
    return torc_module_new("Eye", look, 0);
}

static torc_module *cnn(torc_module *last)
{
    torc_seed(5);
    return torc_sequential(torc_conv2d(1, 8, 3), torc_relu_layer(), torc_conv2d(8, 16, 3),
                           torc_batch_norm2d(16), torc_relu_layer(), torc_max_pool2d(2),
                           torc_flatten_layer(), torc_linear(16 * 12 * 12, 32), torc_relu_layer(),
                           torc_dropout(0.5), torc_linear(32, 10), last);
}

/* A layer that a block never runs is enough: the block does not know that. */
static torc_module *blocks(bool watched)
{
    torc_seed(5);
    torc_module *block[3];
    for (int i = 0; i < 3; i++) {
        block[i] = torc_transformer_block(16, 2, .dropout = i == 1 ? 0.1f : 0);
        if (watched)
            torc_child(block[i], "eye", eye());
    }
    return torc_sequential(block[0], torc_layer_norm(16), block[1], block[2]);
}

static torc_tensor *images(int64_t n)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(n, 1, 28, 28), .requires_grad = true);
    torc_init_uniform(x, -1, 1);
    return x;
}

static torc_tensor *texts(int64_t n)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(n, 8, 16), .requires_grad = true);
    torc_init_uniform(x, -1, 1);
    return x;
}

/* A step; how far above the bytes at its start it went. The result is kept. */
static size_t step(torc_module *net, torc_tensor *x, torc_tensor **y)
{
    torc_seed(6);
    size_t before = torc_memory().live_bytes;
    *y = torc_keep(torc_forward(net, x));
    torc_backward(torc_mean(torc_mul(*y, *y)));
    torc_tape_clear();
    return torc_memory().peak_bytes - before;
}

/* Peaks only grow, so the network that needs less comes first. Returns the peaks' quotient. */
static double compare(torc_module *with, torc_module *without, torc_tensor *x)
{
    torc_tensor *y[2];
    size_t bytes = step(with, x, &y[0]);
    torc_tensor *dx = torc_keep(torc_mul_scalar(torc_grad(x), 1));
    torc_zero_grad_of(x);
    size_t all = step(without, x, &y[1]);
    CHECK(same_bits(y[0], y[1]));
    CHECK(same_bits(dx, torc_grad(x)));
    for (int64_t i = 0; i < torc_parameter_count(with); i++)
        CHECK(same_bits(torc_grad(torc_parameter_at(with, i, NULL)),
                        torc_grad(torc_parameter_at(without, i, NULL))));
    return (double)bytes / (double)all;
}

TEST(what_no_backward_reads_goes)
{
    CHECK(compare(cnn(torc_flatten_layer()), cnn(eye()), images(16)) < 0.85);
}

TEST(the_same_gradients_of_transformer_blocks)
{
    CHECK(compare(blocks(false), blocks(true), texts(64)) < 0.95);
}

TEST(an_empty_batch)
{
    compare(cnn(torc_flatten_layer()), cnn(eye()), images(0));
}

TEST(without_recording_two_values_are_alive_at_a_time)
{
    torc_module *layer[16];
    for (int i = 0; i < 16; i++)
        layer[i] = i % 2 ? torc_gelu_layer() : torc_linear(64, 64);
    torc_module *half[2] = {torc_sequential(layer[0], layer[1], layer[2], layer[3], layer[4],
                                            layer[5], layer[6], layer[7]),
                            torc_sequential(layer[8], layer[9], layer[10], layer[11], layer[12],
                                            layer[13], layer[14], layer[15])};
    torc_module *net = torc_sequential(half[0], half[1]);
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(512, 64));
    size_t before = torc_memory().live_bytes, value = 512 * 64 * sizeof(float);
    TORC_NO_GRAD
    {
        torc_forward(net, x);
    }
    /* what an inner sequence was given, its value, and the next one */
    CHECK(torc_memory().peak_bytes - before <= 3 * value + 4096);
}

/* ---- what stays ---- */

TEST(what_a_user_saw_stays)
{
    torc_module *net = torc_sequential(torc_linear(4, 4), eye(), torc_relu_layer());
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(2, 4));
    torc_init_uniform(x, -1, 1);
    torc_backward(torc_mean(torc_forward(net, x)));
    torc_tensor *expected = torc_linear_op(x, torc_parameter_named(net, "0.weight"),
                                           torc_parameter_named(net, "0.bias"));
    CHECK(same_bits(seen, expected));
}

TEST(a_user_s_layer_deep_below_counts)
{
    torc_module *inner = torc_sequential(eye());
    torc_module *net =
        torc_sequential(torc_linear(4, 4), torc_sequential(inner), torc_relu_layer());
    TORC_NO_GRAD
    {
        torc_forward(net, torc_ones(TORC_SHAPE(2, 4)));
    }
    CHECK_INT(torc_numel(seen), 8);
    CHECK(torc_data(seen) != NULL);
}

TEST(what_the_network_was_given_stays)
{
    torc_module *net = torc_sequential(torc_dropout(0.5), torc_relu_layer(), torc_gelu_layer());
    torc_eval(net);
    torc_tensor *x = torc_full(TORC_SHAPE(4), -2); /* dropout hands it on as it is */
    TORC_NO_GRAD
    {
        torc_forward(net, x);
    }
    CHECK_NEAR(torc_item(torc_sum(x)), -8, 0);
}

TEST(what_the_network_returned_stays)
{
    torc_module *net = torc_sequential(torc_sequential(torc_relu_layer()), torc_dropout(0));
    torc_tensor *y = torc_forward(net, torc_full(TORC_SHAPE(4), 3));
    CHECK_NEAR(torc_item(torc_sum(y)), 12, 0);
}

/* Wide is what stands between the two products. Alive at once are what the activation was made
 * from and either its result, for the weight's gradient, or the gradient in its place. */
TEST(the_gradient_takes_the_place_of_the_value)
{
    enum { ROWS = 1024, WIDE = 256, NARROW = 8 };
    torc_tensor *y, *x = torc_tensor_new(TORC_SHAPE(ROWS, NARROW), .requires_grad = true);
    torc_init_uniform(x, -1, 1);
    torc_module *net =
        torc_sequential(torc_linear(NARROW, WIDE), torc_gelu_layer(), torc_linear(WIDE, NARROW));
    step(net, x, &y);
    double wide = (double)step(net, x, &y) / (ROWS * WIDE * sizeof(float));
    test_check(wide > 1.9 && wide < 2.5, __FILE__, __LINE__, "%g wide tensors", wide);
}
