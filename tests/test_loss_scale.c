/*
 * The loss scale: what it is in gradients and norms, how it moves, and what it refuses. (What it
 * leaves in weights: test_skip.c; on a GPU: test_cuda_loss_scale.c.)
 */
#include "core/torc.h"
#include "tests/harness.h"

#include "core/loss_scale.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- gradients ---- */

static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

/* One parameter of zeros: w [2]. */
static torc_module *two_numbers(void)
{
    torc_module *net = torc_module_new("Two", identity, 0);
    torc_parameter(net, "w", torc_zeros(TORC_SHAPE(2)));
    return net;
}

/* Its gradient is (3 s, 4 s), times the scale. */
static void backward_of_five(torc_module *net, double s)
{
    const double x[] = {3 * s, 4 * s};
    torc_tensor *wide = torc_zeros(TORC_SHAPE(2));
    torc_write(wide, TORC_F64, x, 2);
    torc_backward(torc_sum(torc_mul(wide, torc_parameter_at(net, 0, NULL))));
}

static double gradient(torc_module *net, int i)
{
    double v[2];
    torc_read(torc_grad(torc_parameter_at(net, 0, NULL)), TORC_F64, v, 2);
    return v[i];
}

static double weight(torc_module *net, int i)
{
    double v[2];
    torc_read(torc_parameter_at(net, 0, NULL), TORC_F64, v, 2);
    return v[i];
}

TEST(without_it_gradients_are_true)
{
    torc_module *net = two_numbers();
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3, 0);
}

TEST(gradients_are_scaled_until_the_step)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.initial = 8);
    CHECK_NEAR(torc_loss_scale(), 8, 0);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 1), 32, 0);
    torc_step(opt);
    CHECK_NEAR(weight(net, 0), -3, 0);
    CHECK_NEAR(weight(net, 1), -4, 0);
}

TEST(as_usual_it_starts_from_65536)
{
    torc_set_loss_scale();
    CHECK_NEAR(torc_loss_scale(), 65536, 0);
    torc_module *net = two_numbers();
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3 * 65536.0, 0);
    torc_set_loss_scale(.off = true);
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    torc_zero_grad(net);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3, 0);
}

TEST(norms_are_the_true_ones)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1, .clip_norm = 1);
    torc_set_loss_scale(.initial = 1024);
    backward_of_five(net, 1);
    CHECK_NEAR(torc_clip_grad_norm(net, 2.5), 5, 1e-12);
    CHECK_NEAR(gradient(net, 0), 1.5 * 1024, 1e-6);
    CHECK_NEAR(torc_clip_grad_norm(net, INFINITY), 2.5, 1e-6);
    torc_step(opt);
    CHECK_NEAR(torc_grad_norm(opt), 2.5, 1e-6);
    CHECK_NEAR(weight(net, 0), -0.6, 1e-6);
    CHECK_NEAR(weight(net, 1), -0.8, 1e-6);
}

/* The step still knows what the gradients were multiplied by. */
TEST(switched_off_before_the_step)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.initial = 8);
    backward_of_five(net, 1);
    torc_set_loss_scale(.off = true);
    torc_step(opt);
    CHECK_NEAR(weight(net, 0), -3, 0);
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3, 0);
    torc_step(opt);
    CHECK_NEAR(weight(net, 0), -6, 0);
}

/* Whatever number the scale is: 1 / 3 of it is rounded, once. */
TEST(a_scale_that_is_no_power_of_two)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.fixed = 3);
    backward_of_five(net, 1);
    torc_step(opt);
    CHECK_NEAR(weight(net, 0), -3, 1e-7);
}

TEST(losses_of_any_dtype)
{
    torc_set_loss_scale(.initial = 16);
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(1), .dtype = TORC_F64, .requires_grad = true);
    torc_backward(torc_mul_scalar(x, 3));
    CHECK_NEAR(torc_item(torc_grad(x)), 48, 0);
}

static torc_tensor *cube(torc_tensor *const *in, void *context)
{
    (void)context;
    return torc_sum(torc_mul(in[0], torc_mul(in[0], in[0])));
}

TEST(a_gradient_check_is_not_scaled)
{
    const double values[] = {0.3, -0.7};
    torc_tensor *x =
        torc_tensor_new(TORC_SHAPE(2), .dtype = TORC_F64, .data = values, .requires_grad = true);
    torc_set_loss_scale();
    CHECK(torc_gradcheck(cube, NULL, 1, &x, NULL, 0) < 1e-7);
}

