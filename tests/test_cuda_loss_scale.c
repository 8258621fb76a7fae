/*
 * The loss scale on a GPU: nobody waits for it, also in graphs, whose launches are the same in a
 * step that is skipped; and a sharded optimizer, between GPUs and through the host.
 */
#include "tests/checkpoint_helpers.h"
#include "tests/loss_scale_helpers.h"
#include "tests/own_gpus.h"

#include "allreduce/job.h"
#include "core/cuda/graph.h"

static void start_with_own_gpus(void)
{
    ask_for_own_gpus();
    start();
    skip_if_shared(job_comm((torc_site){0}, "test"));
}

/* A loss that looks at no labels: checking those waits. */
static void backward_of_squares(torc_module *net, double factor)
{
    torc_tensor *y = torc_forward(net, inputs(0, 4));
    torc_backward(torc_mul_scalar(torc_mean(torc_mul(y, y)), factor));
}

/* ---- nobody waits ---- */

static void check_no_wait(torc_ddp_options how)
{
    torc_set_loss_scale(.initial = 64);
    torc_module *net = (torc_ddp)(TORC_HERE, network(1), how);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    for (int i = 0; i < 6; i++) {
        int64_t waits = cuda_waits();
        backward_of_squares(net, i % 3 == 1 ? INFINITY : 1);
        torc_step(opt);
        CHECK_INT(cuda_waits(), waits);
        torc_tape_clear();
    }
    int64_t waits = cuda_waits();
    CHECK_NEAR(torc_loss_scale(), 16, 0);
    CHECK_INT(cuda_waits(), waits + 1);
    torc_finalize();
}

TEST(a_step_does_not_wait)
{
    start();
    check_no_wait((torc_ddp_options){0});
}

TEST_RANKS(a_sharded_step_does_not_wait, 2)
{
    start_with_own_gpus();
    check_no_wait((torc_ddp_options){.shard_optimizer = true});
}

/* ---- f16 ---- */

static double loss_in_f16(torc_module *net)
{
    torc_tensor *loss = NULL;
    torc_autocast(TORC_F16)
    {
        loss = torc_cross_entropy(torc_forward(net, inputs(0, BATCH)), labels(0, BATCH));
    }
    torc_backward(loss);
    return torc_item(loss);
}

TEST(a_scope_of_f16_switches_it_on)
{
    start();
    torc_module *net = network(1), *exact = network(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f), *other = torc_sgd(exact, .lr = 0.1f);
    for (int i = 0; i < 12; i++) {
        loss_in_f16(net);
        torc_step(opt);
        torc_tape_clear();
    }
    double scale = torc_loss_scale();
    torc_set_loss_scale(.off = true);
    for (int i = 0; i < 12; i++) {
        backward(exact, 0, BATCH);
        torc_step(other);
        torc_tape_clear();
    }
    compare_near(net, exact, 2e-3);
    CHECK_NEAR(scale, 65536, 0);
    torc_finalize();
}

/* Where nothing is recorded there are no gradients to save. */
TEST(a_scope_without_gradients_leaves_it_off)
{
    start();
    torc_module *net = network(1);
    torc_sgd(net, .lr = 0.1f, .in_backward = true);
    TORC_NO_GRAD torc_autocast(TORC_F16)
    {
        torc_forward(net, inputs(0, BATCH));
    }
    CHECK_NEAR(torc_loss_scale(), 1, 0);
    torc_finalize();
}

/* A gradient of 2^-30, which a product in f16 would take for 0. */
TEST(precision_of_f16_switches_it_on)
{
    start();
    torc_tensor *x = torc_ones(TORC_SHAPE(8, 8));
    torc_tensor *w = torc_tensor_new(TORC_SHAPE(8, 8), .requires_grad = true);
    torc_set_matmul_precision(TORC_F16);
    torc_backward(torc_mul_scalar(torc_sum(torc_linear_op(x, w, NULL)), 0x1p-30));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(w))), 0x1p16 * 64 * 8 * 0x1p-30, 0);
    torc_set_matmul_precision(TORC_F32);
    torc_finalize();
}

/* From a scale of which f16 cannot hold the gradients it falls to one of which it can. */
TEST(what_is_too_large_for_f16_is_skipped)
{
    start();
    torc_set_loss_scale(.initial = 0x1p30f);
    torc_module *net = network(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f);
    double first = loss_in_f16(net), last = first, scale = 0x1p30;
    int skipped = 0;
    for (int i = 0; i < 30; i++) {
        torc_step(opt);
        skipped += torc_loss_scale() < scale;
        scale = torc_loss_scale();
        torc_tape_clear();
        last = loss_in_f16(net);
    }
    CHECK(skipped > 5 && skipped < 20);
    CHECK_NEAR(scale, ldexp(0x1p30, -skipped), 0);
    CHECK(last < first);
    torc_finalize();
}

/* ---- graphs ---- */

static torc_module *taught_in_graphs(bool graph, graph_stats *late)
{
    enum { STEPS = 12 };
    torc_set_loss_scale(.initial = 1024, .interval = 4);
    const scaled_lesson l = {.learner = BY_ADAMW, .bad = SOME(6) | SOME(10), .clips = 0.05f};
    torc_module *net = torc_ddp(network(1), .graph = graph);
    torc_optimizer *opt = optimizer_of(&l, net);
    graph_stats before = {0};
    for (int step = 0; step < STEPS; step++) {
        if (step == STEPS - 3)
            before = graph_statistics();
        scaled_step(net, opt, &l, step);
    }
    *late = graph_statistics();
    late->alone -= before.alone;
    late->launches -= before.launches;
    late->captured -= before.captured;
    torc_optimizer_free(opt);
    return net;
}

/* In the last three steps, of which the second is skipped, hardly anything goes out by itself. */
TEST(the_same_bits_in_graphs)
{
    graph_stats none, late;
    start();
    torc_module *plain = taught_in_graphs(false, &none);
    double scale = torc_loss_scale();
    torc_module *net = taught_in_graphs(true, &late);
    compare_bits(net, plain);
    CHECK_NEAR(torc_loss_scale(), scale, 0);
    CHECK(late.launches > 30 && late.alone * 4 <= late.launches);
    CHECK_INT(late.captured, 0);
    torc_finalize();
}

/* ---- divided ---- */

static void check_divided(torc_ddp_options how)
{
    const unsigned bad = SOME(0) | SOME(3) | SOME(4);
    check_lesson(
        (scaled_lesson){.learner = BY_ADAMW, .steps = 7, .bad = bad, .ddp = true, .how = how});
    check_lesson((scaled_lesson){
        .learner = BY_MOMENTUM, .steps = 7, .bad = bad, .ddp = true, .how = how, .clips = 0.05f});
    torc_finalize();
}

TEST_RANKS(divided_between_gpus, 3)
{
    start_with_own_gpus();
    check_divided((torc_ddp_options){.shard_optimizer = true});
}

TEST_RANKS(divided_in_graphs, 2)
{
    start_with_own_gpus();
    check_divided((torc_ddp_options){.shard_optimizer = true, .graph = true});
}

TEST_RANKS(divided_on_a_shared_gpu, 2)
{
    start();
    check_divided((torc_ddp_options){.shard_optimizer = true});
}

TEST_RANKS(whole_between_gpus, 2)
{
    start_with_own_gpus();
    check_divided((torc_ddp_options){0});
}
