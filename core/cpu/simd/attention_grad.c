/*
 * attention_grad -- the gradients of attention, block by block (Dao et al. 2022, algorithm 4).
 *
 *     p = e^(s - lse) again; with dp = g v^T and delta = sum of g out over D
 *     ds = p (dp - delta) scale     dv += p^T g     dk += ds^T q     dq += ds k
 *
 * The sums for dk and dv of a whole head stay in the thread's memory, so one head is one thread's:
 * fewer heads than threads leave threads idle.
 */
#ifndef T
#include "core/cpu/simd/attention.h"

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/attention_grad.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/attention_grad.c"

void SIMD(cpu_attention_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                              double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (q->dtype == TORC_F64)
        attention_grad_f64(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
    else
        attention_grad_f32(dq, dk, dv, g, out, tensor_data(lse), q, k, v, &h);
}

#else

typedef struct F(backward) {
    F(rows) q, k, v, g, out; /* q, k and g padded to whole vectors */
    F(rows) dq, dk, dv;
    const T *lse;
    int64_t width;               /* D padded */
    T *qt, *gt;                  /* [D, ROWS] */
    T *p, *ds;                   /* [COLUMNS, ROWS] */
    T *sum_dq, *sum_dk, *sum_dv; /* [ROWS or S, width] */
    T shift[ROWS], delta[ROWS];
} F(backward);

/* Scores in p and g v^T in ds become p and ds; n keys. */
static void F(score_grad)(F(backward) * f, int64_t n, T scale)
{
    for (int64_t r = 0; r < ROWS; r += LANES(T)) {
        F(vec) shift = F(load)(f->shift + r), delta = F(load)(f->delta + r);
        for (int64_t j = 0; j < n; j++) {
            T *at = f->p + j * ROWS + r, *ds = f->ds + j * ROWS + r;
            F(vec) p = F(exp)(F(load)(at) * scale - shift);
            F(store)(at, p);
            F(store)(ds, p * (F(load)(ds) - delta) * scale);
        }
    }
}

static void F(block_grad)(F(backward) * f, int64_t first, int64_t rows, int64_t column, int64_t n,
                          const heads *h)
{
    int64_t width = f->width;
    const T *k = f->k.at + column * f->k.step, *v = f->v.at + column * f->v.step;
    const T *q = f->q.at + first * f->q.step, *g = f->g.at + first * f->g.step;
    F(multiply)(n, ROWS, h->width, (F(left)){k, f->k.step, 1}, f->qt, ROWS, f->p, ROWS, false);
    F(multiply)(n, ROWS, h->width, (F(left)){v, f->v.step, 1}, f->gt, ROWS, f->ds, ROWS, false);
    F(hide)(f->p, first, column, n, h);
    F(score_grad)(f, n, (T)h->scale);
    F(multiply)
    (n, width, rows, (F(left)){f->p, ROWS, 1}, g, f->g.step, f->sum_dv + column * width, width,
     true);
    F(multiply)
    (n, width, rows, (F(left)){f->ds, ROWS, 1}, q, f->q.step, f->sum_dk + column * width, width,
     true);
    F(multiply)(rows, width, n, (F(left)){f->ds, 1, ROWS}, k, f->k.step, f->sum_dq, width, true);
}

static void F(give_rows)(F(rows) to, int64_t first, int64_t n, const T *from, int64_t from_row,
                         int64_t width)
{
    for (int64_t r = 0; to.at && r < n; r++) {
        T *row = to.at + (first + r) * to.step;
        const T *values = from + r * from_row;
        if (to.add)
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                row[i] += values[i];
        else
            memcpy(row, values, (size_t)width * sizeof(T));
    }
}

/* What the block of rows needs: transposed queries and g, lse and delta a lane. */
static void F(start_rows)(F(backward) * f, int64_t first, int64_t rows, const heads *h)
{
    F(transpose_rows)(f->q, first, rows, h->width, f->qt);
    F(transpose_rows)(f->g, first, rows, h->width, f->gt);
    memset(f->sum_dq, 0, (size_t)(ROWS * f->width) * sizeof(T));
    memset(f->shift, 0, sizeof f->shift);
    memset(f->delta, 0, sizeof f->delta);
    for (int64_t r = 0; r < rows; r++) {
        const T *g = f->g.at + (first + r) * f->g.step, lse = f->lse[first + r];
        const T *out = f->out.at + (first + r) * f->out.step;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < h->width; i++)
            sum += g[i] * out[i];
        f->delta[r] = sum;
        f->shift[r] = isinf(lse) ? 0 : lse;
    }
}

