/*
 * The layers against PyTorch's numbers: forward, gradients, names; batches of nothing; what each
 * refuses.
 */
#include "tests/reference/compare.h"
#include "tests/reference/layers.h"

#include <math.h>

/* ---- PyTorch's numbers ---- */

TEST(linear_is_pytorchs)
{
    CHECK_LAYER(torc_linear(4, 3), reference_input(TORC_SHAPE(2, 4)), ref_linear);
    CHECK_LAYER(torc_linear(4, 3, .no_bias = true), reference_input(TORC_SHAPE(2, 2, 4)),
                ref_linear_no_bias);
}

TEST(conv2d_is_pytorchs)
{
    CHECK_LAYER(torc_conv2d(2, 4, 3, .stride = 2, .padding = 1),
                reference_input(TORC_SHAPE(2, 2, 5, 5)), ref_conv2d);
    CHECK_LAYER(torc_conv2d(4, 2, 2, .groups = 2, .dilation = 2, .no_bias = true),
                reference_input(TORC_SHAPE(1, 4, 4, 4)), ref_conv2d_groups);
    CHECK_LAYER(torc_conv2d(4, 6, 3, .stride = 2, .padding = 1, .groups = 2),
                reference_input(TORC_SHAPE(2, 4, 7, 5)), ref_conv2d_all);
}

TEST(pools_are_pytorchs)
{
    CHECK_LAYER(torc_max_pool2d(3, .stride = 2, .padding = 1),
                reference_input(TORC_SHAPE(1, 2, 5, 5)), ref_max_pool2d);
    CHECK_LAYER(torc_max_pool2d(2), reference_input(TORC_SHAPE(2, 2, 5, 4)), ref_max_pool2d_cut);
    CHECK_LAYER(torc_avg_pool2d(2), reference_input(TORC_SHAPE(1, 2, 4, 4)), ref_avg_pool2d);
}

TEST(layer_norm_is_pytorchs)
{
    CHECK_LAYER(torc_layer_norm(6), reference_input(TORC_SHAPE(3, 6)), ref_layer_norm);
    CHECK_LAYER(torc_layer_norm(5, .eps = 0.25f), reference_input(TORC_SHAPE(3, 5)),
                ref_layer_norm_eps);
}

TEST(batch_norm_is_pytorchs)
{
    torc_module *net = torc_batch_norm2d(3);
    torc_tensor *x = reference_input(TORC_SHAPE(2, 3, 2, 2));
    const double *rest = reference_check_layer(net, x, ref_batch_norm);
    rest = reference_check("mean", torc_parameter_named(net, "running_mean"), rest);
    rest = reference_check("var", torc_parameter_named(net, "running_var"), rest);
    CHECK_NEAR(torc_item(torc_parameter_named(net, "num_batches_tracked")), 1, 0);
    torc_eval(net);
    rest = reference_check("y in evaluation", torc_forward(net, x), rest);
    CHECK_INT(rest - ref_batch_norm, sizeof ref_batch_norm / sizeof *ref_batch_norm);
    CHECK_NEAR(torc_item(torc_parameter_named(net, "num_batches_tracked")), 1, 0);
}

/* The running statistics are constants there: no gradient goes through them. */
TEST(batch_norm_in_evaluation_is_pytorchs)
{
    torc_module *net = torc_batch_norm2d(2, .eps = 0.1f);
    torc_eval(net);
    CHECK_LAYER(net, reference_input(TORC_SHAPE(2, 2, 3, 1)), ref_batch_norm_eval);
}

TEST(batches_are_counted_on_from_what_was_written)
{
    torc_module *net = torc_batch_norm2d(2);
    torc_tensor *count = torc_parameter_named(net, "num_batches_tracked");
    torc_forward(net, torc_ones(TORC_SHAPE(2, 2)));
    torc_write(count, TORC_F64, &(double){7}, 1);
    torc_forward(net, torc_ones(TORC_SHAPE(2, 2)));
    CHECK_NEAR(torc_item(count), 8, 0);
    torc_init_constant(count, 2);
    torc_forward(net, torc_ones(TORC_SHAPE(2, 2)));
    CHECK_NEAR(torc_item(count), 3, 0);
}

TEST(embedding_is_pytorchs)
{
    const int64_t ids[] = {1, 4, 1, 0, 2, 1};
    torc_tensor *index = torc_tensor_new(TORC_SHAPE(2, 3), .dtype = TORC_I64, .data = ids);
    CHECK_LAYER(torc_embedding(5, 3), index, ref_embedding);
}

