/*
 * torc_recompute_layer(): the same bits as without, whatever the layers are; nothing allocated
 * after the first step; replicas of a job.
 *
 * The reference of most cases is the same network without recomputing.
 */
#include "core/torc.h"

#include "tests/harness.h"
#include "tests/values.h"

#include <malloc.h>

/* ---- networks with and without ---- */

typedef torc_module *(*builder)(bool recompute);

static torc_module *maybe(torc_module *net, bool recompute)
{
    return recompute ? torc_recompute_layer(net) : net;
}

enum { WIDTH = 8, ROWS = 6, BLOCKS = 3 };

static torc_module *dropout_net(bool recompute)
{
    torc_module *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        block[i] = maybe(torc_sequential(torc_linear(WIDTH, WIDTH), torc_gelu_layer(),
                                         torc_dropout(0.3), torc_linear(WIDTH, WIDTH)),
                         recompute);
    return torc_sequential(block[0], block[1], block[2]);
}

static torc_module *transformer_net(bool recompute)
{
    torc_module *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        block[i] = maybe(torc_transformer_block(WIDTH, 2, .dropout = 0.1f), recompute);
    return torc_sequential(block[0], block[1], block[2]);
}

static torc_module *conv_net(bool recompute)
{
    torc_module *first = torc_sequential(torc_conv2d(2, 4, 3, .padding = 1), torc_batch_norm2d(4),
                                         torc_relu_layer(), torc_max_pool2d(2));
    torc_module *second = torc_sequential(torc_conv2d(4, 4, 3), torc_relu_layer());
    return torc_sequential(maybe(first, recompute), maybe(second, recompute));
}

/* Blocks that are recomputed, in a block that is. */
static torc_module *nested_net(bool recompute)
{
    torc_module *half[2] = {dropout_net(recompute), transformer_net(recompute)};
    return maybe(torc_sequential(half[0], half[1]), recompute);
}

static void compare_parameters(torc_module *a, torc_module *b)
{
    for (int64_t i = 0; i < torc_parameter_count(a); i++) {
        const char *name;
        torc_tensor *p = torc_parameter_at(a, i, &name), *q = torc_parameter_at(b, i, NULL);
        test_check(same_bits(p, q), __FILE__, __LINE__, "%s differs", name);
        test_check(same_bits(torc_grad(p), torc_grad(q)), __FILE__, __LINE__,
                   "the gradient of %s differs", name);
    }
}

/* Forward, backward, update; returns the loss, kept. The next random number after it is a part of
 * the loss. */
static torc_tensor *train(torc_module *net, torc_optimizer *opt, torc_tensor *x, int step)
{
    torc_tape_clear();
    torc_seed((uint64_t)step + 7);
    torc_zero_grad_of(x);
    torc_zero_grad(net);
    if (step > 0)
        torc_step(opt);
    torc_zero_grad(net);
    torc_tensor *y = torc_forward(net, x);
    torc_tensor *loss = torc_mean(torc_mul(y, y));
    torc_backward(loss);
    return torc_keep(torc_add(torc_detach(loss), torc_rand(TORC_SCALAR)));
}

static void check_same(builder build, torc_shape shape)
{
    torc_module *net[2];
    torc_optimizer *opt[2];
    torc_tensor *x[2];
    for (int i = 0; i < 2; i++) {
        torc_seed(3);
        net[i] = build(i == 1);
        opt[i] = torc_sgd(net[i], .lr = 0.1f);
        x[i] = values_of(shape);
    }
    for (int step = 0; step < 3; step++) {
        torc_tensor *loss[2];
        for (int i = 0; i < 2; i++)
            loss[i] = train(net[i], opt[i], x[i], step);
        CHECK(same_bits(loss[0], loss[1]));
        CHECK(same_bits(torc_grad(x[0]), torc_grad(x[1])));
        compare_parameters(net[0], net[1]);
    }
}

TEST(dropout_draws_the_same_again)
{
    check_same(dropout_net, TORC_SHAPE(ROWS, WIDTH));
}

TEST(transformer_blocks)
{
    check_same(transformer_net, TORC_SHAPE(2, ROWS, WIDTH));
}

TEST(convolution)
{
    check_same(conv_net, TORC_SHAPE(3, 2, 8, 8));
}

TEST(nested_blocks)
{
    check_same(nested_net, TORC_SHAPE(2, ROWS, WIDTH));
}

/* What it hands on wants no gradient, and is let go as soon as the next layer has read it. */
static torc_module *frozen_first(bool recompute)
{
    torc_module *first = torc_linear(WIDTH, WIDTH);
    for (int64_t i = 0; i < torc_parameter_count(first); i++)
        torc_set_requires_grad(torc_parameter_at(first, i, NULL), false);
    return torc_sequential(first, dropout_net(recompute), torc_linear(WIDTH, WIDTH));
}

