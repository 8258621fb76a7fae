/*
 * Steps with a loss scale: a power of two is not seen in any bit, and a skipped step is none, on
 * one rank or several; nor does it show where a run was stopped and went on.
 */
#include "tests/checkpoint_helpers.h"
#include "tests/loss_scale_helpers.h"

#include "core/loss_scale.h"

/* ---- one rank ---- */

TEST(a_power_of_two_is_not_seen)
{
    for (int by = 0; by < LEARNERS; by++)
        for (int clips = 0; clips < 2; clips++)
            check_lesson((scaled_lesson){.learner = by, .steps = 8, .clips = clips ? 0.05f : 0});
}

/* Also the first one, which SGD's momentum takes otherwise, and several in a row. */
TEST(a_skipped_step_is_none)
{
    const unsigned bad = SOME(0) | SOME(3) | SOME(4) | SOME(7);
    for (int by = 0; by < LEARNERS; by++)
        check_lesson((scaled_lesson){.learner = by, .steps = 10, .bad = bad});
    check_lesson((scaled_lesson){.learner = BY_ADAMW, .steps = 10, .bad = bad, .clips = 0.05f});
}

TEST(one_bad_part_spoils_the_step)
{
    check_lesson((scaled_lesson){.learner = BY_ADAM, .steps = 6, .bad = SOME(2), .parts = 3});
}

/* w2's first step is a skipped one: the next is its first still, while it is w1's second. */
TEST(each_parameter_counts_its_own_steps)
{
    torc_module *net[2] = {network(1), network(1)};
    for (int k = 0; k < 2; k++) {
        torc_set_loss_scale(.off = k == 1);
        torc_optimizer *opt = torc_adam(net[k], .lr = 0.1f);
        torc_tensor *w1 = torc_parameter_at(net[k], 0, NULL);
        torc_tensor *w2 = torc_parameter_at(net[k], 1, NULL);
        torc_backward(torc_sum(w1));
        torc_step(opt);
        if (k == 0) {
            torc_backward(torc_mul_scalar(torc_add(torc_sum(w1), torc_sum(w2)), NAN));
            torc_step(opt);
        }
        for (int i = 0; i < 3; i++) {
            torc_backward(torc_mul_scalar(torc_add(torc_sum(w1), torc_sum(w2)), 1 + i));
            torc_step(opt);
        }
    }
    compare_bits(net[0], net[1]);
}

/* Who steps second does not look at the step of who stepped first, which a GPU has not begun. */
TEST(optimizers_learn_together)
{
    torc_set_loss_scale();
    torc_module *net = network(1), *other = network(2);
    torc_optimizer *first = torc_adam(net, .lr = 0.1f), *second = torc_adam(other, .lr = 0.1f);
    for (int step = 0; step < 3; step++) {
        scaled_backward(net, step, step == 1);
        scaled_backward(other, step, false);
        torc_step(first);
        CHECK(first->learns && !second->learns);
        torc_step(second);
        CHECK(first->learns && second->learns);
    }
    CHECK_INT(second->steps[0], 3); /* its own gradients were finite */
    torc_optimizer_free(second);
    CHECK(!first->learns);
    CHECK_INT(first->steps[0], 2);
}

/* What .clip_norm did before it multiplied gradients in registers: scale them, then step. */
TEST(clipping_in_registers_has_the_bits_of_the_call)
{
    for (int by = 0; by < LEARNERS; by++) {
        scaled_lesson l = {.learner = by, .steps = 6, .clips = 0.05f};
        torc_module *one = taught(&l), *other = network(1);
        l.clips = 0;
        torc_optimizer *opt = optimizer_of(&l, other);
        for (int step = 0; step < l.steps; step++) {
            scaled_backward(other, step, false);
            CHECK(torc_clip_grad_norm(other, 0.05f) > 0.05);
            torc_step(opt);
            torc_tape_clear();
        }
        compare_bits(one, other);
    }
}

/* ---- ranks ---- */

static void check_ranks(torc_ddp_options how)
{
    const unsigned bad = SOME(0) | SOME(3) | SOME(4);
    start();
    check_lesson(
        (scaled_lesson){.learner = BY_ADAMW, .steps = 8, .bad = bad, .ddp = true, .how = how});
    check_lesson((scaled_lesson){
        .learner = BY_MOMENTUM, .steps = 8, .bad = bad, .ddp = true, .how = how, .clips = 0.05f});
    torc_finalize();
}

TEST_RANKS(one_rank_makes_two_skip, 2)
{
    check_ranks((torc_ddp_options){0});
}

