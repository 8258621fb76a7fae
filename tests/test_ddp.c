/*
 * torc_ddp(): the exact mean over the global batch whatever the shares, equal replicas, unused
 * parameters, accumulation, and networks that differ.
 *
 * The reference of every case is the same network without torc_ddp() on the whole batch, computed
 * by each rank for itself.
 */
#include "tests/ddp_helpers.h"

static void check_mean(int steps)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int first = share(torc_rank(), BATCH), end = share(torc_rank() + 1, BATCH);
    for (int i = 0; i < steps; i++) { /* the second step runs on rebuilt buckets */
        torc_zero_grad(net);
        torc_zero_grad(alone);
        backward(net, first, end);
        backward(alone, 0, BATCH);
        compare_gradients(net, alone, 1);
        torc_tape_clear();
    }
    CHECK_INT(torc_ddp_statistics(net).steps, steps);
    CHECK(torc_ddp_statistics(net).buckets > 1);
    torc_finalize();
}

TEST(mean_of_one_rank)
{
    check_mean(3);
}

TEST_RANKS(mean_of_uneven_shares, 3)
{
    check_mean(3);
}

TEST_RANKS(mean_of_four, 4)
{
    check_mean(2);
}

TEST_RANKS(a_share_may_be_empty, 3)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int mine = torc_rank() < 2; /* two samples for three ranks */
    backward(net, torc_rank() * mine, torc_rank() * mine + mine);
    backward(alone, 0, 2);
    compare_gradients(net, alone, 1);
    torc_finalize();
}

TEST_RANKS(accumulation_sends_once, 2)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int half = BATCH - 1, r = torc_rank(); /* ten samples: four micro-batches of 2, 3, 3 and 2 */
    const int cut[] = {0, 2, 5, 8, half};
    TORC_NO_SYNC(net)
    {
        backward(net, cut[2 * r], cut[2 * r + 1]);
    }
    CHECK_INT(torc_ddp_statistics(net).steps, 0);
    backward(net, cut[2 * r + 1], cut[2 * r + 2]);
    CHECK_INT(torc_ddp_statistics(net).steps, 1);
    backward(alone, 0, half);
    compare_gradients(net, alone, 2); /* two calls: twice the mean over all samples */
    torc_finalize();
}

TEST_RANKS(synchronised_means_add_up, 2)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int first = share(torc_rank(), BATCH), end = share(torc_rank() + 1, BATCH);
    backward(net, first, end);
    backward(net, first, end);
    backward(alone, 0, BATCH);
    compare_gradients(net, alone, 2);
    torc_finalize();
}

/* ---- parameters that take no part ---- */

typedef struct choice {
    torc_module *left, *right;
} choice;

static torc_tensor *choose(torc_module *self, torc_tensor *x)
{
    choice *s = torc_module_state(self);
    return torc_forward(torc_rank() % 2 ? s->left : s->right, x);
}

TEST_RANKS(unused_parameters_need_no_flag, 2)
{
    start();
    torc_module *net = torc_module_new("Choice", choose, sizeof(choice));
    choice *s = torc_module_state(net);
    s->left = torc_child(net, "left", torc_linear(IN, OUT));
    s->right = torc_child(net, "right", torc_linear(IN, OUT));
    net = torc_ddp(net);
    for (int i = 0; i < 3; i++) {
        torc_zero_grad(net);
        backward(net, 0, 4);
        torc_tape_clear();
    }
    for (int i = 0; i < 4; i++) { /* each branch got the mean of one rank's gradient and nothing */
        double norm = torc_item(torc_sum(torc_abs(torc_grad(torc_parameter_at(net, i, NULL)))));
        CHECK(norm > 0);
        CHECK_NEAR(torc_max_over_ranks(norm), norm, 0);
    }
    torc_finalize();
}

/* ---- replicas ---- */

TEST_RANKS(replicas_stay_equal_to_the_bit, 4)
{
    start();
    torc_module *net = torc_ddp(network(torc_rank())); /* rank 0's weights go to all */
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    for (int i = 0; i < 20; i++) {
        backward(net, share(torc_rank(), BATCH), share(torc_rank() + 1, BATCH));
        torc_step(opt);
        torc_tape_clear();
    }
    CHECK(torc_replicas_agree(net));
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        torc_tensor *p = torc_parameter_at(net, i, NULL);
        float v[64];
        torc_read(p, TORC_F32, v, torc_numel(p));
        for (int64_t j = 0; j < torc_numel(p); j++) {
            CHECK_NEAR(torc_max_over_ranks(v[j]), v[j], 0);
            CHECK_NEAR(-torc_max_over_ranks(-v[j]), v[j], 0);
        }
    }
    torc_finalize();
}

