/*
 * Sums between GPUs: who may take that way, what comes of it, and a network that fails. The
 * stand-in of tests/nccl_over_mpi is what dlopen() finds here; EMU_OWN=1 gives each rank a GPU of
 * its own.
 */
#include "tests/ddp_helpers.h"
#include "tests/own_gpus.h"

#include "allreduce/job.h"
#include "comm/nccl.h"
#include "core/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static comm_gpus *open_gpus(comm **c, char why[256])
{
    comm_gpus *g;
    char gpu[64];
    why[0] = 0;
    CHECK_INT(comm_open(c), TORC_OK);
    if (getenv("EMU_OWN"))
        skip_if_shared(*c);
    device_cuda.identity(gpu, sizeof gpu);
    CHECK_INT(comm_gpus_open(*c, gpu, &g, why, 256), TORC_OK);
    return g;
}

/* On each rank i + 10^rank; returns element i of the sum. */
static double sum_of(comm *c, comm_gpus *g, int i, int n)
{
    double *values = base_alloc((size_t)n, sizeof *values), result;
    storage *s = storage_new((size_t)n * sizeof *values);
    for (int k = 0; k < n; k++)
        values[k] = k + pow(10, comm_rank(c));
    device_cuda.from_host(s->data, values, (size_t)n * sizeof *values);
    CHECK_INT(comm_gpus_sum(g, s->data, (size_t)n, TORC_F64, device_cuda.branch(0)), TORC_OK);
    device_cuda.branched(0);
    device_cuda.rejoin(0);
    device_cuda.to_host(&result, (double *)s->data + i, sizeof result);
    storage_release(s);
    free(values);
    return result;
}

TEST_RANKS(gpus_of_their_own_sum, 3)
{
    ask_for_own_gpus();
    char why[256];
    comm *c;
    comm_gpus *g = open_gpus(&c, why);
    CHECK(g && !why[0]);
    CHECK_NEAR(sum_of(c, g, 7, 1000), 3 * 7 + 111, 0);
    CHECK_INT(comm_gpus_look(g), TORC_OK);
    comm_gpus_close(g);
    comm_close(c);
}

/* The two halves of a sum: five numbers a part, k + 10 rank at place k. */
static void check_halves(comm *c, comm_gpus *g, torc_dtype dtype)
{
    enum { PART = 5, ALL = 3 * PART };
    const call at = {{0}, "test"};
    double v[ALL];
    int64_t n = ALL;
    tensor *t = tensor_create(&at, dtype, 1, &n, OWNER_HOUSE);
    for (int k = 0; k < ALL; k++)
        v[k] = k + 10 * comm_rank(c);
    tensor_write(&at, t, TORC_F64, v);
    void *stream = device_cuda.branch(0);
    CHECK_INT(comm_gpus_reduce_scatter(g, tensor_data(t), PART, dtype, stream), TORC_OK);
    device_cuda.branched(0);
    device_cuda.rejoin(0);
    tensor_read(&at, t, TORC_F64, v);
    for (int k = comm_rank(c) * PART; k < (comm_rank(c) + 1) * PART; k++)
        CHECK_NEAR(v[k], 3 * k + 30, 0);
    stream = device_cuda.branch(0);
    CHECK_INT(comm_gpus_allgather(g, tensor_data(t), PART, dtype, stream), TORC_OK);
    device_cuda.branched(0);
    device_cuda.rejoin(0);
    tensor_read(&at, t, TORC_F64, v);
    for (int k = 0; k < ALL; k++)
        CHECK_NEAR(v[k], 3 * k + 30, 0);
    tensor_drop(t);
}

TEST_RANKS(a_sum_in_halves, 3)
{
    ask_for_own_gpus();
    char why[256];
    comm *c;
    comm_gpus *g = open_gpus(&c, why);
    check_halves(c, g, TORC_F32);
    check_halves(c, g, TORC_F64);
    check_halves(c, g, TORC_BF16);
    comm_gpus_close(g);
    comm_close(c);
}

TEST_RANKS(ranks_that_share_a_gpu_do_not, 2)
{
    char why[256];
    comm *c;
    CHECK(!open_gpus(&c, why));
    CHECK_TEXT(why, "rank 1 shares its GPU with another rank");
    comm_close(c);
}

/* Where one rank does not want to, none does. */
TEST_RANKS(one_that_refuses_is_named, 2)
{
    ask_for_own_gpus();
    char why[256];
    comm *c;
    bool last = atoi(getenv("OMPI_COMM_WORLD_RANK")) == 1;
    setenv("TORC_NCCL", last ? "0" : "-1", 1);
    CHECK(!open_gpus(&c, why));
    CHECK_TEXT(why, last ? "TORC_NCCL=0" : "rank 1 finds no NCCL");
    comm_close(c);
}

TEST_RANKS(a_network_that_fails_is_seen, 2)
{
    ask_for_own_gpus();
    setenv("NCCL_FAILS", "1", 1);
    char why[256];
    comm *c;
    comm_gpus *g = open_gpus(&c, why);
    sum_of(c, g, 0, 10);
    CHECK_INT(comm_gpus_look(g), TORC_OK);
    sum_of(c, g, 0, 10);
    CHECK_INT(comm_gpus_look(g), TORC_ERR_PEER);
    test_check(strstr(torc_last_error(), "remote process exited"), __FILE__, __LINE__, "%s",
               torc_last_error());
    CHECK_INT(comm_gpus_look(g), TORC_ERR_PEER);
    comm_gpus_close(g);
    comm_close(c);
}

/* The reducer's way over NCCL gives the exact mean, of uneven shares too. */
TEST_RANKS(the_mean_between_gpus, 3)
{
    ask_for_own_gpus();
    start();
    skip_if_shared(job_comm((torc_site){0}, "test"));
    torc_module *net = torc_ddp(network(1)), *alone = network(1);
    int first = share(torc_rank(), BATCH), end = share(torc_rank() + 1, BATCH);
    for (int i = 0; i < 3; i++) {
        torc_zero_grad(net);
        torc_zero_grad(alone);
        backward(net, first, end);
        backward(alone, 0, BATCH);
        compare_gradients(net, alone, 1);
        torc_tape_clear();
    }
    torc_finalize();
}

/* Five layers of 1 MiB: a first bucket of 1 MiB, then up to 25 between GPUs, and 1 through the
 * host; what the user says comes first. */
static int buckets_of(torc_ddp_options o)
{
    torc_module *layer[5];
    for (int i = 0; i < 5; i++)
        layer[i] = torc_linear(512, 512, .no_bias = true);
    torc_module *net = torc_sequential(layer[0], layer[1], layer[2], layer[3], layer[4]);
    int buckets = torc_ddp_statistics((torc_ddp)(TORC_HERE, net, o)).buckets;
    torc_module_free(net);
    return buckets;
}

TEST_RANKS(buckets_between_gpus_are_large, 2)
{
    ask_for_own_gpus();
    torc_init(NULL, NULL);
    skip_if_shared(job_comm((torc_site){0}, "test"));
    CHECK_INT(buckets_of((torc_ddp_options){0}), 2);
    CHECK_INT(buckets_of((torc_ddp_options){.bucket_bytes = 2 << 20}), 3);
    CHECK_INT(buckets_of((torc_ddp_options){.first_bucket_bytes = 8 << 20}), 1);
    torc_finalize();
}

TEST_RANKS(buckets_through_the_host_are_small, 2)
{
    torc_init(NULL, NULL);
    CHECK_INT(buckets_of((torc_ddp_options){0}), 5);
    torc_finalize();
}