TEST(gelu_comes_in_two_forms)
{
    CHECK_LAYER(torc_gelu_layer(), reference_input(TORC_SHAPE(2, 5)), ref_gelu);
    CHECK_LAYER(torc_gelu_tanh_layer(), reference_input(TORC_SHAPE(2, 5)), ref_gelu_tanh);
}

/* A loss, not a layer, but its numbers are of the same making; `ignored` is the target of row 1. */
static void check_entropy(int64_t ignored, torc_cross_entropy_options o, const double *expected)
{
    const int64_t targets[] = {3, ignored, 0, 4, 1, 1};
    torc_tensor *target = torc_tensor_new(TORC_SHAPE(6), .dtype = TORC_I64, .data = targets);
    torc_tensor *x = reference_input(TORC_SHAPE(6, 5));
    torc_tensor *loss =
        torc_cross_entropy(torc_mul_scalar(x, 4), target, .ignore_index = o.ignore_index,
                           .label_smoothing = o.label_smoothing);
    torc_backward(loss);
    expected = reference_check("loss", loss, expected);
    reference_check("gradient", torc_mul_scalar(torc_grad(x), 0.25), expected);
}

TEST(cross_entropy_is_pytorchs)
{
    check_entropy(-100, (torc_cross_entropy_options){0}, ref_entropy);
    check_entropy(0, (torc_cross_entropy_options){.ignore_index = 1}, ref_entropy_ignore);
    check_entropy(-100, (torc_cross_entropy_options){.label_smoothing = 0.1f}, ref_entropy_smooth);
    torc_cross_entropy_options both = {.ignore_index = TORC_IGNORE(0), .label_smoothing = 0.3f};
    check_entropy(0, both, ref_entropy_both);
}

/* ---- by formula ---- */

TEST(sequential_is_its_layers_in_order)
{
    torc_module *first = torc_linear(4, 6), *last = torc_linear(6, 2);
    torc_tensor *x = reference_input(TORC_SHAPE(3, 4));
    torc_tensor *expected = torc_forward(last, torc_relu(torc_forward(first, x)));
    torc_tensor *y = torc_forward(torc_sequential(first, torc_relu_layer(), last), x);
    CHECK_NEAR(torc_item(torc_max(torc_abs(torc_sub(y, expected)))), 0, 0);
}

TEST(flatten_keeps_the_batch)
{
    torc_tensor *y = torc_forward(torc_flatten_layer(), torc_ones(TORC_SHAPE(2, 3, 4, 5)));
    CHECK_INT(torc_ndim(y), 2);
    CHECK_INT(torc_size(y, 0), 2);
    CHECK_INT(torc_size(y, 1), 60);
}

TEST(dropout_is_for_training)
{
    torc_module *net = torc_dropout(0.25);
    torc_tensor *x = torc_ones(TORC_SHAPE(100000)), *y = torc_forward(net, x);
    double kept = torc_item(torc_mean(torc_to(torc_ne(y, torc_zeros(TORC_SCALAR)), TORC_F32)));
    CHECK_NEAR(kept, 0.75, 0.005); /* three standard deviations: 0.0041 */
    CHECK_NEAR(torc_item(torc_max(y)), 1 / 0.75, 1e-6);
    torc_eval(net);
    CHECK_NEAR(torc_item(torc_min(torc_forward(net, x))), 1, 0);
    CHECK_NEAR(torc_item(torc_max(torc_forward(net, x))), 1, 0);
}

TEST(an_explicit_zero_is_a_zero)
{
    torc_module *net = torc_batch_norm2d(2, .momentum = TORC_ZERO);
    torc_forward(net, torc_full(TORC_SHAPE(4, 2), 7));
    CHECK_NEAR(torc_item(torc_max(torc_parameter_named(net, "running_mean"))), 0, 0);
}

