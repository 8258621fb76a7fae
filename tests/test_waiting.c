/* Ranks that leave out a backward are told within seconds; one that says it takes long is not. */
#include "tests/ddp_helpers.h"

static void train_but_skip(int who, int batch)
{
    start();
    torc_module *net = torc_ddp(torc_sequential(torc_flatten_layer(), torc_linear(32, OUT)));
    torc_optimizer *opt = torc_sgd(net, .lr = 0.01f);
    torc_loader *loader = torc_loader_new(samples(), .batch_size = 9);
    for (torc_batch b; torc_loader_next(loader, &b);) {
        if (torc_rank() == who && b.index == batch)
            continue;
        torc_backward(torc_cross_entropy(torc_forward(net, b.x), b.y));
        torc_step(opt);
    }
    torc_finalize();
}

/* The next backward of the rank that skipped one looks the same, but for the batch. */
TEST_RANKS_DIE(a_skipped_backward_is_told, 3, 1, "the ranks are not in the same reduction")
{
    train_but_skip(1, 1);
}

TEST_RANKS_DIE(a_skipped_last_backward_is_told, 3, 1, "the ranks are not in the same place")
{
    train_but_skip(2, 4);
}

TEST_RANKS(long_scopes_are_waited_for, 2)
{
    setenv("TORC_TIMEOUT", "0.6", 1);
    start();
    torc_module *net = torc_ddp(network(1));
    if (torc_rank() == 0)
        TORC_LONG("evaluating")
        {
            usleep(1400000);
        }
    backward(net, 0, 3);
    torc_finalize();
}