/* ---- how it moves ---- */

/* A step on w whose gradient is small, or infinite. */
static void one_step(torc_module *net, torc_optimizer *opt, bool bad)
{
    backward_of_five(net, bad ? INFINITY : 1e-30);
    torc_step(opt);
    torc_tape_clear();
}

/* 200 steps, good and bad ones mixed, against the rule in a few lines. */
TEST(it_follows_the_rule)
{
    double scale = 1024;
    int good = 0, changes = 0;
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    torc_set_loss_scale(.initial = 1024, .growth = 4, .backoff = 0.25f, .interval = 3);
    for (int i = 0; i < 200; i++) {
        bool bad = i * i % 7 == 1, grows = !bad && ++good == 3;
        CHECK_NEAR(torc_loss_scale(), scale, 0);
        one_step(net, opt, bad);
        scale = bad ? fmax(scale / 4, 1) : grows ? scale * 4 : scale;
        good = bad || grows ? 0 : good;
        changes += bad || grows;
    }
    CHECK(changes > 60);
    CHECK_INT(torc_steps(opt), 200);
}

TEST(it_stays_between_its_bounds)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    torc_set_loss_scale(.initial = 3);
    for (int i = 0; i < 3; i++)
        one_step(net, opt, true);
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    torc_set_loss_scale(.initial = 0x1p125f, .interval = 1);
    for (int i = 0; i < 3; i++) {
        one_step(net, opt, false);
        CHECK_NEAR(torc_loss_scale(), 0x1p126, 0);
    }
}

TEST(a_fixed_scale_stays_and_skips)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.fixed = 128);
    one_step(net, opt, true);
    CHECK_NEAR(weight(net, 0), 0, 0);
    CHECK_NEAR(torc_loss_scale(), 128, 0);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3 * 128, 0);
    torc_step(opt);
    CHECK_NEAR(weight(net, 0), -3, 0);
}

/* As a checkpoint has it, of a run whose interval was longer. */
TEST(a_shorter_interval_is_over_at_once)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    torc_set_loss_scale(.interval = 3);
    loss_scale_restore(&(loss_scale_saved){.state = {.scale = 64, .good = 1500}});
    one_step(net, opt, false);
    CHECK_NEAR(torc_loss_scale(), 128, 0);
    for (int i = 0; i < 3; i++)
        one_step(net, opt, false);
    CHECK_NEAR(torc_loss_scale(), 256, 0);
}

/* Too large for f32: the usual way to find out, with no infinity in the loss. */
TEST(a_scale_that_is_too_large_falls)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.initial = 0x1p120f);
    for (int i = 0; i < 8; i++) { /* 4 * 1000 * 2^120 = 2^131.97, of which f32 holds 2^128 */
        backward_of_five(net, 1000);
        torc_step(opt);
        CHECK_NEAR(weight(net, 0), i < 4 ? 0 : -3000 * (i - 3), 1e-6);
    }
    CHECK_NEAR(torc_loss_scale(), 0x1p116, 0);
}

/* Two networks that take turns: an overflow in both is one overflow; in one of them it is one too.
 */
TEST(several_optimizers_count_once)
{
    torc_module *net[2] = {two_numbers(), two_numbers()};
    torc_optimizer *opt[2] = {torc_sgd(net[0], .lr = 1), torc_adam(net[1], .lr = 1)};
    torc_set_loss_scale(.initial = 64, .interval = 2);
    static const double scales[] = {32, 16, 8, 8, 16};
    for (int i = 0; i < 5; i++) {
        torc_tensor *both = torc_add(torc_sum(torc_parameter_at(net[0], 0, NULL)),
                                     torc_sum(torc_parameter_at(net[1], 0, NULL)));
        if (i == 0) /* both; then the first, then the second, then none */
            both = torc_mul_scalar(both, INFINITY);
        torc_backward(both);
        if (i == 1 || i == 2)
            backward_of_five(net[i - 1], INFINITY);
        torc_step(opt[0]);
        torc_step(opt[1]);
        torc_tape_clear();
        CHECK_NEAR(torc_loss_scale(), scales[i], 0);
    }
    CHECK_NEAR(weight(net[0], 0), -3, 0); /* in the steps 2, 3 and 4 */
}

