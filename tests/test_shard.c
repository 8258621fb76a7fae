/*
 * The sharded optimizer: the same bits as the replicated one, clipped or not, on one host or
 * several, and parameters that the ranks of a host really share.
 */
#include "tests/ddp_helpers.h"

static void check_sharded(double clip)
{
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 5, clip);
    torc_module *sharded = trained((torc_ddp_options){.shard_optimizer = true}, 5, clip);
    compare_bits(plain, sharded);
    CHECK(torc_replicas_agree(sharded));
    torc_finalize();
}

TEST(sharded_alone)
{
    check_sharded(0);
}

TEST_RANKS(sharded_has_the_same_bits, 3)
{
    check_sharded(0);
}

TEST_RANKS(sharded_and_clipped, 3)
{
    check_sharded(0.05);
}

TEST_RANKS(sharded_on_two_hosts, 4)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_sharded(0);
}

TEST_RANKS(sharded_and_clipped_on_two_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_sharded(0.05);
}

TEST_RANKS(without_shared_memory_it_is_not_sharded, 2)
{
    setenv("TORC_SHM", "private", 1);
    check_sharded(0.05);
}

TEST_RANKS_DIE(sharded_gradients_are_apart, 2, 1, "whole only after torc_clip_grad_norm()")
{
    start();
    torc_module *net = torc_ddp(network(1), .shard_optimizer = true);
    backward(net, 0, 3);
    torc_grad(torc_parameter_at(net, 0, NULL));
}

/* Ranks that share parameters must all see what one of them loads. */
TEST_RANKS(sharded_parameters_are_one, 2)
{
    start();
    torc_module *net = torc_ddp(network(1), .shard_optimizer = true);
    torc_tensor *p = torc_parameter_at(net, 0, NULL);
    float values[IN * HIDDEN];
    if (torc_rank() == 0)
        torc_init_constant(p, 7);
    torc_barrier();
    torc_read(p, TORC_F32, values, IN * HIDDEN);
    CHECK(values[0] == 7 && values[IN * HIDDEN - 1] == 7);
    torc_barrier();
    torc_finalize();
}
