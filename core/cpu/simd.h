/*
 * simd -- one source, several instruction sets.
 *
 * Every file of core/cpu/simd/ is compiled once per level, with -march=x86-64-v2, -v3 (AVX2, FMA)
 * and -v4 (AVX-512) and SIMD_LEVEL set to v2, v3 or v4. A kernel in such a file is named
 * SIMD(cpu_name), which gives cpu_name_v4 and so on; all else in it is static. Those that multiply
 * bf16 are compiled once more, as v4_bf16 (AVX-512 BF16). core/cpu/simd.def lists these kernels;
 * core/cpu/table.c picks the highest level that this processor has, once, so one binary runs
 * everywhere. TORC_SIMD=v2|v3|v4 asks for a lower one (tests run them all).
 *
 * To let f32 and f64 share a loop, a file may include a part of itself twice with T, M(f) and C(k)
 * set: see the top of core/cpu/simd/elementwise.c.
 */
#ifndef TORC_CPU_SIMD_H
#define TORC_CPU_SIMD_H

#include "core/kernels.h"

#ifdef SIMD_LEVEL
#define SIMD_JOIN_(name, level) name##_##level
#define SIMD_JOIN(name, level) SIMD_JOIN_(name, level)
#define SIMD(name) SIMD_JOIN(name, SIMD_LEVEL)

/* Each with the type of its row in kernels.def, so that a definition that differs does not compile.
 */
#define SIMD_KERNEL(name) __typeof__(*((kernels *)0)->name) SIMD(cpu_##name);
#define PLAIN_KERNEL(name)
#include "core/cpu/simd.def"
#endif

#endif
