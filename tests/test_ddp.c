/*
 * torc_ddp(): the exact mean over the global batch whatever the shares, equal replicas, unused
 * parameters, accumulation, and networks that differ.
 *
 * The reference of every case is the same network without torc_ddp() on the whole batch, computed
 * by each rank for itself.
 */
#include "core/torc.h"

#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IN = 6, HIDDEN = 5, OUT = 3, BATCH = 11 };

static void start(void)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* buckets of a few parameters */
    torc_init(NULL, NULL);
}

static torc_module *network(int seed)
{
    torc_seed((uint64_t)seed);
    return torc_sequential(torc_linear(IN, HIDDEN), torc_relu_layer(), torc_linear(HIDDEN, HIDDEN),
                           torc_relu_layer(), torc_linear(HIDDEN, OUT));
}

/* Samples first .. end - 1 of a fixed batch. */
static torc_tensor *inputs(int first, int end)
{
    float v[BATCH * IN + 1];
    for (int i = first * IN; i < end * IN; i++)
        v[i - first * IN] = (float)(i * 37 % 23) / 11 - 1;
    torc_tensor *x = torc_zeros(TORC_SHAPE(end - first, IN));
    torc_write(x, TORC_F32, v, (end - first) * IN);
    return x;
}

static torc_tensor *labels(int first, int end)
{
    int64_t v[BATCH + 1];
    for (int i = first; i < end; i++)
        v[i - first] = i * 5 % OUT;
    torc_tensor *y = torc_zeros(TORC_SHAPE(end - first), .dtype = TORC_I64);
    torc_write(y, TORC_I64, v, end - first);
    return y;
}

static void backward(torc_module *net, int first, int end)
{
    torc_backward(torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end)));
}

static void compare_gradients(torc_module *net, torc_module *alone, double factor)
{
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        float a[64], b[64];
        torc_tensor *p = torc_parameter_at(net, i, NULL), *q = torc_parameter_at(alone, i, NULL);
        int64_t n = torc_numel(p);
        torc_read(torc_grad(p), TORC_F32, a, n);
        torc_read(torc_grad(q), TORC_F32, b, n);
        for (int64_t j = 0; j < n; j++)
            CHECK_NEAR(a[j], factor * b[j], 1e-6);
    }
}

/* This rank's share when `total` samples are dealt as evenly as they go. */
static int share(int rank, int total)
{
    return total * rank / torc_world_size();
}

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

TEST_RANKS(a_flipped_bit_shows, 3)
{
    start();
    torc_module *net = torc_ddp(network(1));
    CHECK(torc_replicas_agree(net));
    if (torc_rank() == 1)
        ((uint8_t *)torc_data(torc_parameter_named(net, "4.bias")))[5] ^= 1;
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

/* ---- options: each gives the numbers of the plain one ---- */

static torc_module *trained(torc_ddp_options o, int steps, double clip)
{
    torc_module *net = (torc_ddp)(TORC_HERE, network(1), o);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    for (int i = 0; i < steps; i++) {
        backward(net, share(torc_rank(), BATCH), share(torc_rank() + 1, BATCH));
        if (clip > 0)
            torc_clip_grad_norm(net, clip);
        torc_step(opt);
        torc_tape_clear();
    }
    torc_optimizer_free(opt);
    return net;
}

static void compare_bits(torc_module *a, torc_module *b)
{
    for (int64_t i = 0; i < torc_parameter_count(a); i++) {
        float x[64], y[64];
        torc_tensor *p = torc_parameter_at(a, i, NULL), *q = torc_parameter_at(b, i, NULL);
        torc_read(p, TORC_F32, x, torc_numel(p));
        torc_read(q, TORC_F32, y, torc_numel(q));
        CHECK(!memcmp(x, y, (size_t)torc_numel(p) * sizeof *x));
    }
}

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

/* bfloat16 between hosts: replicas stay equal, and near the exact ones. */
TEST_RANKS(compressed_between_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "3", 1);
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 1, 0);
    torc_module *compressed = trained((torc_ddp_options){.compress = TORC_BF16}, 1, 0);
    CHECK(torc_replicas_agree(compressed));
    float a[IN * HIDDEN], b[IN * HIDDEN];
    torc_read(torc_parameter_at(plain, 0, NULL), TORC_F32, a, IN * HIDDEN);
    torc_read(torc_parameter_at(compressed, 0, NULL), TORC_F32, b, IN * HIDDEN);
    for (int i = 0; i < IN * HIDDEN; i++)
        CHECK_NEAR(a[i], b[i], 1e-2);
    torc_finalize();
}

TEST_RANKS_DIE(too_few_virtual_ranks, 3, 1, "at least as many virtual ranks as ranks, 3, found 2")
{
    start();
    torc_ddp(network(1), .virtual_ranks = 2);
}

