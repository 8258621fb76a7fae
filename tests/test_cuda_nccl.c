/*
 * Sums between GPUs: who may take that way, what comes of it, and a network that fails. The
 * stand-in of tests/nccl_over_mpi is what dlopen() finds here; EMU_OWN=1 gives each rank a GPU of
 * its own.
 */
#include "tests/ddp_helpers.h"

#include "comm/nccl.h"
#include "core/cuda/cuda.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static comm_gpus *open_gpus(comm **c, char why[256])
{
    comm_gpus *g;
    char gpu[64];
    why[0] = 0;
    CHECK_INT(comm_open(c), TORC_OK);
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
    free(values);
    return result;
}

TEST_RANKS(gpus_of_their_own_sum, 3)
{
    setenv("EMU_OWN", "1", 1);
    char why[256];
    comm *c;
    comm_gpus *g = open_gpus(&c, why);
    CHECK(g && !why[0]);
    CHECK_NEAR(sum_of(c, g, 7, 1000), 3 * 7 + 111, 0);
    CHECK_INT(comm_gpus_look(g), TORC_OK);
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
    setenv("EMU_OWN", "1", 1);
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
    setenv("EMU_OWN", "1", 1);
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
    setenv("EMU_OWN", "1", 1);
    start();
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
