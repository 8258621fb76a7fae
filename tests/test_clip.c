/* torc_clip_grad_norm(): the norm by formula, what is scaled, what is left alone. */
#include "core/torc.h"
#include "tests/harness.h"

#include <math.h>

/* One parameter a tensor of `n` numbers; its gradient is g once backward has run. */
static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

static torc_module *two_parameters(void)
{
    torc_module *net = torc_module_new("Two", identity, 0);
    torc_parameter(net, "a", torc_zeros(TORC_SHAPE(2)));
    torc_parameter(net, "b", torc_zeros(TORC_SHAPE(1)));
    return net;
}

/* d (x . p) / d p = x: gradients (3, 4 s) and (12 s). */
static torc_module *with_gradients(double s)
{
    torc_module *net = two_parameters();
    const double x[] = {3, 4 * s};
    torc_tensor *wide = torc_zeros(TORC_SHAPE(2));
    torc_write(wide, TORC_F64, x, 2);
    torc_tensor *a = torc_mul(wide, torc_parameter_named(net, "a"));
    torc_tensor *b = torc_mul_scalar(torc_parameter_named(net, "b"), 12 * s);
    torc_backward(torc_add(torc_sum(a), torc_sum(b)));
    return net;
}

static double element(torc_module *net, const char *name, int i)
{
    double v[2];
    torc_tensor *g = torc_grad(torc_parameter_named(net, name));
    torc_read(g, TORC_F64, v, torc_numel(g));
    return v[i];
}

TEST(a_long_gradient_is_cut)
{
    torc_module *net = with_gradients(1);
    CHECK_NEAR(torc_clip_grad_norm(net, 6.5), 13, 1e-12);
    CHECK_NEAR(element(net, "a", 0), 1.5, 1e-6);
    CHECK_NEAR(element(net, "a", 1), 2, 1e-6);
    CHECK_NEAR(element(net, "b", 0), 6, 1e-6);
    double after = torc_clip_grad_norm(net, 6.5);
    CHECK(after <= 6.5 && after > 6.4999);
}

TEST(a_short_gradient_is_left)
{
    torc_module *net = with_gradients(1);
    CHECK_NEAR(torc_clip_grad_norm(net, 14), 13, 1e-12);
    CHECK_NEAR(torc_clip_grad_norm(net, INFINITY), 13, 1e-12);
    CHECK_NEAR(element(net, "b", 0), 12, 0);
}

TEST(a_norm_of_zero)
{
    torc_module *net = with_gradients(1);
    torc_zero_grad(net);
    CHECK_NEAR(torc_clip_grad_norm(net, 1), 0, 0);
    CHECK_NEAR(element(net, "b", 0), 0, 0);
}

TEST(what_is_not_finite_is_told_and_left)
{
    torc_module *net = with_gradients(INFINITY);
    CHECK(isinf(torc_clip_grad_norm(net, 1)));
    CHECK_NEAR(element(net, "a", 0), 3, 0);
    net = with_gradients(NAN);
    CHECK(isnan(torc_clip_grad_norm(net, 1)));
    CHECK_NEAR(element(net, "a", 0), 3, 0);
}

TEST(large_gradients_do_not_overflow)
{
    torc_module *net = with_gradients(1e30); /* 1e60 has no place in a float */
    CHECK_NEAR(torc_clip_grad_norm(net, 1) / (sqrt(160) * 1e30), 1, 1e-6);
    CHECK_NEAR(element(net, "b", 0), 12 / sqrt(160), 1e-6);
}

TEST(those_without_a_gradient_do_not_count)
{
    torc_module *net = two_parameters();
    torc_backward(torc_mul_scalar(torc_sum(torc_parameter_named(net, "b")), 5));
    CHECK_NEAR(torc_clip_grad_norm(net, 1), 5, 1e-12);
    CHECK(torc_grad(torc_parameter_named(net, "a")) == NULL);
}

TEST_DIES(before_any_backward, 1, "torc_clip_grad_norm: no parameter has a gradient")
{
    torc_clip_grad_norm(two_parameters(), 1);
}

TEST_DIES(a_limit_below_zero, 1, "expected a max_norm of 0 or more, found -1")
{
    torc_clip_grad_norm(two_parameters(), -1);
}

TEST_DIES(no_module, 1, "torc_clip_grad_norm: expected a module, found NULL")
{
    torc_clip_grad_norm(NULL, 1);
}

/* ---- as an option of the optimizer ---- */

/* SGD with lr 1 from 0: the parameters are minus what the gradients were scaled to. */
TEST(a_step_clips_by_itself)
{
    torc_module *net = with_gradients(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 1, .clip_norm = 6.5f);
    CHECK_NEAR(torc_grad_norm(opt), 0, 0);
    torc_step(opt);
    CHECK_NEAR(torc_grad_norm(opt), 13, 1e-12);
    CHECK_NEAR(torc_item(torc_sum(torc_parameter_named(net, "a"))), -1.5 - 2, 1e-6);
    CHECK_NEAR(torc_item(torc_parameter_named(net, "b")), -6, 1e-6);
}

TEST(an_infinite_limit_only_measures)
{
    torc_module *net = with_gradients(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 1, .clip_norm = INFINITY);
    torc_step(opt);
    CHECK_NEAR(torc_grad_norm(opt), 13, 1e-12);
    CHECK_NEAR(torc_item(torc_parameter_named(net, "b")), -12, 0);
}

TEST_DIES(a_limit_of_a_step_below_zero, 1, "expected a clip_norm of 0 or more, found -1")
{
    torc_sgd(two_parameters(), .lr = 1, .clip_norm = -1);
}

TEST_DIES(a_norm_nobody_asked_for, 1, "torc_grad_norm: expected an optimizer with .clip_norm")
{
    torc_grad_norm(torc_sgd(two_parameters(), .lr = 1));
}

TEST_DIES(not_in_backward, 1, "torc_adamw: expected .clip_norm or .in_backward, found both")
{
    torc_adamw(two_parameters(), .lr = 1, .clip_norm = 1, .in_backward = true);
}
