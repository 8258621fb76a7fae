/* in_backward: the same weights, to the bit, as with updates in torc_step(), alone and on several
 * ranks; and what it refuses. */
#include "tests/ddp_helpers.h"
#include "tests/values.h"

static torc_optimizer *optimizer(torc_module *net, bool adam, bool early)
{
    return adam ? torc_adamw(net, .lr = 0.01f, .in_backward = early)
                : torc_sgd(net, .lr = 0.1f, .momentum = 0.9f, .in_backward = early);
}

static void train(torc_module *net, torc_optimizer *opt, int first, int end)
{
    for (int step = 0; step < 4; step++) {
        torc_set_lr(opt, 0.02f / (float)(step + 1));
        torc_backward(
            torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end)));
        torc_step(opt);
        torc_tape_clear();
    }
}

static bool same(torc_module *a, torc_module *b)
{
    bool all = true;
    for (int64_t i = 0; i < torc_parameter_count(a); i++)
        all = all && same_bits(torc_parameter_at(a, i, NULL), torc_parameter_at(b, i, NULL));
    return all;
}

TEST(the_same_weights_alone)
{
    for (int adam = 0; adam < 2; adam++) {
        torc_module *late = network(3), *early = network(3);
        train(late, optimizer(late, adam, false), 0, BATCH);
        torc_optimizer *opt = optimizer(early, adam, true);
        train(early, opt, 0, BATCH);
        CHECK(same(late, early));
        CHECK_INT(torc_steps(opt), 4);
    }
}

TEST_RANKS(the_same_weights_on_ranks, 3)
{
    start();
    int first = torc_rank() * BATCH / 3, end = (torc_rank() + 1) * BATCH / 3;
    torc_module *late = torc_ddp(network(3)), *early = torc_ddp(network(3));
    train(late, optimizer(late, true, false), first, end);
    train(early, optimizer(early, true, true), first, end);
    CHECK(same(late, early));
    CHECK(torc_replicas_agree(early));
    torc_finalize();
}

TEST_RANKS(accumulation_waits_for_the_sum, 2)
{
    start();
    torc_module *late = torc_ddp(network(3)), *early = torc_ddp(network(3));
    torc_module *both[] = {late, early};
    for (int k = 0; k < 2; k++) {
        torc_optimizer *opt = optimizer(both[k], true, k);
        TORC_NO_SYNC(both[k])
        {
            torc_backward(torc_cross_entropy(torc_forward(both[k], inputs(0, 4)), labels(0, 4)));
        }
        torc_backward(torc_cross_entropy(torc_forward(both[k], inputs(4, 9)), labels(4, 9)));
        torc_step(opt);
    }
    CHECK(same(late, early));
    torc_finalize();
}

TEST(gradients_are_used_up)
{
    torc_module *net = network(3);
    torc_optimizer *opt = optimizer(net, true, true);
    torc_tensor *p = torc_parameter_at(net, 0, NULL);
    double before = torc_item(torc_sum(torc_abs(p)));
    torc_backward(torc_cross_entropy(torc_forward(net, inputs(0, 5)), labels(0, 5)));
    CHECK(torc_item(torc_sum(torc_abs(p))) != before);
    CHECK_NEAR(torc_item(torc_sum(torc_abs(torc_grad(p)))), 0, 0);
    double moved = torc_item(torc_sum(torc_abs(p)));
    torc_step(opt); /* has nothing left to do with p */
    CHECK_NEAR(torc_item(torc_sum(torc_abs(p))), moved, 0);
    torc_optimizer_free(opt);
    torc_backward(torc_cross_entropy(torc_forward(net, inputs(0, 5)), labels(0, 5)));
    CHECK(torc_item(torc_sum(torc_abs(torc_grad(p)))) > 0); /* nobody takes it any more */
}

TEST_DIES(no_norm_of_what_is_gone, 1,
          "torc_clip_grad_norm: with .in_backward the gradients are used")
{
    torc_module *net = network(3);
    optimizer(net, true, true);
    torc_backward(torc_cross_entropy(torc_forward(net, inputs(0, 5)), labels(0, 5)));
    torc_clip_grad_norm(net, 1);
}