TEST_RANKS(one_rank_makes_three_skip, 3)
{
    check_ranks((torc_ddp_options){0});
}

TEST_RANKS(on_two_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_ranks((torc_ddp_options){0});
}

TEST_RANKS(with_gradients_in_bf16, 2)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_ranks((torc_ddp_options){.compress = TORC_BF16});
}

TEST_RANKS(sharded_on_three_ranks, 3)
{
    check_ranks((torc_ddp_options){.shard_optimizer = true});
}

TEST_RANKS(sharded_on_two_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_ranks((torc_ddp_options){.shard_optimizer = true});
}

/* The scale is the same everywhere, and moves although only one rank saw an infinity. */
TEST_RANKS(one_scale_for_all, 3)
{
    start();
    torc_set_loss_scale(.initial = 256, .interval = 2);
    const scaled_lesson l = {.learner = BY_ADAM, .steps = 7, .bad = SOME(1) | SOME(2)};
    torc_module *net = torc_ddp(network(1));
    torc_optimizer *opt = optimizer_of(&l, net);
    static const double scales[] = {256, 128, 64, 64, 128, 128, 256};
    for (int step = 0; step < l.steps; step++) {
        scaled_step(net, opt, &l, step);
        CHECK_NEAR(torc_loss_scale(), scales[step], 0);
    }
    torc_finalize();
}

TEST_RANKS(accumulated_on_two_ranks, 2)
{
    start();
    torc_module *net[2];
    for (int k = 0; k < 2; k++) {
        torc_set_loss_scale(.off = k == 1);
        net[k] = torc_ddp(network(1));
        torc_optimizer *opt = torc_adamw(net[k], .lr = 0.01f);
        for (int step = 0; step < 5; step++) {
            if (step == 2 && k == 1)
                continue;
            TORC_NO_SYNC(net[k])
            scaled_backward(net[k], step, step == 2);
            scaled_backward(net[k], step + 1, false);
            torc_step(opt);
            torc_tape_clear();
        }
    }
    compare_bits(net[0], net[1]);
    torc_finalize();
}

TEST_RANKS_DIE(ranks_that_set_different_scales, 2, 1,
               "rank 0 has \"loss scale from 65536, times 2 after 2000 steps, 0.5 after a skipped "
               "one\", rank 1 has \"loss scale of 128\"")
{
    start();
    if (torc_rank() == 0)
        torc_set_loss_scale();
    else
        torc_set_loss_scale(.fixed = 128);
    torc_ddp(network(1));
}

TEST_RANKS_DIE(a_rank_that_set_none, 2, 1,
               "rank 0 has \"loss scale as usual\", rank 1 has \"no loss scale\"")
{
    start();
    if (torc_rank() == 1)
        torc_set_loss_scale(.off = true);
    torc_ddp(network(1));
}

/* ---- checkpoints, and virtual ranks ---- */

/* Batches by their place in the order, so that a run that goes on meets the same bad ones. */
static void run_scaled(run *r, int64_t step)
{
    for (torc_batch b; torc_steps(r->opt) < step && torc_loader_next(r->loader, &b);) {
        bool bad = torc_steps(r->opt) % 5 == 3 && torc_rank() == 0;
        torc_tensor *loss = torc_cross_entropy(torc_forward(r->net, b.x), b.y);
        torc_backward(torc_mul_scalar(loss, bad ? INFINITY : 1));
        torc_step(r->opt);
    }
    torc_tape_clear();
}

/* Stopped right after a skipped step, or some good ones later. */
static void check_resumed(int64_t stop, bool ddp, torc_ddp_options how)
{
    const char *dir = test_path("ckpt");
    torc_set_loss_scale(.initial = 512, .growth = 8, .backoff = 0.25f, .interval = 2);
    run whole = run_new(1, ADAMW, ddp, how);
    run_scaled(&whole, 14);
    double scale = torc_loss_scale();
    torc_set_loss_scale(.initial = 512, .growth = 8, .backoff = 0.25f, .interval = 2);
    run first = run_new(1, ADAMW, ddp, how);
    run_scaled(&first, stop);
    torc_checkpoint_save(first.net, dir, RUN_OPTIONS(first), .wait = true);
    double then = torc_loss_scale();
    torc_set_loss_scale(.initial = 4, .growth = 8, .backoff = 0.25f, .interval = 2);
    run second = run_new(2, ADAMW, ddp, how);
    run_scaled(&second, 2); /* a life of its own */
    CHECK_INT(torc_checkpoint_load(second.net, dir, RUN_OPTIONS(second)), stop);
    CHECK_NEAR(torc_loss_scale(), then, 0);
    run_scaled(&second, 14);
    CHECK_NEAR(torc_loss_scale(), scale, 0);
    CHECK(scale != 512 && then != 512);
    CHECK(same_run(&whole, &second));
}

