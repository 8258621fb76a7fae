/*
 * machine_emu -- core/cuda/machine.h's words for a CPU.
 */
#ifndef TORC_EMU_MACHINE_H
#define TORC_EMU_MACHINE_H

#include "cuda_runtime.h"

/* Runs `run(function's arguments)` once for every thread of every block, and checks the memory
 * around every allocation afterwards. */
void emu_launch(const char *name, unsigned blocks, unsigned threads, size_t shared_bytes,
                void (*run)(void *arguments), void *arguments);

template <class F>
static inline void emu_launch_of(const char *name, unsigned blocks, unsigned threads, size_t bytes,
                                 F call)
{
    emu_launch(
        name, blocks, threads, bytes, [](void *f) { (*(F *)f)(); }, &call);
}

#define MACHINE_LAUNCH(function, blocks, threads, bytes, ...) \
    emu_launch_of(#function, blocks, threads, bytes, [&] { (function)(__VA_ARGS__); })

void *emu_shared();
#define SHARED_BYTES(type, name) type *name = (type *)emu_shared()

template <class F> static inline void machine_allow_shared(F *, size_t bytes)
{
    if (bytes > 227 * 1024)
        emu_stop("%zu bytes of shared memory: a block has up to 227 KiB", bytes);
}

/* ---- bits ---- */

static inline float machine_float_of(uint32_t bits)
{
    return __uint_as_float(bits);
}

static inline uint16_t machine_bf16_bits(float x)
{
    uint32_t bits = __float_as_uint(x);
    if (x != x)
        return 0x7fff; /* what the GPU gives for any NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T> static inline void machine_forget(T &)
{
}

#endif