TEST(behind_a_frozen_layer)
{
    torc_module *net[2];
    for (int i = 0; i < 2; i++) {
        torc_seed(3);
        net[i] = frozen_first(i == 1);
        torc_tensor *x = torc_detach(values_of(TORC_SHAPE(ROWS, WIDTH)));
        torc_seed(4);
        torc_backward(torc_mean(torc_forward(net[i], x)));
    }
    for (int64_t i = 2; i < torc_parameter_count(net[0]); i++)
        CHECK(same_bits(torc_grad(torc_parameter_at(net[0], i, NULL)),
                        torc_grad(torc_parameter_at(net[1], i, NULL))));
}

TEST(an_empty_batch)
{
    check_same(transformer_net, TORC_SHAPE(0, ROWS, WIDTH));
}

TEST(running_statistics_move_once)
{
    static const char *const names[] = {"0.1.running_mean", "0.1.running_var",
                                        "0.1.num_batches_tracked"};
    torc_tensor *x = values_of(TORC_SHAPE(3, 2, 8, 8));
    torc_module *net[2];
    for (int i = 0; i < 2; i++) {
        torc_seed(3);
        net[i] = conv_net(i == 1);
        torc_backward(torc_mean(torc_forward(net[i], x)));
    }
    for (int i = 0; i < 3; i++)
        CHECK(same_bits(torc_parameter_named(net[0], names[i]),
                        torc_parameter_named(net[1], names[i])));
    CHECK_NEAR(torc_item(torc_parameter_named(net[1], names[2])), 1, 0);
}

TEST(without_recording_it_is_a_layer_like_any_other)
{
    torc_module *net = transformer_net(true);
    TORC_NO_GRAD CHECK(!torc_requires_grad(torc_forward(net, values_of(TORC_SHAPE(1, 2, WIDTH)))));
}

TEST(names_stay_as_they_are)
{
    torc_module *net[2] = {transformer_net(false), transformer_net(true)};
    for (int64_t i = 0; i < torc_parameter_count(net[0]); i++) {
        const char *a, *b;
        torc_parameter_at(net[0], i, &a);
        torc_parameter_at(net[1], i, &b);
        CHECK_TEXT(b, a);
    }
}

/* Bytes of the C library's heap in use. */
static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

TEST(equal_steps_allocate_nothing)
{
    torc_module *net = nested_net(true);
    torc_tensor *x = values_of(TORC_SHAPE(2, ROWS, WIDTH));
    int64_t before = 0;
    size_t heap = 0;
    for (int step = 0; step < 20; step++) {
        torc_backward(torc_mean(torc_forward(net, x)));
        torc_tape_clear();
        if (step == 1) {
            before = torc_memory().allocations;
            heap = heap_in_use();
        }
    }
    CHECK_INT(torc_memory().allocations, before);
    CHECK_INT(heap_in_use(), heap);
}

/* ---- data parallelism ---- */

static void check_ddp(builder build, torc_shape shape, int steps)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* buckets of a few parameters */
    torc_init(NULL, NULL);
    torc_module *net[2];
    torc_optimizer *opt[2];
    torc_tensor *x[2];
    for (int i = 0; i < 2; i++) {
        torc_seed(3);
        net[i] = torc_ddp(build(i == 1));
        opt[i] = torc_sgd(net[i], .lr = 0.1f);
        x[i] = values_from(shape, (float)torc_rank() / 3 - 1); /* each rank has its own samples */
    }
    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < 2; i++)
            train(net[i], opt[i], x[i], step);
        compare_parameters(net[0], net[1]);
    }
    CHECK(torc_replicas_agree(net[1]));
    CHECK_INT(torc_ddp_statistics(net[1]).steps, steps);
    CHECK(torc_ddp_statistics(net[1]).buckets > 3);
    torc_finalize();
}

TEST_RANKS(replicas_of_transformer_blocks, 2)
{
    check_ddp(transformer_net, TORC_SHAPE(2, ROWS, WIDTH), 3);
}

TEST_RANKS(replicas_of_nested_blocks, 2)
{
    check_ddp(nested_net, TORC_SHAPE(2, ROWS, WIDTH), 3);
}

static torc_module *sync_net(bool recompute)
{
    return torc_convert_sync_batch_norm(conv_net(recompute));
}

/* Both runs forward, and the backward, wait for the other rank: so must a rank whose share is
 * empty. */
TEST_RANKS(synchronised_statistics, 2)
{
    torc_init(NULL, NULL);
    torc_module *net[2];
    for (int i = 0; i < 2; i++) {
        torc_seed(3);
        net[i] = torc_ddp(sync_net(i == 1));
        torc_tensor *x = values_of(TORC_SHAPE(torc_rank() ? 0 : 3, 2, 8, 8));
        torc_tensor *y = torc_flatten(torc_forward(net[i], x), 1);
        torc_tensor *target = torc_zeros(TORC_SHAPE(torc_size(y, 0)), .dtype = TORC_I64);
        torc_backward(torc_cross_entropy(y, target));
    }
    compare_parameters(net[0], net[1]);
    torc_finalize();
}

TEST_DIES(a_layer_is_needed, 1, "torc_recompute_layer: expected a module, found NULL")
{
    torc_recompute_layer(NULL);
}