TEST(a_checkpoint_after_a_skipped_step)
{
    torc_init(NULL, NULL);
    check_resumed(4, false, (torc_ddp_options){0});
    torc_finalize();
}

TEST(a_checkpoint_between_two)
{
    torc_init(NULL, NULL);
    check_resumed(6, false, (torc_ddp_options){0});
    torc_finalize();
}

TEST_RANKS(a_checkpoint_of_two_ranks, 2)
{
    torc_init(NULL, NULL);
    check_resumed(4, true, (torc_ddp_options){0});
    torc_finalize();
}

TEST_RANKS(a_checkpoint_of_sharded_ranks, 2)
{
    torc_init(NULL, NULL);
    check_resumed(4, true, (torc_ddp_options){.shard_optimizer = true});
    torc_finalize();
}

TEST_RANKS(a_checkpoint_of_virtual_ranks, 2)
{
    torc_init(NULL, NULL);
    check_resumed(4, true, (torc_ddp_options){.virtual_ranks = 5});
    torc_finalize();
}

/* The backward before it is lost, and comes again at the scale that it had. */
static void check_saved_before_a_step(torc_ddp_options how)
{
    const scaled_lesson l = {.learner = BY_ADAMW, .bad = SOME(1) | SOME(3), .clips = 0.1f};
    start();
    torc_set_loss_scale(.initial = 512, .interval = 2);
    torc_module *whole = (torc_ddp)(TORC_HERE, network(1), how);
    torc_module *second = (torc_ddp)(TORC_HERE, network(2), how);
    torc_optimizer *opt = optimizer_of(&l, whole), *other = optimizer_of(&l, second);
    for (int step = 0; step < 4; step++)
        scaled_step(whole, opt, &l, step);
    scaled_backward(whole, 4, false);
    torc_checkpoint_save(whole, test_path("ckpt"), .optimizer = opt, .wait = true);
    double then = torc_loss_scale();
    torc_step(opt);
    scaled_step(whole, opt, &l, 5);
    torc_checkpoint_load(second, test_path("ckpt"), .optimizer = other);
    CHECK_NEAR(torc_loss_scale(), then, 0);
    for (int step = 4; step < 6; step++)
        scaled_step(second, other, &l, step);
    CHECK_NEAR(torc_loss_scale(), 2 * then, 0);
    compare_bits(whole, second);
    torc_finalize();
}

TEST(a_checkpoint_before_a_step)
{
    check_saved_before_a_step((torc_ddp_options){0});
}

TEST_RANKS(a_checkpoint_before_a_sharded_step, 2)
{
    check_saved_before_a_step((torc_ddp_options){.shard_optimizer = true});
}

/* Loaded before it is on, as where torc_autocast() switches it on. */
TEST(a_checkpoint_waits_for_the_first_scope)
{
    const call c = {TORC_HERE, "test"};
    torc_init(NULL, NULL);
    run r = run_new(1, SGD, false, (torc_ddp_options){0});
    loss_scale_wanted(&c);
    run_scaled(&r, 4);
    CHECK_NEAR(torc_loss_scale(), 32768, 0);
    torc_checkpoint_save(r.net, test_path("ckpt"), RUN_OPTIONS(r), .wait = true);
    loss_scale_forget(); /* as in a new process */
    torc_checkpoint_load(r.net, test_path("ckpt"), RUN_OPTIONS(r));
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    loss_scale_wanted(&c);
    CHECK_NEAR(torc_loss_scale(), 32768, 0);
    torc_finalize();
}

/* A run without one, as all were before there was one, says nothing of it. */
TEST(a_checkpoint_without_a_scale)
{
    torc_init(NULL, NULL);
    run r = run_new(1, ADAMW, false, (torc_ddp_options){0});
    run_until(&r, 2);
    torc_checkpoint_save(r.net, test_path("ckpt"), RUN_OPTIONS(r), .wait = true);
    torc_set_loss_scale(.initial = 32);
    CHECK_INT(torc_checkpoint_load(r.net, test_path("ckpt"), RUN_OPTIONS(r)), 2);
    CHECK_NEAR(torc_loss_scale(), 32, 0);
    run_until(&r, 4);
    torc_finalize();
}