TEST_DIES(virtual_ranks_need_the_loader, 1, "expected micro-shard 0")
{
    start();
    backward(torc_ddp(network(1), .virtual_ranks = 2), 0, 3);
}

/* ---- virtual ranks: the same bits on any number of ranks, hosts and threads ---- */

enum { SAMPLES = 37, VIRTUAL = 5 };

static torc_dataset *samples(void)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(SAMPLES, 2, 4, 4));
    torc_tensor *y = torc_tensor_new(TORC_SHAPE(SAMPLES), .dtype = TORC_I64);
    torc_init_normal(x, 0, 1);
    int64_t label[SAMPLES];
    for (int i = 0; i < SAMPLES; i++)
        label[i] = i % OUT;
    torc_write(y, TORC_I64, label, SAMPLES);
    torc_dataset *d = torc_arrays(x, y);
    torc_tensor_free(x);
    torc_tensor_free(y);
    return d;
}

/* Dropout and running statistics must belong to the shard too; the last batch of an epoch has one
 * sample for five shards. */
TEST(virtual_ranks_train)
{
    start();
    torc_seed(3);
    torc_module *net = torc_ddp(
        torc_sequential(torc_conv2d(2, 6, 3, .padding = 1), torc_batch_norm2d(6), torc_relu_layer(),
                        torc_flatten_layer(), torc_dropout(0.3), torc_linear(96, OUT)),
        .virtual_ranks = VIRTUAL);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    torc_loader *loader = torc_loader_new(samples(), .batch_size = 9, .shuffle = true);
    for (int epoch = 0; epoch < 3; epoch++)
        for (torc_batch b; torc_loader_next(loader, &b);) {
            torc_backward(torc_cross_entropy(torc_forward(net, b.x), b.y));
            torc_clip_grad_norm(net, 0.5);
            torc_step(opt);
        }
    CHECK_INT(torc_steps(opt), 3 * 5);
    CHECK(torc_replicas_agree(net));
    if (getenv("TORC_TEST_SAVE"))
        torc_save(net, getenv("TORC_TEST_SAVE"));
    torc_finalize();
}

static const char *trained_by(int ranks, const char *environment)
{
    static int number;
    char output[2000], name[32];
    snprintf(name, sizeof name, "weights%d", number++);
    const char *path = strdup(test_path(name));
    int code = test_command(60, output, sizeof output,
                            "%s TORC_TEST_SAVE=%s OMPI_ALLOW_RUN_AS_ROOT=1 "
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n %d "
                            "/proc/%d/exe --here virtual_ranks_train",
                            environment, path, ranks, (int)getpid());
    test_check(code == 0, __FILE__, __LINE__, "%d ranks, %s: %s", ranks, environment, output);
    return path;
}

TEST(virtual_ranks_give_the_same_bits)
{
    static const struct {
        int ranks;
        const char *environment;
    } worlds[] = {{1, "OMP_NUM_THREADS=2"},
                  {2, "OMP_NUM_THREADS=1"},
                  {3, "TORC_FAKE_HOSTS=2"},
                  {4, "TORC_SHM=private"},
                  {5, "OMP_NUM_THREADS=1"}};
    char output[500];
    const char *alone = trained_by(1, "OMP_NUM_THREADS=1");
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        const char *path = trained_by(worlds[i].ranks, worlds[i].environment);
        CHECK_INT(test_command(10, output, sizeof output, "cmp %s %s", alone, path), 0);
    }
}

/* ---- verify_every ---- */

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

/* ---- TORC_TUNE ---- */

TEST_RANKS(tuning_changes_no_numbers, 4)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 3, 0);
    setenv("TORC_TUNE", "1", 1);
    torc_module *tuned = trained((torc_ddp_options){0}, 3, 0);
    CHECK(torc_replicas_agree(tuned));
    float a[IN * HIDDEN], b[IN * HIDDEN];
    torc_read(torc_parameter_at(plain, 0, NULL), TORC_F32, a, IN * HIDDEN);
    torc_read(torc_parameter_at(tuned, 0, NULL), TORC_F32, b, IN * HIDDEN);
    for (int i = 0; i < IN * HIDDEN; i++)
        CHECK_NEAR(a[i], b[i], 1e-5);
    torc_finalize();
}

/* ---- ranks that go other ways ---- */

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

/* ---- the courier ---- */

TEST_RANKS(a_courier_changes_no_bits, 3)
{
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 6, 0.1);
    setenv("TORC_COURIER", "1", 1);
    torc_module *carried = trained((torc_ddp_options){0}, 6, 0.1);
    torc_module *sharded = trained((torc_ddp_options){.shard_optimizer = true}, 6, 0.1);
    compare_bits(plain, carried);
    compare_bits(plain, sharded);
    CHECK(torc_replicas_agree(carried));
    CHECK_NEAR(torc_ddp_statistics(carried).overlapped_seconds, 0, 0); /* it was not this thread */
    torc_finalize();
}
