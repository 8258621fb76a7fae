/*
 * machine_mma_emu -- core/cuda/machine_mma.h's words for a CPU.
 *
 * Lanes show each other their fragments, and each computes what is its own of the result. A copy
 * begun happens when it is waited for, and not before: until then its place is NaN.
 */
#ifndef TORC_EMU_MACHINE_MMA_H
#define TORC_EMU_MACHINE_MMA_H

#include "machine_emu.h"

/* copies.cpp */
void emu_copy_begin(void *to, const void *from, size_t bytes, bool there);
void emu_copies_end();
void emu_copies_wait(int pending);

/* The first or the second of a pair, as the float that it stands for. */
typedef float emu_half(uint32_t pair, int which);
static inline float emu_half_bf16(uint32_t pair, int which)
{
    return machine_float_of(which ? pair & 0xffff0000u : pair << 16);
}
static inline float emu_half_f16(uint32_t pair, int which)
{
    return machine_f16_value((uint16_t)(pair >> 16 * which));
}

/* The 16 elements of a row of a, or of a column of b, from the registers of the four lanes that
 * hold them: `low` those of t, `low + step` those of t + 8. */
static inline void emu_line(float line[16], const unsigned char *lanes, int low, int step,
                            emu_half *half)
{
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 4; k++) {
            uint32_t pair;
            memcpy(&pair, lanes + 16 * t + 4 * (low + k / 2 * step), sizeof pair);
            line[k / 2 * 8 + 2 * t + k % 2] = half(pair, k % 2);
        }
}

static inline void emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2], emu_half *half)
{
    float rows[2][16], columns[2][16]; /* g and g + 8; 2t and 2t + 1 */
    unsigned g = emu_lane() / 4, t = emu_lane() % 4;
    const unsigned char *all = emu_show(0xffffffffu, a, 16);
    for (int i = 0; i < 2; i++)
        emu_line(rows[i], all + 16 * 4 * g, i, 2, half);
    all = emu_show(0xffffffffu, b, 8);
    for (unsigned i = 0; i < 2; i++)
        emu_line(columns[i], all + 16 * 4 * (2 * t + i), 0, 1, half);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++)
            d[i] += rows[i / 2][k] * columns[i % 2][k];
}

static inline void machine_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_mma(d, a, b, emu_half_bf16);
}
static inline void machine_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    emu_mma(d, a, b, emu_half_f16);
}

static inline uint32_t machine_bf16_pair(float first, float second)
{
    return machine_bf16_bits(first) | (uint32_t)machine_bf16_bits(second) << 16;
}
static inline uint32_t machine_f16_pair(float first, float second)
{
    return machine_f16_bits(first) | (uint32_t)machine_f16_bits(second) << 16;
}

static inline void emu_matrices(uint32_t to[4], const void *row, bool turned)
{
    if ((uintptr_t)row % 16)
        emu_stop("a row of a matrix at %p: not aligned to 16 bytes", row);
    const unsigned char *all = emu_show(0xffffffffu, &row, sizeof row);
    unsigned g = emu_lane() / 4, t = emu_lane() % 4;
    for (unsigned m = 0; m < 4; m++) {
        uint16_t pair[2];
        for (unsigned i = 0; i < 2; i++) {
            const uint16_t *from;
            memcpy(&from, all + 16 * (8 * m + (turned ? 2 * t + i : g)), sizeof from);
            pair[i] = from[turned ? g : 2 * t + i];
        }
        to[m] = pair[0] | (uint32_t)pair[1] << 16;
    }
}
static inline void machine_matrices(uint32_t to[4], const void *row)
{
    emu_matrices(to, row, false);
}
static inline void machine_matrices_turned(uint32_t to[4], const void *row)
{
    emu_matrices(to, row, true);
}

template <int BYTES> static inline void machine_copy_async(void *to, const void *from, bool there)
{
    static_assert(BYTES == 8 || BYTES == 16, "the sizes in use");
    emu_copy_begin(to, from, BYTES, there);
}
static inline void machine_copies_end()
{
    emu_copies_end();
}
template <int PENDING> static inline void machine_copies_wait()
{
    emu_copies_wait(PENDING);
}

static inline float machine_exp2(float x)
{
    return exp2f(x);
}

#endif
