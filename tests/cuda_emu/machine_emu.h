/*
 * machine_emu -- core/cuda/machine.h's words for a CPU.
 */
#ifndef TORC_EMU_MACHINE_H
#define TORC_EMU_MACHINE_H

#include "core/cpu/f16.h"
#include "cuda_runtime.h"

#include <utility>

/* Runs `run(arguments)` once for every thread of every block, and checks the memory
 * around every allocation afterwards. */
void emu_launch(const char *name, unsigned blocks, unsigned threads, size_t shared_bytes,
                void (*run)(void *arguments), void *arguments);

/* Calls the function with what the values point at. */
typedef void (*emu_caller)(const void *function, void **values);
/* From now on cudaLaunchKernel() takes the function, which has n arguments of these sizes. */
void emu_know(const void *function, const char *name, const size_t *sizes, int n,
              emu_caller caller);

template <class... P, size_t... I>
static inline void emu_call(void (*function)(P...), void **values, std::index_sequence<I...>)
{
    function(*(P *)values[I]...);
}

template <class... P> static inline void emu_call_of(const void *function, void **values)
{
    emu_call((void (*)(P...))function, values, std::index_sequence_for<P...>());
}

void *emu_shared();
#define SHARED_BYTES(type, name) type *name = (type *)emu_shared()

template <class... P>
static inline void machine_prepare(void (*function)(P...), const char *name, size_t bytes)
{
    const size_t sizes[] = {sizeof(P)...};
    if (bytes > 227 * 1024)
        emu_stop("%zu bytes of shared memory: a block has up to 227 KiB", bytes);
    emu_know((const void *)function, name, sizes, (int)sizeof...(P), emu_call_of<P...>);
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

static inline uint16_t machine_f16_bits(float x)
{
    return x != x ? 0x7fff : f16_from_f32(x); /* as above */
}
static inline float machine_f16_value(uint16_t bits)
{
    return f16_to_f32(bits);
}

template <class T> static inline void machine_forget(T &)
{
}

#endif
