/*
 * SGD, Adam and AdamW against 100 steps of torch.optim on a quadratic whose gradient is written
 * into place by formula; what a step asks for, clears and refuses. (The rules' kernels one by one:
 * test_cpu_optim.c.)
 */
#include "core/torc.h"

#include "core/optim/optimizer.h"
#include "tests/reference/compare.h"
#include "tests/reference/optimizers.h"

#include <math.h>

/* ---- 100 steps ---- */

static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

/* a [3] and b [2, 2], as in optimizers.py. */
static torc_module *problem(void)
{
    torc_module *net = torc_module_new("Problem", identity, 0);
    reference_fill(torc_parameter(net, "a", torc_zeros(TORC_SHAPE(3))), 0);
    reference_fill(torc_parameter(net, "b", torc_zeros(TORC_SHAPE(2, 2))), 1);
    return net;
}

/* A gradient as backward would leave it. */
static void give_gradient(torc_tensor *handle, const double *g)
{
    const call c = {TORC_HERE, "test"};
    tensor *p = tensor_of(&c, handle);
    if (!p->grad)
        p->grad = tensor_create_like(&c, p, p->dtype, OWNER_HOUSE);
    torc_write(tensor_handle(p->grad), TORC_F64, g, torc_numel(handle));
}

static void quadratic(torc_module *net, bool with_b)
{
    torc_tensor *a = torc_parameter_named(net, "a"), *b = torc_parameter_named(net, "b");
    double p[7], g[7];
    torc_read(a, TORC_F64, p, 3);
    torc_read(b, TORC_F64, p + 3, 4);
    for (int i = 0; i < 7; i++)
        g[i] = (0.5 + 0.25 * i) * (p[i] - reference_value(i, 9));
    give_gradient(a, g);
    if (with_b)
        give_gradient(b, g + 3);
}

static void check_steps(const char *what, torc_module *net, torc_optimizer *opt, int late,
                        const double *expected)
{
    for (int step = 1; step <= 100; step++) {
        quadratic(net, step > late);
        torc_step(opt);
        if (step == 1 || step == 10 || step == 100) {
            expected = reference_check(what, torc_parameter_named(net, "a"), expected);
            expected = reference_check(what, torc_parameter_named(net, "b"), expected);
        }
    }
    torc_optimizer_free(opt);
    torc_module_free(net);
}

/* The optimizer's options, the steps that b comes late, and the array of its name. */
#define CHECK_RULE(rule, late, numbers, ...) \
    do { \
        torc_module *net = problem(); \
        check_steps(#numbers, net, rule(net, __VA_ARGS__), late, numbers); \
    } while (0)

TEST(sgd_is_pytorchs)
{
    CHECK_RULE(torc_sgd, 0, ref_sgd_plain, .lr = 0.05f);
    CHECK_RULE(torc_sgd, 0, ref_sgd_decay, .lr = 0.05f, .weight_decay = 0.1f);
    CHECK_RULE(torc_sgd, 0, ref_sgd_momentum, .lr = 0.05f, .momentum = 0.9f);
    CHECK_RULE(torc_sgd, 0, ref_sgd_dampening, .lr = 0.05f, .momentum = 0.9f, .dampening = 0.5f,
               .weight_decay = 0.01f);
    CHECK_RULE(torc_sgd, 0, ref_sgd_nesterov, .lr = 0.05f, .momentum = 0.9f, .nesterov = true,
               .weight_decay = 0.01f);
}

TEST(adam_is_pytorchs)
{
    CHECK_RULE(torc_adam, 0, ref_adam_plain, .lr = 0.02f);
    CHECK_RULE(torc_adam, 0, ref_adam_decay, .lr = 0.02f, .weight_decay = 0.1f);
}

TEST(adamw_is_pytorchs)
{
    CHECK_RULE(torc_adamw, 0, ref_adamw_plain, .lr = 0.02f);
    CHECK_RULE(torc_adamw, 0, ref_adamw_betas, .lr = 0.02f, .beta1 = 0.8f, .beta2 = 0.95f,
               .eps = 1e-3f, .weight_decay = 0.2f);
}

TEST(a_parameter_counts_its_own_steps)
{
    CHECK_RULE(torc_sgd, 5, ref_sgd_late, .lr = 0.05f, .momentum = 0.9f, .dampening = 0.5f);
    CHECK_RULE(torc_adam, 5, ref_adam_late, .lr = 0.02f);
}

TEST(an_explicit_zero_is_a_zero)
{
    torc_module *net = problem();
    torc_optimizer *opt = torc_adamw(net, .lr = 0.5f, .weight_decay = TORC_ZERO);
    const double none[4] = {0};
    give_gradient(torc_parameter_named(net, "b"), none);
    double before = torc_item(torc_sum(torc_parameter_named(net, "b")));
    torc_step(opt);
    CHECK_NEAR(torc_item(torc_sum(torc_parameter_named(net, "b"))), before, 0);
}

/* ---- gradients ---- */

static double sum_of(torc_tensor *t)
{
    return torc_item(torc_sum(t));
}

TEST(a_step_clears_the_gradients)
{
    torc_module *net = problem();
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    quadratic(net, true);
    torc_step(opt);
    CHECK_NEAR(sum_of(torc_abs(torc_grad(torc_parameter_named(net, "b")))), 0, 0);
}

TEST(the_loss_goes_down)
{
    torc_module *net = torc_sequential(torc_linear(4, 8), torc_relu_layer(), torc_linear(8, 1));
    torc_optimizer *opt = torc_adam(net, .lr = 0.01f);
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(32, 4)));
    double first = 0, last = 0;
    for (int i = 0; i < 60; i++) {
        torc_tensor *loss = torc_mse_loss(torc_forward(net, x), torc_ones(TORC_SHAPE(32, 1)));
        last = torc_item(loss);
        first = i ? first : last;
        torc_backward(loss);
        torc_step(opt);
        torc_tape_clear();
    }
    CHECK(last < 0.2 * first);
}

