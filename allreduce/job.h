/*
 * job -- this process as a rank: torc_init(), torc_finalize(), and the one communicator of the job.
 */
#ifndef TORC_JOB_H
#define TORC_JOB_H

#include "comm/nccl.h"

/* The communicator; dies, naming the caller, before torc_init() and after torc_finalize(). */
comm *job_comm(torc_site at, const char *op);

/* The communicator between the ranks' GPUs, opened by the first call, which every rank makes; NULL
 * where they have none, or it is not for them (comm/nccl.h). */
comm_gpus *job_gpus(torc_site at);

/* The world failed in a collective: prints the last error's sentence and ends the job, with exit
 * code 124 when a deadline passed and 1 otherwise. */
void job_check(torc_site at, const char *op, torc_status status);

#endif
