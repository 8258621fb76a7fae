/*
 * nccl -- collectives between the GPUs of the ranks, without the host: NCCL's communicator.
 *
 *     rank 0   GPU 0  <--- NVLink, PCIe, network --->  GPU 1   rank 1
 *              host   -------- MPI: the id ---------> host
 *
 * The ranks meet over MPI, which stays for all that the hosts tell each other; of NCCL there is one
 * communicator, for what is in GPU memory. NCCL is looked for at run time: where it is not, or two
 * ranks have one GPU (which it refuses), or TORC_NCCL=0 says so, ranks go through the host.
 * TORC_NCCL=1 insists.
 *
 * What is asked for is put into the caller's stream and done in the order of asking, like a kernel;
 * every rank asks for the same in the same order. An error of the network shows later:
 * comm_gpus_look() asks for it.
 */
#ifndef COMM_NCCL_H
#define COMM_NCCL_H

#include "comm/comm.h"

typedef struct comm_gpus comm_gpus;

/* Every rank calls it, with the name of its GPU on its host ("0000:1b:00.0"). *out is NULL, and
 * `why` a sentence, where the GPUs cannot talk to each other; then it is NULL on all ranks. */
torc_status comm_gpus_open(comm *c, const char *gpu, comm_gpus **out, char *why, size_t size);
/* In place: each of the `count` values, f32, f64 or bf16, becomes its sum over all ranks. `stream`:
 * a cudaStream_t. */
torc_status comm_gpus_sum(comm_gpus *g, void *values, size_t count, torc_dtype dtype, void *stream);
/* The two halves of that sum. `values` are as many equal parts as there are ranks, `count` in each,
 * and part r is rank r's: the first makes it the sum of this part over all ranks, and leaves the
 * others of that rank anything; the second makes all parts those of their ranks, as they are there.
 * In place. */
torc_status comm_gpus_reduce_scatter(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                     void *stream);
torc_status comm_gpus_allgather(comm_gpus *g, void *values, size_t count, torc_dtype dtype,
                                void *stream);
/* TORC_ERR_PEER once something has gone wrong; then NCCL has been told to give up. */
torc_status comm_gpus_look(comm_gpus *g);
void comm_gpus_close(comm_gpus *g);

#endif
