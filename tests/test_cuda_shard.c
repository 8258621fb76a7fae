/*
 * The sharded optimizer on GPUs: the numbers of the replicated one, through NCCL and through the
 * host, clipped or not, whatever the buckets; a share of the state; no wait of the host; and what
 * happens when the network fails.
 *
 * The same bits are asked for where the test's NCCL or the host adds: both add a part as they add
 * the whole. NCCL itself promises only that they are sums. EMU_OWN=1 gives each rank a GPU of its
 * own.
 */
#include "tests/checkpoint_helpers.h"
#include "tests/own_gpus.h"

#include "allreduce/job.h"

static const torc_ddp_options sharded = {.shard_optimizer = true};

static void start_with_own_gpus(void)
{
    ask_for_own_gpus();
    start();
    skip_if_shared(job_comm((torc_site){0}, "test"));
}

static void check_sharded(torc_ddp_options o, double clip)
{
    torc_ddp_options whole = o;
    o.shard_optimizer = true;
    torc_module *one = trained(whole, 5, clip), *other = trained(o, 5, clip);
    compare_bits(one, other);
    CHECK(torc_replicas_agree(other));
    torc_finalize();
}

TEST_RANKS(the_same_bits_between_two_gpus, 2)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){0}, 0);
}

TEST_RANKS(the_same_bits_between_three_gpus, 3)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){0}, 0);
}

TEST_RANKS(clipped_between_gpus, 3)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){0}, 0.05);
}

/* Each parameter has a bucket; that of the last bias is smaller than three cache lines, so two of
 * the ranks own nothing of it. */
TEST_RANKS(buckets_smaller_than_the_ranks, 3)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){.bucket_bytes = 4, .first_bucket_bytes = 4}, 0);
}

TEST_RANKS(one_bucket_for_all, 3)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){.bucket_bytes = 1 << 20, .first_bucket_bytes = 1 << 20}, 0);
}

/* From the third step on kernels go out in graphs, collectives between them. */
TEST_RANKS(with_graphs_between_gpus, 2)
{
    start_with_own_gpus();
    check_sharded((torc_ddp_options){.graph = true}, 0.05);
}

TEST_RANKS(the_same_bits_on_a_shared_gpu, 3)
{
    start();
    check_sharded((torc_ddp_options){0}, 0);
}

TEST_RANKS(clipped_on_a_shared_gpu, 2)
{
    start();
    check_sharded((torc_ddp_options){0}, 0.05);
}

TEST(alone_there_is_nothing_to_divide)
{
    start();
    check_sharded((torc_ddp_options){0}, 0.05);
}

/* ---- .clip_norm: the ranks add up the squares of their parts ---- */

static torc_module *clipped_in_step(torc_ddp_options o, double *norm)
{
    torc_module *net = (torc_ddp)(TORC_HERE, network(1), o);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f, .clip_norm = 0.05f);
    for (int i = 0; i < 5; i++) {
        backward(net, share(torc_rank(), BATCH), share(torc_rank() + 1, BATCH));
        torc_step(opt);
        torc_tape_clear();
    }
    *norm = torc_grad_norm(opt);
    return net;
}

static void check_clip_norm(void)
{
    double norm[2];
    torc_module *called = trained((torc_ddp_options){0}, 5, 0.05f);
    torc_module *whole = clipped_in_step((torc_ddp_options){0}, &norm[0]);
    torc_module *divided = clipped_in_step(sharded, &norm[1]);
    compare_bits(called, whole);
    compare_near(whole, divided, 1e-6);
    CHECK(norm[0] > 0.05 && fabs(norm[1] / norm[0] - 1) < 1e-6);
    CHECK(torc_replicas_agree(divided));
    torc_finalize();
}

TEST_RANKS(a_clipped_step_between_gpus, 3)
{
    start_with_own_gpus();
    check_clip_norm();
}

TEST_RANKS(a_clipped_step_on_a_shared_gpu, 2)
{
    start();
    check_clip_norm();
}

/* ---- the host does not wait ---- */

TEST_RANKS(a_step_does_not_wait, 2)
{
    start_with_own_gpus();
    torc_module *net = torc_ddp(network(1), .shard_optimizer = true);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f, .clip_norm = 0.05f);
    for (int i = 0; i < 3; i++) {
        torc_tensor *y = torc_forward(net, inputs(0, 4));
        torc_tensor *loss = torc_mean(torc_mul(y, y));
        int64_t waits = cuda_waits();
        torc_backward(loss);
        torc_step(opt);
        CHECK_INT(cuda_waits(), waits);
        CHECK(torc_grad_norm(opt) > 0);
        CHECK_INT(cuda_waits(), waits + 1);
        torc_tape_clear();
    }
    torc_finalize();
}

