/*
 * amx_emu -- the words of AMX that core/cpu/amx.c uses, by their definition (Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 2), for processors that lack them. Whatever the
 * shapes of tiles do not allow ends the program.
 */
#ifndef TORC_TESTS_AMX_EMU_H
#define TORC_TESTS_AMX_EMU_H

#include "core/cpu/amx.h"
#include "core/cpu/bf16.h"

#include <string.h>

static amx_shapes emu_shapes;
static unsigned char emu_tile[8][16][64];

static void emu_need(bool so, const char *what)
{
    if (!so)
        bug("AMX: %s", what);
}

static void emu_check(int t)
{
    emu_need(emu_shapes.palette == 1, "a tile without shapes");
    emu_need(emu_shapes.rows[t] <= 16 && emu_shapes.row_bytes[t] <= 64, "a tile of another shape");
}

static void emu_loadconfig(const void *from)
{
    memcpy(&emu_shapes, from, sizeof emu_shapes);
    memset(emu_tile, 0, sizeof emu_tile);
}

static void emu_storeconfig(void *to)
{
    memcpy(to, &emu_shapes, sizeof emu_shapes);
}

static void emu_zero(int t)
{
    emu_check(t);
    memset(emu_tile[t], 0, sizeof emu_tile[t]);
}

static void emu_load(int t, const void *base, long step)
{
    emu_zero(t);
    for (int i = 0; i < emu_shapes.rows[t]; i++)
        memcpy(emu_tile[t][i], (const char *)base + i * step, emu_shapes.row_bytes[t]);
}

static void emu_store(int t, void *base, long step)
{
    emu_check(t);
    for (int i = 0; i < emu_shapes.rows[t]; i++)
        memcpy((char *)base + i * step, emu_tile[t][i], emu_shapes.row_bytes[t]);
}

/* c += a b: row m of a and column n of b, whose row k has pairs 2k and 2k + 1 of the sum. */
static void emu_dots(int c, int a, int b)
{
    emu_check(c), emu_check(a), emu_check(b);
    emu_need(emu_shapes.row_bytes[a] / 4 == emu_shapes.rows[b], "inner dimensions differ");
    for (int m = 0; m < emu_shapes.rows[c]; m++)
        for (int k = 0; k < emu_shapes.rows[b]; k++)
            for (int n = 0; n < emu_shapes.row_bytes[c] / 4; n++) {
                uint16_t x[2], y[2];
                float sum;
                memcpy(x, emu_tile[a][m] + 4 * k, sizeof x);
                memcpy(y, emu_tile[b][k] + 4 * n, sizeof y);
                memcpy(&sum, emu_tile[c][m] + 4 * n, sizeof sum);
                for (int i = 0; i < 2; i++)
                    sum += bf16_to_f32(x[i]) * bf16_to_f32(y[i]);
                memcpy(emu_tile[c][m] + 4 * n, &sum, sizeof sum);
            }
}

#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emu_loadconfig
#define _tile_storeconfig emu_storeconfig
#define _tile_release() memset(&emu_shapes, 0, sizeof emu_shapes)
#define _tile_zero emu_zero
#define _tile_loadd emu_load
#define _tile_stored emu_store
#define _tile_dpbf16ps emu_dots

#endif
