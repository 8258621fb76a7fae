/*
 * Products by AMX against sums in double: by the processor where it has AMX, and by its definition
 * (amx_emu.h) anywhere. Operands are small integers, so that every sum is exact in any order.
 */
#include "core/torc.h"

#include "core/cpu/amx.h"
#include "core/cpu/bf16.h"
#include "tests/harness.h"

#include <immintrin.h>

/* The file under test, once more, with other words. */
#include "tests/amx_emu.h"
#define amx_here emulated_here
#define amx_begin emulated_begin
#define amx_end emulated_end
#define amx_multiply emulated_multiply
#include "core/cpu/amx.c"
#undef amx_here
#undef amx_begin
#undef amx_end
#undef amx_multiply

#include <stdlib.h>

typedef struct engine {
    amx_shapes (*begin)(void);
    void (*end)(amx_shapes *before);
    void (*multiply)(int64_t m, int64_t n, int64_t k, const uint16_t *a, int64_t a_row,
                     const uint32_t *b, int64_t b_row, float *c, int64_t c_row, bool add);
} engine;

enum { GAP = 16 }; /* between rows: nobody reads or writes there */

static int number(int64_t i)
{
    return (int)(i * 2654435761u % 17) - 8;
}

typedef struct problem {
    int64_t m, n, k;
    uint16_t *a;
    uint32_t *b;
    float *c;
} problem;

static problem problem_of(int64_t m, int64_t n, int64_t k)
{
    problem p = {m,
                 n,
                 k,
                 malloc((size_t)(m * (k + GAP)) * 2 + 1),
                 malloc((size_t)(k / 2 * (n + GAP)) * 4 + 1),
                 malloc((size_t)(m * (n + GAP)) * 4)};
    for (int64_t i = 0; i < m * (k + GAP); i++)
        p.a[i] = bf16_from_f32((float)number(i));
    for (int64_t i = 0; i < k / 2 * (n + GAP); i++)
        p.b[i] = (uint32_t)bf16_from_f32((float)number(3 * i)) |
                 (uint32_t)bf16_from_f32((float)number(3 * i + 1)) << 16;
    for (int64_t i = 0; i < m * (n + GAP); i++)
        p.c[i] = (float)i;
    return p;
}

static double expected(const problem *p, int64_t i, int64_t j, bool add)
{
    double sum = add ? (double)(i * (p->n + GAP) + j) : 0;
    for (int64_t k = 0; k < p->k; k++) {
        uint32_t pair = p->b[k / 2 * (p->n + GAP) + j];
        sum += (double)bf16_to_f32(p->a[i * (p->k + GAP) + k]) *
               (double)bf16_to_f32((uint16_t)(k % 2 ? pair >> 16 : pair));
    }
    return sum;
}

static void check(engine e, int64_t m, int64_t n, int64_t k, bool add)
{
    problem p = problem_of(m, n, k);
    amx_shapes before = e.begin();
    e.multiply(m, n, k, p.a, k + GAP, p.b, n + GAP, p.c, n + GAP, add);
    e.end(&before);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n + GAP; j++)
            CHECK(p.c[i * (n + GAP) + j] ==
                  (j < n ? expected(&p, i, j, add) : (double)(i * (n + GAP) + j)));
    free(p.a);
    free(p.b);
    free(p.c);
}

static void check_sizes(engine e)
{
    const int64_t sizes[][3] = {{16, 16, 32}, {32, 32, 64}, {48, 16, 32}, {16, 48, 96},
                                {80, 48, 64}, {64, 64, 0},  {0, 32, 32}};
    for (int i = 0; i < ARRAY_LENGTH(sizes); i++)
        for (int add = 0; add < 2; add++)
            check(e, sizes[i][0], sizes[i][1], sizes[i][2], add);
}

TEST(products)
{
    check_sizes((engine){emulated_begin, emulated_end, emulated_multiply});
    if (amx_here())
        check_sizes((engine){amx_begin, amx_end, amx_multiply});
}

TEST(shapes_of_others_come_back)
{
    emu_shapes = (amx_shapes){.palette = 1, .rows = {3}, .row_bytes = {12}};
    amx_shapes theirs = emu_shapes;
    amx_shapes before = emulated_begin();
    CHECK(emu_shapes.rows[0] == 16 && emu_shapes.row_bytes[7] == 64);
    emulated_end(&before);
    CHECK(memcmp(&emu_shapes, &theirs, sizeof theirs) == 0);
}