TEST(a_batch_of_nothing_passes)
{
    torc_module *net = torc_sequential(torc_conv2d(1, 4, 3), torc_batch_norm2d(4),
                                       torc_relu_layer(), torc_max_pool2d(2), torc_avg_pool2d(1),
                                       torc_flatten_layer(), torc_linear(4 * 3 * 3, 6),
                                       torc_layer_norm(6), torc_gelu_layer(), torc_dropout(0.5));
    torc_tensor *y = torc_forward(net, torc_zeros(TORC_SHAPE(0, 1, 8, 8)));
    CHECK_INT(torc_size(y, 0), 0);
    CHECK_INT(torc_size(y, 1), 6);
    CHECK_NEAR(torc_item(torc_parameter_named(net, "1.num_batches_tracked")), 1, 0);
    torc_backward(torc_sum(y));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(torc_parameter_named(net, "6.weight")))), 0, 0);
}

TEST(linear_of_no_inputs_is_its_bias)
{
    torc_module *net = torc_linear(0, 3);
    torc_init_constant(torc_parameter_named(net, "bias"), 5);
    CHECK_NEAR(torc_item(torc_min(torc_forward(net, torc_zeros(TORC_SHAPE(2, 0))))), 5, 0);
}

/* ---- how layers start ---- */

static double root_mean_square(torc_tensor *t)
{
    return sqrt(torc_item(torc_mean(torc_mul(t, t))));
}

/* Uniform in +-b: the largest is close to b, the standard deviation b / sqrt(3). */
static void check_uniform(torc_tensor *t, double bound)
{
    double largest = torc_item(torc_max(torc_abs(t)));
    CHECK(largest <= bound);
    CHECK(largest > 0.98 * bound);
    CHECK_NEAR(root_mean_square(t) / (bound / sqrt(3)), 1, 0.02);
    CHECK_NEAR(torc_item(torc_mean(t)) / bound, 0, 0.02);
}

TEST(layers_start_as_pytorchs_do)
{
    torc_module *linear = torc_linear(64, 500), *conv = torc_conv2d(8, 64, 5, .groups = 2);
    check_uniform(torc_parameter_named(linear, "weight"), 1 / sqrt(64));
    check_uniform(torc_parameter_named(conv, "weight"), 1 / sqrt(4 * 5 * 5));
    CHECK(torc_item(torc_max(torc_abs(torc_parameter_named(linear, "bias")))) <= 1 / sqrt(64));
    torc_tensor *rows = torc_parameter_named(torc_embedding(500, 100), "weight");
    CHECK_NEAR(root_mean_square(rows), 1, 0.02);
    torc_module *norm = torc_layer_norm(8);
    CHECK_NEAR(torc_item(torc_min(torc_parameter_named(norm, "weight"))), 1, 0);
    CHECK_NEAR(torc_item(torc_max(torc_abs(torc_parameter_named(norm, "bias")))), 0, 0);
}

TEST_RANKS(layers_start_alike_on_all_ranks, 3)
{
    torc_init(NULL, NULL);
    torc_seed(5);
    torc_module *net = torc_sequential(torc_linear(7, 5), torc_embedding(3, 3));
    for (int64_t k = 0; k < torc_parameter_count(net); k++) {
        torc_tensor *p = torc_parameter_at(net, k, NULL), *square = torc_mul(p, p);
        double sum = torc_item(torc_sum(torc_mul(square, p)));
        CHECK(sum != 0);
        CHECK_NEAR(torc_max_over_ranks(sum), sum, 0);
        CHECK_NEAR(-torc_max_over_ranks(-sum), sum, 0);
    }
    torc_finalize();
}

/* ---- refused ---- */

TEST_DIES(negative_sizes, 1, "torc_linear: expected sizes of 0 or more, found -1 and 3")
{
    torc_linear(-1, 3);
}

TEST_DIES(groups_that_do_not_divide, 1, "torc_conv2d: expected channels that 3 groups divide")
{
    torc_conv2d(4, 6, 3, .groups = 3);
}

TEST_DIES(a_probability_above_one, 1, "torc_dropout: expected a probability from 0 to 1, found 1.5")
{
    torc_dropout(1.5);
}

TEST_DIES(a_momentum_above_one, 1, "torc_batch_norm2d: expected an eps of 0 or more and a momentum")
{
    torc_batch_norm2d(3, .momentum = 2);
}

TEST_DIES(an_embedding_of_nothing, 1, "torc_embedding: expected a count of 1 or more, found 0")
{
    torc_embedding(0, 3);
}

TEST_DIES(an_input_of_another_width, 1, "torc_linear_op: ")
{
    torc_forward(torc_sequential(torc_linear(4, 3)), torc_ones(TORC_SHAPE(2, 5)));
}
