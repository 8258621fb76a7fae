/*
 * table -- the kernels of the GPU: one for every row of core/kernels.def, or this does not link.
 */
#include "core/cuda/cuda.h"

#define KERNEL(result, name, arguments) extern __typeof__(*((kernels *)0)->name) cuda_##name;
#include "core/kernels.def"

const kernels cuda_kernels = {
#define KERNEL(result, name, arguments) .name = cuda_##name,
#include "core/kernels.def"
};
