/*
 * The reducer and the memory of gradients: after a lean step they have none, unless something still
 * needs them; values are the same with it and without.
 */
#include "core/torc.h"

#include "core/tensor.h"
#include "tests/harness.h"
#include "tests/resident.h"
#include "tests/values.h"

enum { WIDE = 96, BYTES = WIDE * WIDE * sizeof(float) };

static torc_tensor *input(void)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(4, WIDE));
    torc_seed(5 + (uint64_t)torc_rank());
    torc_init_uniform(x, -1, 1);
    return x;
}

static void backward(torc_module *net, torc_tensor *x, bool lean)
{
    torc_tensor *loss = NULL;
    torc_lean(lean)
    {
        torc_tensor *y = torc_forward(net, x);
        loss = torc_mean(torc_mul(y, y));
    }
    torc_backward(loss);
}

static void check_same_weights(torc_module *a, torc_module *b)
{
    for (int64_t i = 0; i < torc_parameter_count(a); i++)
        CHECK(same_bits(torc_parameter_at(a, i, NULL), torc_parameter_at(b, i, NULL)));
}

/* ---- where it is, after a step ---- */

static void check_left(bool lean)
{
    torc_module *net = torc_ddp(torc_linear(WIDE, WIDE));
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    torc_tensor *x = input(), *weight = torc_parameter_at(net, 0, NULL);
    for (int i = 0; i < 3; i++) {
        backward(net, x, lean);
        void *gradient = torc_data(torc_grad(weight));
        size_t there = resident_bytes(gradient, BYTES);
        CHECK(there > BYTES / 2);
        torc_step(opt);
        CHECK_INT(resident_bytes(gradient, BYTES), lean ? 0 : there);
    }
    torc_tensor *g = torc_grad(weight); /* and whoever asks is told that it is 0 */
    CHECK_NEAR(torc_item(torc_sum(torc_mul(g, g))), 0, 0);
}

static void check_both(const char *memory)
{
    setenv("TORC_SHM", memory, 1);
    torc_init(NULL, NULL);
    check_left(false);
    check_left(true);
    torc_finalize();
}

TEST(a_lean_step_leaves_none_alone)
{
    check_both("");
}

TEST_RANKS(a_lean_step_leaves_none_on_ranks, 2)
{
    check_both("memfd");
}

TEST_RANKS(a_lean_step_leaves_none_without_shared_memory, 2)
{
    check_both("private");
}

/* Pages that were reserved so that they are there for certain are not put at risk. */
TEST_RANKS(a_reserved_file_keeps_its_pages, 2)
{
    setenv("TORC_SHM", "file", 1);
    torc_init(NULL, NULL);
    torc_module *net = torc_ddp(torc_linear(WIDE, WIDE));
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    backward(net, input(), true);
    void *gradient = torc_data(torc_grad(torc_parameter_at(net, 0, NULL)));
    size_t there = resident_bytes(gradient, BYTES);
    torc_step(opt);
    CHECK_INT(resident_bytes(gradient, BYTES), there);
    torc_finalize();
}

/* Where it was updated in backward, a bucket's goes before the next one's comes. */
static torc_module *updated_early(bool lean)
{
    const call c = {TORC_HERE, "test"};
    torc_seed(1);
    torc_module *net = torc_ddp(torc_sequential(torc_linear(WIDE, WIDE), torc_linear(WIDE, WIDE)));
    torc_optimizer *opt = torc_adamw(net, .lr = 0.1f, .in_backward = true);
    torc_tensor *x = input(), *weight = torc_parameter_at(net, 0, NULL);
    for (int i = 0; i < 3; i++) {
        backward(net, x, lean);
        const tensor *gradient = tensor_of(&c, weight)->grad;
        CHECK_INT(resident_bytes(tensor_data(gradient), BYTES) == 0, lean || i == 0);
        torc_step(opt);
    }
    return net;
}

static void check_updated_early(void)
{
    torc_init(NULL, NULL);
    check_same_weights(updated_early(false), updated_early(true));
    torc_finalize();
}

TEST(used_up_in_backward_alone)
{
    check_updated_early();
}

TEST_RANKS(used_up_in_backward_on_ranks, 2)
{
    check_updated_early();
}

/* ---- who still needs it ---- */

/* The first optimizer's step may not take what the second one's is made of. */
static torc_module *with_two_optimizers(bool lean)
{
    torc_seed(1);
    torc_module *half[2] = {torc_linear(WIDE, WIDE), torc_linear(WIDE, WIDE)};
    torc_module *net = torc_ddp(torc_sequential(half[0], half[1]));
    torc_optimizer *opt[2] = {torc_adamw(half[0], .lr = 0.1f), torc_adamw(half[1], .lr = 0.1f)};
    torc_tensor *x = input();
    for (int i = 0; i < 4; i++) {
        backward(net, x, lean);
        torc_step(opt[i % 2]);
        torc_step(opt[1 - i % 2]);
    }
    return net;
}

TEST_RANKS(two_optimizers_on_one_network, 2)
{
    torc_init(NULL, NULL);
    check_same_weights(with_two_optimizers(false), with_two_optimizers(true));
    torc_finalize();
}

TEST(gradients_from_before_stay)
{
    torc_init(NULL, NULL);
    torc_module *net = torc_linear(WIDE, WIDE);
    backward(net, input(), true);
    torc_tensor *weight = torc_parameter_at(net, 0, NULL);
    float before[WIDE * WIDE], after[WIDE * WIDE];
    torc_read(torc_grad(weight), TORC_F32, before, WIDE * WIDE);
    net = torc_ddp(net);
    torc_read(torc_grad(weight), TORC_F32, after, WIDE * WIDE);
    CHECK(!memcmp(before, after, sizeof before));
    torc_finalize();
}

/* Nothing to sum, and no first bucket either. */
TEST(a_frozen_network)
{
    torc_init(NULL, NULL);
    torc_module *net = torc_linear(WIDE, WIDE);
    for (int64_t i = 0; i < torc_parameter_count(net); i++)
        torc_set_requires_grad(torc_parameter_at(net, i, NULL), false);
    net = torc_ddp(net);
    CHECK_INT(torc_ddp_statistics(net).buckets, 0);
    CHECK_INT(torc_size(torc_forward(net, input()), 1), WIDE);
    torc_finalize();
}
