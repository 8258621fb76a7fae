/*
 * amx -- products of bf16 by the tile registers of Intel's AMX: 16 x 16 results of f32 from 32
 * steps of the inner dimension, an instruction.
 *
 *     tile 0 | tile 1        0 .. 3 results, 4 and 5 rows of a, 6 and 7 columns of b: four products
 *     tile 2 | tile 3        for four loads
 *
 * The shapes of tiles are a state of the thread: amx_begin() sets it for the multiplications that
 * follow and amx_end() brings back what it was, which another library may count on.
 */
#ifndef TORC_CPU_AMX_H
#define TORC_CPU_AMX_H

#include "core/base.h"

enum { AMX_K = 32 }; /* the inner dimension is a multiple of it */

typedef struct amx_shapes { /* of tiles, as the instructions read them */
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_shapes;

/* Whether this processor has AMX for bf16, and the system lets the process use it. */
bool amx_here(void);
/* Returns the shapes that were set before. */
amx_shapes amx_begin(void);
void amx_end(amx_shapes *before);

/* c [m, n] (+)= a [m, k] b [k, n]: m and n multiples of 16, k of 32; distances between rows in
 * elements; b [k / 2, n] in pairs (core/cpu/simd/dots.h). */
void amx_multiply(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t a_row,
                  const uint32_t *b, int64_t b_row, float *c, int64_t c_row, bool add);

#endif
