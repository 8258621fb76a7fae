/* verify_every: the rank and the tensor that differ are named. The plan can be printed. */
#include "tests/ddp_helpers.h"

static void drift(int every)
{
    start();
    torc_module *net = torc_ddp(network(1), .verify_every = every);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.01f);
    for (int i = 0; i < 4; i++) {
        backward(net, 0, 3);
        torc_step(opt);
        torc_tensor *p = torc_parameter_named(net, "2.bias");
        if (i == 1 && torc_rank() == 1)
            torc_init_constant(p, 0.25);
        torc_tape_clear();
    }
    torc_finalize();
}

TEST_RANKS_DIE(replicas_that_differ_are_told, 3, 1, "has other values in 2.bias than rank 0")
{
    drift(2);
}

TEST_RANKS(unless_nobody_looks, 3)
{
    drift(0);
}

TEST(the_plan_is_printed)
{
    start();
    torc_ddp_plan(torc_ddp(network(1)));
    torc_finalize();
}
