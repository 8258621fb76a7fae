/*
 * table -- the kernels of the CPU, a table per level, and the choice of the level.
 */
#include "core/cpu/cpu.h"

#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>

/* The type of each function is that of its row in kernels.def, so the linker alone could not tell a
 * kernel that was defined otherwise: core/cpu/simd.h declares the same where they are defined. */
#define TYPE_OF(name) __typeof__(*((kernels *)0)->name)
#define SIMD_KERNEL(name) \
    extern TYPE_OF(name) cpu_##name##_v2; \
    extern TYPE_OF(name) cpu_##name##_v3; \
    extern TYPE_OF(name) cpu_##name##_v4;
#define DOTS_KERNEL(name) \
    SIMD_KERNEL(name) \
    extern TYPE_OF(name) cpu_##name##_v4_bf16;
#define PLAIN_KERNEL(name) extern TYPE_OF(name) cpu_##name;
#include "core/cpu/simd.def"

static const kernels tables[CPU_LEVELS] = {
    [CPU_V2] =
        {
#define SIMD_KERNEL(name) .name = cpu_##name##_v2,
#define PLAIN_KERNEL(name) .name = cpu_##name,
#include "core/cpu/simd.def"
        },
    [CPU_V3] =
        {
#define SIMD_KERNEL(name) .name = cpu_##name##_v3,
#define PLAIN_KERNEL(name) .name = cpu_##name,
#include "core/cpu/simd.def"
        },
    [CPU_V4] =
        {
#define SIMD_KERNEL(name) .name = cpu_##name##_v4,
#define PLAIN_KERNEL(name) .name = cpu_##name,
#include "core/cpu/simd.def"
        },
    [CPU_V4_BF16] =
        {
#define SIMD_KERNEL(name) .name = cpu_##name##_v4,
#define DOTS_KERNEL(name) .name = cpu_##name##_v4_bf16,
#define PLAIN_KERNEL(name) .name = cpu_##name,
#include "core/cpu/simd.def"
        },
};

/* A row of kernels.def that simd.def forgot would be a NULL in the tables. */
enum {
#define SIMD_KERNEL(name) ROW_##name,
#define PLAIN_KERNEL(name) ROW_##name,
#include "core/cpu/simd.def"
    ROWS
};
_Static_assert(ROWS * sizeof(void (*)(void)) == sizeof(kernels), "simd.def lacks a kernel");

cpu_level cpu_level_here(void)
{
    if (__builtin_cpu_supports("x86-64-v4"))
        return __builtin_cpu_supports("avx512bf16") ? CPU_V4_BF16 : CPU_V4;
    if (__builtin_cpu_supports("x86-64-v3"))
        return CPU_V3;
    if (!__builtin_cpu_supports("x86-64-v2"))
        die_at((torc_site){"torc", 0}, NULL,
               "this processor is too old: expected x86-64-v2 (SSE4.2) or later");
    return CPU_V2;
}

const char *cpu_level_name(cpu_level level)
{
    static const char *const names[CPU_LEVELS] = {"v2", "v3", "v4", "v4_bf16"};
    return names[level];
}

const kernels *cpu_kernels_at(cpu_level level)
{
    if (level > cpu_level_here())
        bug("level %s asked of a processor of level %s", cpu_level_name(level),
            cpu_level_name(cpu_level_here()));
    return &tables[level];
}

static cpu_level level_asked_for(void)
{
    cpu_level here = cpu_level_here();
    const char *text = getenv("TORC_SIMD");
    if (!text || !*text)
        return here;
    for (int level = CPU_V2; level <= (int)here; level++)
        if (!strcmp(text, cpu_level_name((cpu_level)level)))
            return (cpu_level)level;
    die_at((torc_site){"torc", 0}, NULL, "TORC_SIMD=%s: expected v2 .. %s, what this processor has",
           text, cpu_level_name(here));
}

const kernels *cpu_kernels(void)
{
    static const kernels *_Atomic chosen; /* the same whoever comes first */
    const kernels *here = atomic_load_explicit(&chosen, memory_order_acquire);
    if (!here) {
        here = cpu_kernels_at(level_asked_for());
        atomic_store_explicit(&chosen, here, memory_order_release);
    }
    return here;
}