TEST(it_stays_while_gradients_are_added_up)
{
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    torc_set_loss_scale(.initial = 4, .interval = 1);
    for (int step = 0; step < 3; step++) {
        double scale = torc_loss_scale();
        for (int part = 0; part < 3; part++) {
            backward_of_five(net, 1);
            CHECK_NEAR(torc_loss_scale(), scale, 0);
        }
        CHECK_NEAR(gradient(net, 0), 9 * scale, 0);
        torc_step(opt);
        CHECK_NEAR(weight(net, 0), -9 * (step + 1), 0);
        CHECK_NEAR(torc_loss_scale(), 2 * scale, 0);
    }
}

/* As torc_autocast(TORC_F16) does: not within gradients that are added up already. */
TEST(it_is_switched_on_by_itself)
{
    const call c = {TORC_HERE, "test"};
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    backward_of_five(net, 1);
    loss_scale_wanted(&c);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 6, 0);
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    torc_step(opt);
    CHECK_NEAR(torc_loss_scale(), 65536, 0);
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3 * 65536.0, 0);
}

TEST(who_switched_it_off_is_heard)
{
    const call c = {TORC_HERE, "test"};
    torc_set_loss_scale(.off = true);
    loss_scale_wanted(&c);
    torc_module *net = two_numbers();
    backward_of_five(net, 1);
    CHECK_NEAR(gradient(net, 0), 3, 0);
}

/* ---- messages ---- */

static int lines_with(const char *text, const char *word)
{
    int n = 0;
    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

/* How often the warning is given in so many bad steps. */
static int warnings_in(int bad_steps, torc_loss_scale_options o, const char *warning)
{
    static char text[8192];
    const char *path = test_path("log");
    int old = dup(2), file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    dup2(file, 2);
    torc_module *net = two_numbers();
    torc_optimizer *opt = torc_sgd(net, .lr = 1);
    (torc_set_loss_scale)(TORC_HERE, o);
    for (int i = 0; i < bad_steps; i++)
        one_step(net, opt, true);
    torc_optimizer_free(opt);
    dup2(old, 2);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    close(file);
    return lines_with(text, warning);
}

TEST(a_model_that_is_at_fault_is_told_once)
{
    const char *warning = "20 steps in a row were skipped at a loss scale of 1: gradients are "
                          "infinite or NaN, and a smaller scale would not help";
    torc_loss_scale_options two = {.initial = 2};
    CHECK_INT(warnings_in(20, two, warning), 0); /* the first of them halves the scale */
    CHECK_INT(warnings_in(60, two, warning), 1);
}

TEST(a_scale_that_does_not_fall_is_told_once)
{
    const char *warning = "20 steps in a row were skipped at a loss scale of 128: gradients are "
                          "infinite or NaN, and this scale does not fall by itself";
    CHECK_INT(warnings_in(19, (torc_loss_scale_options){.fixed = 128}, warning), 0);
    CHECK_INT(warnings_in(60, (torc_loss_scale_options){.fixed = 128}, warning), 1);
    CHECK_INT(warnings_in(60, (torc_loss_scale_options){.initial = 128, .backoff = 1}, warning), 1);
}

TEST_DIES(a_scale_below_one, 1, "torc_set_loss_scale: expected .initial from 1 to 8.50706e+37")
{
    torc_set_loss_scale(.initial = 0.5f);
}

TEST_DIES(a_backoff_that_grows, 1, "expected .backoff from 1.52588e-05 to 1, found 2")
{
    torc_set_loss_scale(.backoff = 2);
}

TEST_DIES(an_interval_below_zero, 1, "expected .interval of 1 or more, found -1")
{
    torc_set_loss_scale(.interval = -1);
}

TEST_DIES(not_with_updates_in_backward, 1,
          "torc_set_loss_scale: expected no optimizer with .in_backward")
{
    torc_sgd(two_numbers(), .lr = 1, .in_backward = true);
    torc_set_loss_scale();
}

TEST_DIES(no_updates_in_backward_with_it, 1, "torc_sgd: expected no .in_backward with a loss scale")
{
    torc_set_loss_scale();
    torc_sgd(two_numbers(), .lr = 1, .in_backward = true);
}

TEST_DIES(a_scope_tells_so_too, 1, "torc_autocast: expected no optimizer with .in_backward")
{
    torc_sgd(two_numbers(), .lr = 1, .in_backward = true);
    loss_scale_wanted(&(call){TORC_HERE, "torc_autocast"});
}
