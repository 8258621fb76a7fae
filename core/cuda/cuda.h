/*
 * cuda -- an NVIDIA GPU as a device: its row beside the CPU's, its stream, and its errors.
 *
 *     op  --- kernels_here()->softmax() --->  core/cuda/softmax.cu  --- LAUNCH() --->  stream
 *     host       goes on at once                                       kernel | kernel | kernel |
 *
 * Everything of a rank's GPU happens on one stream, in the order in which it was asked for. So a
 * block of memory may go back to the cache (core/storage.h) as soon as the last kernel that uses it
 * has been queued: whoever gets it next writes to it later on the same stream. The host waits only
 * where it reads: cuda_to_host(), and the few kernels that return a number.
 *
 * Words
 *   kernel   here as everywhere in core/ a row of core/kernels.def: a function of the host. What it
 *            runs on the GPU is a __global__ function, of which it may need several.
 *   queue    to hand work to the stream; an error of it may be noticed only much later.
 *            TORC_CUDA_SYNC=1 waits after every launch, so that the op and the user's line of
 *            an error are the right ones.
 *
 * This header is C, for the host's side alone; what runs on the GPU starts at core/cuda/kernel.h.
 */
#ifndef TORC_CUDA_CUDA_H
#define TORC_CUDA_CUDA_H

#include "core/kernels.h"

#include <cuda_runtime_api.h>

extern const device device_cuda;
extern const kernels cuda_kernels;

/* The stream of all kernels and copies; the first call takes the GPU of this rank. Asked for by
 * whoever puts something into it other than a launch: launches that wait go out first
 * (core/cuda/queue.h). */
cudaStream_t cuda_stream(void);
/* The stream beside it: what is put there waits for nobody, unless it is between branch() and
 * branched() (core/device.h). */
cudaStream_t cuda_beside(void);
int cuda_processors(void);   /* streaming multiprocessors of this GPU */
int cuda_architecture(void); /* compute capability x 10: 90 */

/* Dies with the op and the user's line that the rank is at, unless e is cudaSuccess. */
void cuda_check(cudaError_t e, const char *what);
/* The same for an error of somebody else's. */
NORETURN void cuda_die(const char *what, const char *why);
/* After every launch of the __global__ function `name`. */
void cuda_launched(const char *name);
/* The device's stamps (core/device.h). */
void cuda_stamp(int i, bool beside);
bool cuda_is_past(int i);
double cuda_between(int from, int to);
/* Waits until the stream is empty. */
void cuda_wait(void);
/* How often the host has waited for the GPU so far: a step of training shall not. */
int64_t cuda_waits(void);

#endif
