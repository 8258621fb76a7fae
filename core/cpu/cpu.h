/*
 * cpu -- the CPU as a device: its row beside the others, and its kernels at each level.
 *
 * A level is an instruction set that every kernel was compiled for: v2 (SSE4.2), v3 (AVX2, FMA) or
 * v4 (AVX-512), the names of the x86-64 psABI; or v4_bf16, which is v4 with the products of
 * AVX-512 BF16 for the kernels that have them.
 */
#ifndef TORC_CPU_CPU_H
#define TORC_CPU_CPU_H

#include "core/kernels.h"

extern const device device_cpu;

typedef enum cpu_level { CPU_V2, CPU_V3, CPU_V4, CPU_V4_BF16, CPU_LEVELS } cpu_level;

/* The highest level of this processor; dies on one older than v2. */
cpu_level cpu_level_here(void);
/* The kernels at a level that this processor has. */
const kernels *cpu_kernels_at(cpu_level level);
/* v2 and so on. */
const char *cpu_level_name(cpu_level level);
/* The kernels of the highest level, or of the one that TORC_SIMD=v2|v3|v4|v4_bf16 asks for. */
const kernels *cpu_kernels(void);

#endif
