/*
 * activation -- the gradient through an activation and its sum over the rows, the gradient of the
 * bias before it, in one pass.
 *
 *     g, kept [M, N]      |--- part 0 ---|      dpre = act'(kept) g of a part, then, while that
 *                         |--- part 1 ---|      is in L2, its column sums, which are added to those
 *                         |     ...      |      of the other parts in order
 *
 * Parts depend on the shape alone: the same bits on any number of threads.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/vector.h"

#define PART_BYTES (256 * 1024) /* of dpre: with what it is made from, as much as fits into L2 */
#define COLUMNS 4               /* vectors of sums in registers */

#define EACH "core/cpu/simd/activation.c"
#include "core/cpu/simd/each.h"

typedef struct pass {
    tensor *dpre; /* NULL: sums of g */
    elementwise_op act;
    const tensor *kept, *g;
    int64_t size; /* of a part, in rows */
    char *sums;   /* [parts, N], f64 where g is, else f32; NULL: not wanted */
} pass;

static tensor rows_of(const tensor *t, part rows)
{
    tensor some = *t;
    some.shape[0] = rows.n;
    some.offset += rows.first * t->stride[0];
    return some;
}

static void sum_columns(const tensor *t, void *sums)
{
    if (t->dtype == TORC_F64)
        column_sums_f64(tensor_data(t), t->shape[0], t->shape[1], sums);
    else if (t->dtype == TORC_F32)
        column_sums_f32(tensor_data(t), t->shape[0], t->shape[1], sums);
    else
        column_sums_bf16(tensor_data(t), t->shape[0], t->shape[1], sums);
}

static void run_part(const pass *p, int64_t index)
{
    part rows = part_of(p->g->shape[0], p->size, index);
    tensor g = rows_of(p->g, rows), d = g;
    if (p->dpre) {
        tensor kept = rows_of(p->kept, rows);
        const tensor *in[] = {&kept, &kept, &g}; /* x, y, g: act' reads one of the first two */
        d = rows_of(p->dpre, rows);
        SIMD(cpu_elementwise)(p->act + 1, &d, 3, in, 0, 0, false);
    }
    size_t item = g.dtype == TORC_F64 ? sizeof(double) : sizeof(float);
    if (p->sums)
        sum_columns(&d, p->sums + (size_t)(index * g.shape[1]) * item);
}

/* Not in a region of one thread: what a part calls would open another in it, with a new thread. */
static void run_share(part mine, const pass *p)
{
    for (int64_t i = mine.first; i < mine.first + mine.n; i++)
        run_part(p, i);
}

/* dbias (+)= the rows of sums, in order. */
static void give(sink dbias, const pass *p, int64_t parts)
{
    int64_t n = p->g->shape[1];
    storage store = {.data = p->sums};
    tensor sums = {.ndim = 2,
                   .dtype = p->g->dtype == TORC_F64 ? TORC_F64 : TORC_F32,
                   .shape = {parts, n},
                   .stride = {n, 1},
                   .store = &store};
    tensor out = *dbias.t;
    out.ndim = 2;
    out.shape[0] = 1, out.shape[1] = n;
    out.stride[0] = n, out.stride[1] = dbias.t->stride[0];
    SIMD(cpu_reduce)(REDUCE_SUM, &out, &sums, 1, dbias.add);
}

void SIMD(cpu_activation_grad)(tensor *dpre, sink dbias, elementwise_op act, const tensor *kept,
                               const tensor *g)
{
    int64_t rows = g->shape[0], row_bytes = g->shape[1] * (int64_t)tensor_item_size(g);
    if (row_bytes == 0)
        return;
    pass p = {act == EW_NONE ? NULL : dpre, act, kept, g,
              .size = max_i64(1, PART_BYTES / row_bytes)};
    int64_t parts = part_count(rows, p.size);
    size_t item = g->dtype == TORC_F64 ? sizeof(double) : sizeof(float);
    if (dbias.t)
        p.sums = scratch(SCRATCH_PARTS, (size_t)(max_i64(parts, 1) * g->shape[1]) * item);
    if (dbias.t && parts == 0) {
        memset(p.sums, 0, (size_t)g->shape[1] * item);
        give(dbias, &p, 1);
    }
    PARALLEL(rows * row_bytes * 2, parts, 1, run_share, &p);
    if (dbias.t && parts > 0)
        give(dbias, &p, parts);
}

#else

/* Of n columns from x on, a multiple of a vector's width but for the last `width`. */
static ALWAYS_INLINE void F(strip_sums)(const E *x, int64_t rows, int64_t step, int vectors,
                                        int64_t width, T *sums)
{
    F(vec) sum[COLUMNS];
    for (int v = 0; v < vectors; v++)
        sum[v] = (F(vec)){0};
    for (int64_t i = 0; i < rows; i++, x += step)
        for (int v = 0; v < vectors; v++)
            sum[v] += F(read_some)(x + v * LANES(T), width - v * LANES(T), 0);
    for (int v = 0; v < vectors; v++)
        F(store_some)(sums + v * LANES(T), sum[v], width - v * LANES(T));
}

static void F(column_sums)(const E *x, int64_t rows, int64_t n, T *sums)
{
    int64_t j = 0, strip = COLUMNS * LANES(T);
    for (; j + strip <= n; j += strip)
        F(strip_sums)(x + j, rows, n, COLUMNS, strip, sums + j);
    for (; j < n; j += LANES(T))
        F(strip_sums)(x + j, rows, n, 1, min_i64(LANES(T), n - j), sums + j);
}

#undef T
#undef E
#undef F
#endif