static void F(head_grad)(F(backward) * f, const heads *h)
{
    int64_t width = f->width;
    memset(f->sum_dk, 0, (size_t)(h->columns * width) * sizeof(T));
    memset(f->sum_dv, 0, (size_t)(h->columns * width) * sizeof(T));
    for (int64_t first = 0; first < h->rows; first += ROWS) {
        int64_t rows = min_i64(ROWS, h->rows - first), end = visible(h, first + rows - 1);
        F(start_rows)(f, first, rows, h);
        for (int64_t column = 0; column < end; column += COLUMNS)
            F(block_grad)(f, first, rows, column, min_i64(COLUMNS, end - column), h);
        F(give_rows)(f->dq, first, rows, f->sum_dq, width, h->width);
    }
    F(give_rows)(f->dk, 0, h->columns, f->sum_dk, width, h->width);
    F(give_rows)(f->dv, 0, h->columns, f->sum_dv, width, h->width);
}

static int64_t F(backward_memory)(const heads *h)
{
    int64_t width = round_up(h->width, LANES(T));
    return 2 * whole_lines(h->width * ROWS) + 2 * whole_lines(COLUMNS * ROWS) +
           whole_lines(ROWS * width) + 3 * whole_lines(h->columns * width) +
           2 * whole_lines(h->rows * width);
}

/* The pieces of a thread's memory and the operands of one head; the sinks are the caller's. */
static F(backward)
    F(backward_of)(T *memory, const tensor *g, const tensor *out, const T *lse, const tensor *q,
                   const tensor *k, const tensor *v, int64_t head, const heads *h)
{
    int64_t width = round_up(h->width, LANES(T));
    F(backward) f = {.v = F(rows_of)(v, head, h), .out = F(rows_of)(out, head, h)};
    f.lse = lse + head * h->rows;
    f.width = width;
    f.qt = F(take)(&memory, h->width * ROWS);
    f.gt = F(take)(&memory, h->width * ROWS);
    f.p = F(take)(&memory, COLUMNS * ROWS);
    f.ds = F(take)(&memory, COLUMNS * ROWS);
    f.sum_dq = F(take)(&memory, ROWS * width);
    f.sum_dk = F(take)(&memory, h->columns * width);
    f.sum_dv = F(take)(&memory, h->columns * width);
    f.k = F(whole_rows)(F(rows_of)(k, head, h), h->columns, h->width,
                        F(take)(&memory, h->columns * width));
    f.q =
        F(whole_rows)(F(rows_of)(q, head, h), h->rows, h->width, F(take)(&memory, h->rows * width));
    f.g =
        F(whole_rows)(F(rows_of)(g, head, h), h->rows, h->width, F(take)(&memory, h->rows * width));
    return f;
}

static F(rows) F(sink_of)(sink s, int64_t head, const heads *h)
{
    F(rows) rows = F(rows_of)(s.t, head, h);
    rows.add = s.add;
    return rows;
}

static void F(attention_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const T *lse, const tensor *q, const tensor *k, const tensor *v,
                              const heads *h)
{
    int threads = threads_for(h, 5);
    int64_t count = h->batch * h->heads, size = F(backward_memory)(h);
    T *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size) * sizeof(T));
#pragma omp parallel for schedule(dynamic) if (threads > 1)
    for (int64_t head = 0; head < count; head++) {
        F(backward)
        f = F(backward_of)(memory + omp_get_thread_num() * size, g, out, lse, q, k, v, head, h);
        f.dq = F(sink_of)(dq, head, h);
        f.dk = F(sink_of)(dk, head, h);
        f.dv = F(sink_of)(dv, head, h);
        F(head_grad)(&f, h);
    }
}

#undef T
#undef F
#endif
