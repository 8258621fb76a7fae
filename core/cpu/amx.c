/* amx -- see amx.h. */
#include "core/cpu/amx.h"

#include <immintrin.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

enum { SIDE = 16, TILES = 8 };

/* Linux hands out the 8 KiB of tiles a thread only to processes that ask. */
static bool may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool amx_here(void)
{
    static atomic_int known; /* 1: no, 2: yes; the same whoever comes first */
    int here = atomic_load_explicit(&known, memory_order_relaxed);
    if (!here) {
        here = __builtin_cpu_supports("amx-bf16") && may_use_tiles() ? 2 : 1;
        atomic_store_explicit(&known, here, memory_order_relaxed);
    }
    return here == 2;
}

/* GCC 12 believes that these instructions read and write the first 8 bytes of the 64, and might
 * leave out what it does to the rest. */
static inline void settle(amx_shapes *s)
{
    __asm__ volatile("" : "+m"(*s));
}

amx_shapes amx_begin(void)
{
    amx_shapes before = {0}, all = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        all.rows[i] = SIDE;
        all.row_bytes[i] = 64;
    }
    settle(&before);
    _tile_storeconfig(&before);
    settle(&before);
    settle(&all);
    _tile_loadconfig(&all);
    return before;
}

void amx_end(amx_shapes *before)
{
    settle(before);
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}

/* 16 or 32 rows by 16 or 32 columns of c; tall and wide are constants where this is called. */
static ALWAYS_INLINE void block(bool tall, bool wide, int64_t k, const uint16_t *a, int64_t a_row,
                                const uint32_t *b, int64_t b_row, float *c, int64_t c_row, bool add)
{
    long a_step = (long)a_row * 2, b_step = (long)b_row * 4, c_step = (long)c_row * 4;
    float *below = c + SIDE * c_row;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (add) {
        _tile_loadd(0, c, c_step);
        if (wide)
            _tile_loadd(1, c + SIDE, c_step);
        if (tall)
            _tile_loadd(2, below, c_step);
        if (tall && wide)
            _tile_loadd(3, below + SIDE, c_step);
    }
    for (int64_t i = 0; i < k; i += AMX_K, a += AMX_K, b += AMX_K / 2 * b_row) {
        _tile_loadd(4, a, a_step);
        _tile_loadd(6, b, b_step);
        _tile_dpbf16ps(0, 4, 6);
        if (wide) {
            _tile_loadd(7, b + SIDE, b_step);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (tall) {
            _tile_loadd(5, a + SIDE * a_row, a_step);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (tall && wide)
            _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_step);
    if (wide)
        _tile_stored(1, c + SIDE, c_step);
    if (tall)
        _tile_stored(2, below, c_step);
    if (tall && wide)
        _tile_stored(3, below + SIDE, c_step);
}

static ALWAYS_INLINE void band(bool tall, int64_t n, int64_t k, const uint16_t *a, int64_t a_row,
                               const uint32_t *b, int64_t b_row, float *c, int64_t c_row, bool add)
{
    int64_t j = 0;
    for (; j + 2 * SIDE <= n; j += 2 * SIDE)
        block(tall, true, k, a, a_row, b + j, b_row, c + j, c_row, add);
    if (j < n)
        block(tall, false, k, a, a_row, b + j, b_row, c + j, c_row, add);
}

void amx_multiply(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t a_row,
                  const uint32_t *b, int64_t b_row, float *c, int64_t c_row, bool add)
{
    int64_t i = 0;
    for (; i + 2 * SIDE <= m; i += 2 * SIDE)
        band(true, n, k, a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, add);
    if (i < m)
        band(false, n, k, a + i * a_row, a_row, b, b_row, c + i * c_row, c_row, add);
}