TEST(a_cleared_gradient_takes_part_as_zeros)
{
    torc_module *net = problem();
    torc_tensor *a = torc_parameter_named(net, "a");
    torc_optimizer *opt = torc_sgd(net, .lr = 1, .momentum = 0.5f);
    const double ones[3] = {1, 1, 1};
    give_gradient(a, ones);
    torc_step(opt);
    double before = sum_of(a);
    torc_step(opt); /* nothing came: momentum alone moves it */
    CHECK_NEAR(sum_of(a), before - 3 * 0.5, 1e-6);
}

TEST(frozen_parameters_stay)
{
    torc_module *net = problem();
    torc_tensor *a = torc_parameter_named(net, "a"), *b = torc_parameter_named(net, "b");
    quadratic(net, true);
    torc_set_requires_grad(a, false);
    double a_before = sum_of(a), b_before = sum_of(b);
    torc_step(torc_sgd(net, .lr = 0.1f));
    CHECK_NEAR(sum_of(a), a_before, 0);
    CHECK(fabs(sum_of(b) - b_before) > 1e-3);
}

/* torc_ddp() moves gradients into buckets after an optimizer has been made, and again later. */
TEST(gradients_may_move_between_steps)
{
    torc_module *net = problem();
    torc_tensor *b = torc_parameter_named(net, "b");
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    quadratic(net, true);
    torc_step(opt);
    storage *bucket = storage_new(64);
    tape_place_gradient(tensor_of(&(call){TORC_HERE, "test"}, b), bucket, 8);
    const double ones[4] = {1, 1, 1, 1};
    give_gradient(b, ones);
    float placed[12];
    device_current()->to_host(placed, bucket->data, sizeof placed);
    CHECK_NEAR(placed[11], 1, 0);
    double before = sum_of(b);
    torc_step(opt);
    CHECK_NEAR(sum_of(b), before - 4, 1e-6);
}

TEST(a_parameter_of_no_elements_is_no_obstacle)
{
    torc_module *net = torc_linear(0, 3);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.1f);
    torc_backward(torc_sum(torc_forward(net, torc_zeros(TORC_SHAPE(2, 0)))));
    double before = sum_of(torc_parameter_named(net, "bias"));
    torc_step(opt); /* Adam's first step is lr long, whatever the gradient */
    CHECK_NEAR(sum_of(torc_parameter_named(net, "bias")), before - 0.3, 1e-5);
}

/* ---- state, learning rate, lifetimes ---- */

TEST(state_is_made_at_once_and_goes)
{
    torc_module *net = torc_linear(1000, 64);
    size_t before = torc_memory().live_bytes, piece = 4 * (64 * 1000 + 64);
    torc_optimizer *plain = torc_sgd(net, .lr = 1);
    CHECK_INT(torc_memory().live_bytes, before);
    torc_optimizer *adam = torc_adam(net, .lr = 1);
    CHECK(torc_memory().live_bytes >= before + 2 * piece);
    CHECK(torc_memory().live_bytes <= before + 2 * piece * 9 / 8); /* classes of blocks */
    torc_optimizer_free(plain);
    torc_optimizer_free(adam);
    CHECK_INT(torc_memory().live_bytes, before);
    torc_sgd(net, .lr = 1, .momentum = 0.9f);
    optimizer_free_all();
    CHECK_INT(torc_memory().live_bytes, before);
}

