/* nccl_none -- what stands in for nccl.c where the build found no nccl.h: GPUs that cannot talk. */
#include "comm/nccl.h"

#include <stdio.h>

torc_status comm_gpus_open(comm *c, const char *gpu, comm_gpus **out, char *why, size_t size)
{
    (void)c, (void)gpu;
    snprintf(why, size, "this torc was built without NCCL");
    *out = NULL;
    return TORC_OK;
}

torc_status comm_gpus_sum(comm_gpus *g, void *values, size_t count, torc_dtype dtype, void *stream)
{
    (void)g, (void)values, (void)count, (void)dtype, (void)stream;
    bug("there is no NCCL");
}

torc_status comm_gpus_reduce_scatter(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                     void *stream)
{
    return comm_gpus_sum(g, values, count, dtype, stream);
}

torc_status comm_gpus_allgather(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                void *stream)
{
    return comm_gpus_sum(g, values, count, dtype, stream);
}

torc_status comm_gpus_look(comm_gpus *g)
{
    (void)g;
    return TORC_OK;
}

void comm_gpus_close(comm_gpus *g)
{
    (void)g;
}