TEST_RANKS(running_statistics_are_those_of_all_ranks, 3)
{
    start();
    torc_module *norm = torc_batch_norm2d(2);
    torc_module *net = torc_ddp(torc_sequential(torc_conv2d(1, 2, 1), norm));
    torc_tensor *x = torc_add_scalar(torc_rand(TORC_SHAPE(4, 1, 3, 3)), torc_rank());
    torc_backward(torc_mean(torc_forward(net, x)));
    CHECK(torc_replicas_agree(net));
    torc_finalize();
}

static void flip_a_bit(torc_tensor *t)
{
    float values[64];
    CHECK(torc_numel(t) <= 64);
    torc_read(t, TORC_F32, values, torc_numel(t));
    ((uint8_t *)values)[5] ^= 1;
    torc_write(t, TORC_F32, values, torc_numel(t));
}

TEST_RANKS(a_flipped_bit_shows, 3)
{
    start();
    torc_module *net = torc_ddp(network(1));
    CHECK(torc_replicas_agree(net));
    if (torc_rank() == 1)
        flip_a_bit(torc_parameter_named(net, "4.bias"));
    CHECK(!torc_replicas_agree(net));
    torc_finalize();
}

TEST_RANKS(the_mean_loss_over_ranks, 3)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int first = share(torc_rank(), BATCH), end = share(torc_rank() + 1, BATCH);
    torc_tensor *part =
        torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end));
    torc_tensor *whole =
        torc_cross_entropy(torc_forward(alone, inputs(0, BATCH)), labels(0, BATCH));
    CHECK_NEAR(torc_mean_over_ranks(part), torc_item(whole), 1e-6);
    torc_finalize();
}

/* ---- refused ---- */

TEST_RANKS_DIE(networks_that_differ, 3, 1,
               "item 0: rank 0 has \"weight float32 [4, 4]\", rank 2 has \"weight float32 [5, 4]\"")
{
    start();
    torc_ddp(torc_linear(4, torc_rank() == 2 ? 5 : 4));
}

TEST_RANKS_DIE(a_wrong_shape_on_every_rank, 2, 1, "inner dimensions differ: [2, 3] x [4, 5]")
{
    start();
    torc_matmul(torc_ones(TORC_SHAPE(2, 3)), torc_ones(TORC_SHAPE(4, 5)));
}

TEST_DIES(hosts_send_bf16_but_no_f16, 1, "expected .compress = TORC_BF16, found float16")
{
    start();
    torc_ddp(network(1), .compress = TORC_F16);
}

TEST_DIES(outside_a_job, 1, "between torc_init() and torc_finalize()")
{
    torc_ddp(torc_linear(2, 2));
}

TEST_RANKS_DIE(a_rank_that_never_comes, 2, 124, "gradient bucket 0")
{
    setenv("TORC_TIMEOUT", "1", 1);
    start();
    torc_module *net = torc_ddp(network(1));
    if (torc_rank() == 0)
        backward(net, 0, 3);
    for (double end = torc_seconds() + 10; torc_seconds() < end;)
        ; /* rank 1 computes for ever */
}

/* ---- options ---- */

/* From the second call on the norm comes with the sum over ranks; it must be that of the gradients
 * as they are, also after somebody has changed one. */
TEST_RANKS(the_norm_comes_with_the_sum, 3)
{
    start();
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    for (int i = 0; i < 3; i++) {
        torc_zero_grad(net);
        torc_zero_grad(alone);
        backward(net, share(torc_rank(), BATCH), share(torc_rank() + 1, BATCH));
        backward(alone, 0, BATCH);
        double norm = torc_clip_grad_norm(alone, 0.1);
        CHECK(norm > 0.1);
        CHECK_NEAR(torc_clip_grad_norm(net, 0.1), norm, 1e-6);
        CHECK_NEAR(torc_clip_grad_norm(net, 9), 0.1, 1e-5); /* scaled by now */
        torc_tape_clear();
    }
    torc_zero_grad(net);
    backward(net, 0, 3);
    torc_init_constant(torc_grad(torc_parameter_at(net, 0, NULL)), NAN);
    CHECK(isnan(torc_clip_grad_norm(net, 1)));
    torc_finalize();
}

/* bfloat16 between hosts: replicas stay equal, and near the exact ones. */
TEST_RANKS(compressed_between_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "3", 1);
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 1, 0);
    torc_module *compressed = trained((torc_ddp_options){.compress = TORC_BF16}, 1, 0);
    CHECK(torc_replicas_agree(compressed));
    compare_near(plain, compressed, 1e-2);
    torc_finalize();
}

/* On a CPU they are not there (tests/test_cuda_graph.c). */
TEST_RANKS(graphs_change_no_bit, 2)
{
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 5, 0.1);
    torc_module *in_graphs = trained((torc_ddp_options){.graph = true}, 5, 0.1);
    CHECK(torc_replicas_agree(in_graphs));
    compare_bits(plain, in_graphs);
    torc_finalize();
}