TEST(the_learning_rate_can_be_set)
{
    torc_module *net = problem();
    torc_optimizer *opt = torc_sgd(net, .lr = 0.5f);
    CHECK_NEAR(torc_lr(opt), 0.5, 0);
    torc_set_lr(opt, 0);
    quadratic(net, true);
    double before = sum_of(torc_parameter_named(net, "b"));
    torc_step(opt);
    CHECK_NEAR(sum_of(torc_parameter_named(net, "b")), before, 0);
    torc_set_lr(opt, 0.25f);
    CHECK_NEAR(torc_lr(opt), 0.25, 0);
}

TEST(the_optimizer_may_go_after_the_module)
{
    torc_module *net = torc_linear(3, 2);
    torc_optimizer *opt = torc_adam(net, .lr = 0.1f);
    torc_module_free(net);
    size_t before = torc_memory().live_bytes;
    torc_optimizer_free(opt);
    CHECK(torc_memory().live_bytes < before);
}

TEST_DIES(the_module_went_before_the_step, 1,
          "torc_step: parameter 0 [2, 3] is gone: its module was freed")
{
    torc_module *net = torc_linear(3, 2);
    torc_optimizer *opt = torc_adam(net, .lr = 0.1f);
    torc_module_free(net);
    torc_step(opt);
}

TEST_DIES(shared_after_the_optimizer_was_made, 1, "or torc_share_parameter() put another")
{
    torc_module *second = torc_linear(2, 2), *net = torc_sequential(torc_linear(2, 2), second);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    torc_share_parameter(second, "weight", torc_parameter_named(net, "0.weight"));
    torc_step(opt);
}

/* ---- refused ---- */

TEST_DIES(lr_is_required, 1, "torc_sgd: lr is required, e.g. .lr = 0.1f")
{
    torc_sgd(problem(), .momentum = 0.9f);
}

TEST_DIES(lr_is_required_by_adamw, 1, "torc_adamw: lr is required")
{
    torc_adamw(problem());
}

TEST_DIES(a_negative_lr, 1, "torc_adam: expected a finite lr of 0 or more, found -0.1")
{
    torc_adam(problem(), .lr = -0.1f);
}

TEST_DIES(an_lr_set_to_nan, 1, "torc_set_lr: expected a finite lr of 0 or more, found nan")
{
    torc_set_lr(torc_sgd(problem(), .lr = 1), NAN);
}

TEST_DIES(a_beta_of_one, 1, "torc_adam: expected beta1 from 0 to below 1, found 1")
{
    torc_adam(problem(), .lr = 0.1f, .beta1 = 1);
}

TEST_DIES(a_negative_beta, 1, "torc_adamw: expected beta2 from 0 to below 1, found -0.5")
{
    torc_adamw(problem(), .lr = 0.1f, .beta2 = -0.5f);
}

TEST_DIES(a_negative_decay, 1, "torc_sgd: expected weight_decay from 0")
{
    torc_sgd(problem(), .lr = 0.1f, .weight_decay = -1);
}

TEST_DIES(nesterov_without_momentum, 1, "nesterov needs a momentum and no dampening")
{
    torc_sgd(problem(), .lr = 0.1f, .nesterov = true);
}

TEST_DIES(a_step_before_any_backward, 1,
          "torc_step: no parameter has a gradient: torc_backward() comes first")
{
    torc_step(torc_sgd(problem(), .lr = 0.1f));
}

TEST_DIES(nothing_to_optimize, 1, "torc_sgd: the module has no parameters")
{
    torc_sgd(torc_relu_layer(), .lr = 0.1f);
}

TEST_DIES(parameters_of_float64, 1, "expected float32 parameters, found w, which is float64")
{
    torc_module *net = torc_module_new("Wide", identity, 0);
    torc_parameter(net, "w", torc_zeros(TORC_SHAPE(2), .dtype = TORC_F64));
    torc_sgd(net, .lr = 0.1f);
}

TEST_DIES(parameters_with_repeats, 1, "w has gaps between its elements")
{
    torc_module *net = torc_module_new("Repeats", identity, 0);
    torc_parameter(net, "w", torc_expand(torc_zeros(TORC_SHAPE(1, 2)), TORC_SHAPE(3, 2)));
    torc_sgd(net, .lr = 0.1f);
}

TEST_DIES(no_optimizer, 1, "torc_step: expected an optimizer, found NULL")
{
    torc_step(NULL);
}
