/*
 * heads_grad -- what the backward kernels of attention share: how they are cut into tasks, delta,
 * and how gradients are given.
 *
 *     one task a head:                        too few heads for the threads:
 *
 *          dv dk                                        |    |  dv dk     a task: some columns
 *         +-----+                                     +-|----|-+
 *         |block| -> dq                               | v    v |     -----> dq   a task: some rows
 *         +-----+                                     +--------+
 *
 * On the right p and ds are computed twice, 7 products in place of 5, and every sum still takes its
 * blocks in the same order: the bits are those of the left.
 */
#ifndef TORC_CPU_SIMD_HEADS_GRAD_H
#define TORC_CPU_SIMD_HEADS_GRAD_H

#include "core/cpu/simd/heads.h"

typedef struct wanted { /* what a task is for */
    part rows, columns;
    bool dq, dk, dv;
} wanted;

/* How the work on a head is cut into tasks. */
typedef struct cuts {
    bool apart; /* rows for dq, then columns for dk and dv; else one task for all */
    int64_t rows, columns, tasks;
} cuts;

/* Threads that idle for 2/7 of the time cost as much as 7 products in place of 5. */
static inline cuts cuts_of(const heads *h, int threads)
{
    int64_t count = h->batch * h->heads, turns = part_count(count, threads);
    cuts c = {.apart = 7 * count < 5 * threads * turns, .tasks = 1};
    if (!c.apart)
        return c;
    c.rows = task_size(h->rows, ROWS, count, threads);
    c.columns = task_size(h->columns, COLUMNS, count, threads);
    c.tasks = part_count(h->rows, c.rows) + part_count(h->columns, c.columns);
    return c;
}

/* Of all gradients those that somebody wants. */
static inline wanted task_of(const heads *h, const cuts *c, int64_t task, sink dq, sink dk, sink dv)
{
    wanted all = {{0, h->rows}, {0, h->columns}, dq.t, dk.t, dv.t};
    if (!c->apart)
        return all;
    int64_t by_rows = part_count(h->rows, c->rows);
    if (task < by_rows)
        return (wanted){part_of(h->rows, c->rows, task), all.columns, dq.t, false, false};
    return (wanted){all.rows, part_of(h->columns, c->columns, task - by_rows), false, dk.t, dv.t};
}

#define EACH "core/cpu/simd/heads_grad.h"
#include "core/cpu/simd/each.h"

#elif defined T

/* delta [LANES] of n rows of g and out: a row's sums lane by lane, then those of all rows turned,
 * so that they are added without crossing a vector. */
static inline void F(row_products)(const E *g, int64_t g_step, const E *out, int64_t out_step,
                                   int64_t n, int64_t width, T *delta)
{
    F(vec) sum[VECTOR_BYTES / sizeof(T)] = {{0}};
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = 0; e < width; e += LANES(T))
            sum[i] += F(read_some)(g + i * g_step + e, width - e, 0) *
                      F(read_some)(out + i * out_step + e, width - e, 0);
    F(turn)(sum);
    for (int64_t half = LANES(T) / 2; half; half /= 2)
        for (int64_t i = 0; i < half; i++)
            sum[i] += sum[i + half];
    F(store)(delta, sum[0]);
}

/* A row of a gradient is, or gets, scale * from. `wide` and `add` are constants where this is
 * called. */
static ALWAYS_INLINE void F(give_row)(bool wide, bool add, void *row, const T *from, T scale,
                                      int64_t width)
{
    T *at = row;
    E *low = row;
    for (int64_t i = 0; i < width; i += LANES(T)) {
        F(vec) value = F(load)(from + i) * scale;
        if (add)
            value +=
                wide ? F(load_some)(at + i, width - i, 0) : F(read_some)(low + i, width - i, 0);
        if (wide)
            F(store_some)(at + i, value, width - i);
        else
            F(write_some)(low + i, value, width - i);
    }
}

/* Rows first .. first + n. They may be of T where the operands are of E: the gradient of an f32
 * input of which a bf16 copy was taken. */
static inline void F(give_rows)(sink to, int64_t head, int64_t first, int64_t n, const T *from,
                                T scale, int64_t padded, const heads *h)
{
    size_t size = tensor_item_size(to.t);
    char *row = tensor_data(to.t);
    row += (F(place)(to.t, head, h) + first * to.t->stride[2]) * (int64_t)size;
    int64_t step = to.t->stride[2] * (int64_t)size;
    for (int64_t r = 0; r < n; r++, row += step, from += padded)
        if (to.add)
            F(give_row)(size == sizeof(T), true, row, from, scale, h->width);
        else
            F(give_row)(size == sizeof(T), false, row, from, scale, h->width);
}

#undef T
#undef E
#undef F
#endif
