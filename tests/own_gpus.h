/*
 * own_gpus -- for tests in which each rank has a GPU of its own: an emulated one (EMU_OWN=1), or
 * one of the host's; where that has too few the test is skipped.
 */
#ifndef TESTS_OWN_GPUS_H
#define TESTS_OWN_GPUS_H

#include "tests/harness.h"

#include "comm/comm.h"
#include "core/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

enum { GPU_NAME = 64 };

/* Before the first call of the runtime. */
static inline void ask_for_own_gpus(void)
{
    setenv("EMU_OWN", "1", 1);
}

static inline void skip_if_shared(comm *c)
{
    char mine[GPU_NAME] = {0};
    char *all = base_alloc((size_t)comm_size(c), GPU_NAME);
    device_cuda.identity(mine, GPU_NAME);
    CHECK_INT(comm_allgather(c, mine, all, GPU_NAME, "GPUs of the ranks"), TORC_OK);
    for (int i = 0; i < comm_size(c); i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(all + i * GPU_NAME, all + k * GPU_NAME))
                test_skip("ranks %d and %d share a GPU", k, i);
    free(all);
}

#endif
