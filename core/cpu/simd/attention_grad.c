/*
 * attention_grad -- the gradients of attention, block by block (Dao et al. 2022, algorithm 4).
 *
 *     p = e^(s - lse) again; with dp = g v^T and delta = sum of g out over D
 *     ds = p (dp - delta)     dv += p^T g     dk += scale ds^T q     dq += scale ds k
 */
#ifndef T
#include "core/cpu/simd/attention.h"
#include "core/cpu/simd/attention_low.h"
#include "core/cpu/simd/heads_grad.h"

#define EACH "core/cpu/simd/attention_grad.c"
#include "core/cpu/simd/each_wide.h"
#undef EACH

void SIMD(cpu_attention_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                              double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (q->dtype == TORC_F64)
        attention_grad_f64(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
    else if (q->dtype == TORC_BF16)
        SIMD(attention_low_grad)(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
    else
        attention_grad_f32(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
}

#else

typedef struct F(backward) { /* of one task */
    F(rows) q, g, out;
    F(wide_rows) k, v; /* the task's columns */
    const T *lse;
    int64_t width;               /* D padded */
    T *qt, *gt;                  /* [D, ROWS] */
    T *q_room, *g_room;          /* [ROWS, width], where the rows are widened */
    T *p, *ds;                   /* [COLUMNS, ROWS] */
    T *sum_dq, *sum_dk, *sum_dv; /* [ROWS, width], of the task's columns */
    T shift[ROWS], delta[ROWS];
} F(backward);

/* Scores in p and g v^T in ds become p and ds. */
static void F(score_grad)(F(backward) * f, const block *b, const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += LANES(T)) {
        F(vec) shift = F(load)(f->shift + r), delta = F(load)(f->delta + r);
        F(hide)(f->p, r, b, h);
        for (int64_t j = 0, n = F(held)(h, b, r); j < n; j++) {
            T *at = f->p + j * ROWS + r, *ds = f->ds + j * ROWS + r;
            F(vec) p = F(power)(F(load)(at) - shift);
            F(store)(at, p);
            F(store)(ds, p * (F(load)(ds) - delta));
        }
    }
}

/* What the block's rows need: transposed queries and g, lse and delta a lane. */
static void F(start_rows)(F(backward) * f, const block *b, const heads *h)
{
    F(turn_rows)(f->q, b, h->width, (T)h->scale * F(unit), f->qt);
    F(turn_rows)(f->g, b, h->width, 1, f->gt);
    memset(f->sum_dq, 0, (size_t)(b->rows * f->width) * sizeof(T));
    for (int64_t r = 0; r < b->rows; r += LANES(T))
        F(row_products)
    (f->g.at + (b->row + r) * f->g.step, f->g.step, f->out.at + (b->row + r) * f->out.step,
     f->out.step, min_i64(LANES(T), b->rows - r), h->width, f->delta + r);
    for (int64_t r = 0; r < ROWS; r++) {
        T lse = r < b->rows ? f->lse[b->row + r] : 0;
        f->shift[r] = isinf(lse) ? 0 : lse * F(unit);
    }
}

/* b's columns are the task's from `place` on; q and g are the block's rows. */
static void F(block_grad)(F(backward) * f, F(wide_rows) q, F(wide_rows) g, int64_t place,
                          const block *b, const wanted *w, const heads *h)
{
    F(wide_rows) k = {f->k.at + place * f->k.step, f->k.step};
    F(wide_rows) v = {f->v.at + place * f->v.step, f->v.step};
    F(scores)(k, f->qt, f->p, b, h);
    F(scores)(v, f->gt, f->ds, b, h);
    F(score_grad)(f, b, h);
    if (w->dv)
        F(by_keys)(f->p, g, f->sum_dv + place * f->width, f->width, b, h);
    if (w->dk)
        F(by_keys)(f->ds, q, f->sum_dk + place * f->width, f->width, b, h);
    if (w->dq)
        F(by_rows)(f->ds, k, f->sum_dq, f->width, true, b, h);
}

/* A row of blocks: those of the task's columns. */
static void F(row_grad)(F(backward) * f, part rows, const wanted *w, const heads *h)
{
    part columns = w->columns;
    int64_t end = min_i64(columns.first + columns.n, visible(h, rows.first + rows.n - 1));
    block b = {rows.first, rows.n, columns.first, 0};
    F(start_rows)(f, &b, h);
    F(wide_rows) q = F(widened)(f->q, rows.first, rows.n, h->width, f->q_room);
    F(wide_rows) g = F(widened)(f->g, rows.first, rows.n, h->width, f->g_room);
    for (; b.column < end; b.column += COLUMNS) {
        b.columns = min_i64(COLUMNS, end - b.column);
        F(block_grad)(f, q, g, b.column - columns.first, &b, w, h);
    }
}

static void F(task_grad)(F(backward) * f, sink dq, sink dk, sink dv, int64_t head, const wanted *w,
                         const heads *h)
{
    int64_t width = f->width, end = w->rows.first + w->rows.n;
    T scale = (T)h->scale;
    memset(f->sum_dk, 0, (size_t)(w->columns.n * width) * sizeof(T));
    memset(f->sum_dv, 0, (size_t)(w->columns.n * width) * sizeof(T));
    for (int64_t first = w->rows.first; first < end; first += ROWS) {
        part rows = {first, min_i64(ROWS, end - first)};
        if (!w->dq && visible(h, first + rows.n - 1) <= w->columns.first)
            continue;
        F(row_grad)(f, rows, w, h);
        if (w->dq)
            F(give_rows)(dq, head, first, rows.n, f->sum_dq, scale, width, h);
    }
    if (w->dk)
        F(give_rows)(dk, head, w->columns.first, w->columns.n, f->sum_dk, scale, width, h);
    if (w->dv)
        F(give_rows)(dv, head, w->columns.first, w->columns.n, f->sum_dv, 1, width, h);
}

static int64_t F(backward_memory)(const heads *h)
{
    int64_t width = F(padded)(h->width);
    return 2 * whole_lines(h->width * ROWS) + 2 * whole_lines(COLUMNS * ROWS) +
           3 * whole_lines(ROWS * width) + 4 * whole_lines(h->columns * width);
}

/* The pieces of a thread's memory and the operands of a task. */
static F(backward)
    F(backward_of)(T *memory, const tensor *g, const tensor *out, const T *lse, const tensor *q,
                   const tensor *k, const tensor *v, int64_t head, part columns, const heads *h)
{
    int64_t width = F(padded)(h->width);
    F(backward) f = {.q = F(rows_of)(q, head, h), .g = F(rows_of)(g, head, h)};
    f.out = F(rows_of)(out, head, h);
    f.lse = lse + head * h->rows;
    f.width = width;
    f.qt = F(take)(&memory, h->width * ROWS);
    f.gt = F(take)(&memory, h->width * ROWS);
    f.p = F(take)(&memory, COLUMNS * ROWS);
    f.ds = F(take)(&memory, COLUMNS * ROWS);
    f.q_room = F(take)(&memory, ROWS * width);
    f.g_room = F(take)(&memory, ROWS * width);
    f.sum_dq = F(take)(&memory, ROWS * width);
    f.sum_dk = F(take)(&memory, columns.n * width);
    f.sum_dv = F(take)(&memory, columns.n * width);
    f.k = F(widened)(F(rows_of)(k, head, h), columns.first, columns.n, h->width,
                     F(take)(&memory, columns.n * width));
    f.v = F(widened)(F(rows_of)(v, head, h), columns.first, columns.n, h->width, memory);
    return f;
}

static void F(attention_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const T *lse, const tensor *q, const tensor *k, const tensor *v,
                              const heads *h)
{
    int threads = threads_for(h, 5);
    cuts c = cuts_of(h, threads);
    int64_t tasks = h->batch * h->heads * c.tasks, size = F(backward_memory)(h);
    T *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size) * sizeof(T));
#pragma omp parallel for schedule(dynamic) if (threads > 1)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t head = task / c.tasks;
        wanted w = task_of(h, &c, task % c.tasks, dq, dk, dv);
        T *mine = memory + omp_get_thread_num() * size;
        F(backward) f = F(backward_of)(mine, g, out, lse, q, k, v, head, w.columns, h);
        F(task_grad)(&f, dq, dk, dv, head, &w, h);
    }
}

#undef T
#undef E
#undef F
#endif
