/*
 * Clipping on a GPU: the host's norm and factor, in steps that nobody waits in; and the same
 * weights whether the call clips or the step does. (Between ranks: test_cuda_shard.c.)
 */
#include "tests/ddp_helpers.h"

#include "core/cuda/cuda.h"

/* Without a loss that looks at its labels, which does wait. */
static void backward_of_squares(torc_module *net)
{
    torc_tensor *y = torc_forward(net, inputs(0, BATCH));
    torc_backward(torc_mean(torc_mul(y, y)));
}

static double norm_on_host(torc_module *net)
{
    double sum = 0;
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        float g[64];
        torc_tensor *p = torc_parameter_at(net, i, NULL);
        torc_read(torc_grad(p), TORC_F32, g, torc_numel(p));
        for (int64_t k = 0; k < torc_numel(p); k++)
            sum += (double)g[k] * g[k];
    }
    return sqrt(sum);
}

TEST(the_norm_is_the_hosts)
{
    torc_module *net = network(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f, .clip_norm = INFINITY);
    backward_of_squares(net);
    double expected = norm_on_host(net);
    CHECK(fabs(torc_clip_grad_norm(net, INFINITY) / expected - 1) < 1e-12);
    torc_step(opt);
    CHECK(fabs(torc_grad_norm(opt) / expected - 1) < 1e-12);
}

/* The norm falls, so that the last steps are not clipped any more. */
TEST(call_and_step_give_the_same_weights)
{
    torc_module *net[2] = {network(1), network(1)};
    backward_of_squares(net[0]);
    float limit = 0.6f * (float)norm_on_host(net[0]);
    torc_zero_grad(net[0]);
    torc_optimizer *opt[2] = {torc_adamw(net[0], .lr = 0.05f),
                              torc_adamw(net[1], .lr = 0.05f, .clip_norm = limit)};
    int clipped = 0;
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < 2; k++)
            backward_of_squares(net[k]);
        clipped += torc_clip_grad_norm(net[0], limit) > limit;
        torc_step(opt[0]);
        torc_step(opt[1]);
        torc_tape_clear();
    }
    CHECK(clipped > 0 && clipped < 8);
    compare_bits(net[0], net[1]);
}

TEST(nobody_waits_for_a_clipped_step)
{
    torc_module *net = network(1);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f, .clip_norm = 0.01f);
    for (int i = 0; i < 3; i++) {
        int64_t waits = cuda_waits();
        backward_of_squares(net);
        torc_step(opt);
        CHECK_INT(cuda_waits(), waits);
        torc_tape_clear();
    }
    int64_t waits = cuda_waits();
    CHECK(torc_grad_norm(opt) > 0.01);
    CHECK_INT(cuda_waits(), waits + 1);
}

/* Who calls for the norm waits for it, and for nothing else. */
TEST(the_call_waits_once)
{
    torc_module *net = network(1);
    backward_of_squares(net);
    int64_t waits = cuda_waits();
    torc_clip_grad_norm(net, 0.01);
    CHECK_INT(cuda_waits(), waits + 1);
}