/* The first layer is in the last bucket, which is gathered first: using it waits for no other. */
TEST_RANKS(parameters_are_waited_for_when_used, 2)
{
    start_with_own_gpus();
    torc_module *net =
        torc_ddp(network(1), .shard_optimizer = true, .bucket_bytes = 4, .first_bucket_bytes = 4);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.01f);
    int64_t n;
    const module_item *item = module_items(net, &n);
    for (int step = 0; step < 2; step++) {
        backward(net, 0, 4);
        CHECK(!item[0].t->store->arrive);
        torc_step(opt);
        torc_tape_clear();
        for (int64_t i = 0; i < n; i++) {
            CHECK(item[i].t->store->arrive);
            tensor_data(item[i].t);
        }
        CHECK(!item[0].t->store->arrive);
        torc_step(opt);
        CHECK(item[0].t->store->arrive);
    }
    torc_module_free(net); /* while they are on their way */
    torc_finalize();
}

/* ---- memory ---- */

/* Live bytes of AdamW's state for a layer of 2^16 parameters. */
static double bytes_of_state(torc_ddp_options o)
{
    torc_module *net = (torc_ddp)(TORC_HERE, torc_linear(256, 256, .no_bias = true), o);
    size_t before = torc_memory().live_bytes;
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    double bytes = (double)(torc_memory().live_bytes - before);
    torc_optimizer_free(opt);
    torc_module_free(net);
    return bytes;
}

static void check_state(void)
{
    double whole = bytes_of_state((torc_ddp_options){0});
    CHECK(whole >= 2 * 65536 * sizeof(float));
    CHECK_NEAR(bytes_of_state(sharded) / whole * torc_world_size(), 1, 0.15);
    torc_finalize();
}

TEST_RANKS(a_share_of_the_state_between_gpus, 3)
{
    start_with_own_gpus();
    check_state();
}

TEST_RANKS(a_share_of_the_state_on_a_shared_gpu, 2)
{
    start();
    check_state();
}

/* ---- several backwards ---- */

static torc_module *accumulated(torc_ddp_options o)
{
    torc_module *net = (torc_ddp)(TORC_HERE, network(1), o);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f, .momentum = 0.9f);
    for (int i = 0; i < 3; i++) {
        TORC_NO_SYNC(net)
        backward(net, torc_rank(), torc_rank() + 2);
        backward(net, torc_rank() + 2, torc_rank() + 5);
        torc_step(opt);
        torc_tape_clear();
    }
    return net;
}

TEST_RANKS(accumulated_between_gpus, 2)
{
    start_with_own_gpus();
    compare_bits(accumulated((torc_ddp_options){0}), accumulated(sharded));
    torc_finalize();
}

TEST_RANKS_DIE(gradients_between_gpus_are_apart, 2, 1, "whole only after torc_clip_grad_norm()")
{
    start_with_own_gpus();
    torc_module *net = torc_ddp(network(1), .shard_optimizer = true);
    backward(net, 0, 3);
    torc_grad(torc_parameter_at(net, 0, NULL));
}

/* ---- a checkpoint has the whole state, whoever had which part of it ---- */

static void check_resumes(void)
{
    run whole = run_new(1, ADAMW, true, (torc_ddp_options){0});
    run_until(&whole, 6);
    run first = run_new(1, ADAMW, true, sharded);
    run_until(&first, 3);
    torc_checkpoint_save(first.net, test_path("ckpt"), RUN_OPTIONS(first), .wait = true);
    run second = run_new(2, ADAMW, true, sharded);
    CHECK_INT(torc_checkpoint_load(second.net, test_path("ckpt"), RUN_OPTIONS(second)), 3);
    run_until(&second, 6);
    CHECK(same_run(&whole, &second));
    torc_finalize();
}

TEST_RANKS(a_checkpoint_of_parts_between_gpus, 3)
{
    start_with_own_gpus();
    check_resumes();
}

TEST_RANKS(a_checkpoint_of_parts_on_a_shared_gpu, 2)
{
    start();
    check_resumes();
}

/* ---- the network fails ---- */

TEST_RANKS_DIE(a_network_that_fails_ends_the_job, 2, 1, "NCCL: the GPUs' network: remote process")
{
    setenv("NCCL_FAILS", "5", 1);
    start_with_own_gpus();
    trained(sharded, 50, 0);
}
