/*
 * attention_grad -- the gradients of attention, block by block (Dao et al. 2022, algorithm 4).
 *
 *     p = e^(s - lse) again; with dp = g v^T and delta = sum of g out over D
 *     ds = p (dp - delta)     dv += p^T g     dk += scale ds^T q     dq += scale ds k
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
#ifndef T
#include "core/cpu/simd/attention.h"

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
static cuts cuts_of(const heads *h, int threads)
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

static wanted task_of(const heads *h, const cuts *c, int64_t task)
{
    wanted all = {{0, h->rows}, {0, h->columns}, true, true, true};
    if (!c->apart)
        return all;
    int64_t by_rows = part_count(h->rows, c->rows);
    if (task < by_rows)
        return (wanted){part_of(h->rows, c->rows, task), all.columns, true, false, false};
    return (wanted){all.rows, part_of(h->columns, c->columns, task - by_rows), false, true, true};
}

#define EACH "core/cpu/simd/attention_grad.c"
#include "core/cpu/simd/each.h"

void SIMD(cpu_attention_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                              double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (q->dtype == TORC_F64)
        attention_grad_f64(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
    else if (q->dtype == TORC_BF16)
        attention_grad_bf16(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
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

/* delta [LANES] of n rows of g and out: a row's sums lane by lane, then those of all rows turned,
 * so that they are added without crossing a vector. */
static void F(row_products)(const E *g, int64_t g_step, const E *out, int64_t out_step, int64_t n,
                            int64_t width, T *delta)
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
static void F(give_rows)(sink to, int64_t head, int64_t first, int64_t n, const T *from, T scale,
                         int64_t padded, const heads *h)
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
        wanted w = task_of(h, &c, task % c.tasks);
        w.dq = w.dq && dq.t;
        w.dk = w.dk && dk.t;
        w.dv = w.dv && dv.t;
        T *mine = memory + omp_get_thread_num() * size;
        F(backward) f = F(backward_of)(mine, g, out, lse, q, k, v, head, w.columns, h);
        F(task_grad)(&f, dq, dk, dv, head, &w, h);
    }
}

#undef T
#undef E
#undef F
#endif
