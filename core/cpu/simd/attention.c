/*
 * attention -- out = softmax(q k^T scale) v in blocks, without the matrix of all scores (Dao et al.
 * 2022, "FlashAttention", algorithm 1).
 *
 * Along a row of blocks, each query keeps its maximum m so far, the sum l of e^(s - m), and the sum
 * of e^(s - m) v; where m grows, what was summed before is scaled down. At the end out is the last
 * over l, and lse = m + log l. A query that sees no key (causal, S < T) gives 0, with an lse of
 * -inf.
 *
 * A task is some rows of blocks of one head: few long heads still keep all threads at work.
 */
#ifndef T
#include "core/cpu/simd/attention.h"
#include "core/cpu/simd/attention_low.h"
#include "core/cpu/simd/vmath.h"

/* In the lanes of a vector, in any loop under omp simd. */
#define log_f32 logf
#define log_f64 log

#define EACH "core/cpu/simd/attention.c"
#include "core/cpu/simd/each_wide.h"
#undef EACH

void SIMD(cpu_attention)(tensor *out, tensor *lse, const tensor *q, const tensor *k,
                         const tensor *v, double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (q->dtype == TORC_F64)
        attention_f64(out, tensor_data(lse), q, k, v, &h);
    else if (q->dtype == TORC_BF16)
        SIMD(attention_low)(out, tensor_data(lse), q, k, v, &h);
    else
        attention_f32(out, tensor_data(lse), q, k, v, &h);
}

#else

typedef struct F(forward) {
    F(rows) q, out;
    F(wide_rows) k, v;
    T *lse;
    int64_t width;        /* D padded */
    T *qt, *scores, *sum; /* [D, ROWS], [COLUMNS, ROWS], [ROWS, width] */
    T m[ROWS], l[ROWS];
} F(forward);

/* m = the maximum of what it was and of the block's scores, which are hidden where unseen. Four at
 * a time: one after the other would wait for each other. */
static void F(next_maxima)(F(forward) * f, const block *b, const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += LANES(T)) {
        int64_t j = 0, n = F(held)(h, b, r);
        F(vec) largest = F(load)(f->m + r);
        F(hide)(f->scores, r, b, h);
        for (const T *at = f->scores + r; j + 4 <= n; j += 4, at += 4 * ROWS) {
            F(vec) even = F(larger)(F(load)(at), F(load)(at + ROWS));
            F(vec) odd = F(larger)(F(load)(at + 2 * ROWS), F(load)(at + 3 * ROWS));
            largest = F(larger)(F(larger)(even, odd), largest);
        }
        for (; j < n; j++)
            largest = F(larger)(F(load)(f->scores + j * ROWS + r), largest);
        F(store)(f->m + r, largest);
    }
}

/* Scores to powers; l moves on. To `factor`: what the sums so far are to be scaled with. */
static void F(next_powers)(F(forward) * f, const T *before, T *factor, const block *b,
                           const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += LANES(T)) {
        F(vec) m = F(load)(f->m + r), shift = F(unless)(m, m - m != 0); /* inf - inf is no number */
        F(vec) scale = F(power)(F(load)(before + r) - shift), sum = F(load)(f->l + r) * scale;
        F(store)(factor + r, scale);
        for (int64_t j = 0, n = F(held)(h, b, r); j < n; j++) {
            T *at = f->scores + j * ROWS + r;
            F(vec) power = F(power)(F(load)(at) - shift);
            F(store)(at, power);
            sum += power;
        }
        F(store)(f->l + r, sum);
    }
}

static void F(scale_sums)(F(forward) * f, const T *factor, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; factor[r] != 1 && i < f->width; i += LANES(T))
            F(store)(f->sum + r * f->width + i, F(load)(f->sum + r * f->width + i) * factor[r]);
}

static void F(next_block)(F(forward) * f, const block *b, const heads *h)
{
    T before[ROWS], factor[ROWS];
    bool first = b->column == 0;
    F(wide_rows) k = f->k, v = f->v;
    k.at += b->column * k.step;
    v.at += b->column * v.step;
    memcpy(before, f->m, sizeof before);
    F(scores)(k, f->qt, f->scores, b, h);
    F(next_maxima)(f, b, h);
    F(next_powers)(f, before, factor, b, h);
    if (!first)
        F(scale_sums)(f, factor, b->rows);
    F(by_rows)(f->scores, v, f->sum, f->width, !first, b, h);
}

/* l is 0 where nothing was seen: its logarithm is -inf. */
static void F(write_rows)(F(forward) * f, const block *b, int64_t width)
{
    T lse[ROWS], factor[ROWS];
#pragma omp simd
    for (int r = 0; r < ROWS; r++) {
        lse[r] = (f->l[r] == 0 ? 0 : f->m[r] / F(unit)) + F(log)(f->l[r]);
        factor[r] = f->l[r] == 0 ? 0 : 1 / f->l[r];
    }
    memcpy(f->lse + b->row, lse, (size_t)b->rows * sizeof(T));
    E *to = f->out.at + b->row * f->out.step;
    for (int64_t r = 0; r < b->rows; r++, to += f->out.step)
        for (int64_t i = 0; i < width; i += LANES(T))
            F(store_some)(to + i, F(load)(f->sum + r * f->width + i) * factor[r], width - i);
}

static void F(forward_rows)(F(forward) * f, int64_t first, int64_t rows, const heads *h)
{
    int64_t end = visible(h, first + rows - 1);
    for (int64_t r = 0; r < ROWS; r++) {
        f->m[r] = -(T)INFINITY;
        f->l[r] = 0;
    }
    block b = {first, rows, 0, 0};
    F(turn_rows)(f->q, &b, h->width, (T)h->scale * F(unit), f->qt);
    if (end == 0)
        memset(f->sum, 0, (size_t)(rows * f->width) * sizeof(T));
    for (; b.column < end; b.column += COLUMNS) {
        b.columns = min_i64(COLUMNS, end - b.column);
        F(next_block)(f, &b, h);
    }
    F(write_rows)(f, &b, h->width);
}

static void F(forward_task)(T *memory, tensor *out, T *lse, const tensor *q, const tensor *k,
                            const tensor *v, int64_t head, part rows, const heads *h)
{
    F(forward) f = {.q = F(rows_of)(q, head, h), .out = F(rows_of)(out, head, h)};
    int64_t end = visible(h, rows.first + rows.n - 1);
    f.lse = lse + head * h->rows;
    f.width = F(padded)(h->width);
    f.qt = F(take)(&memory, h->width * ROWS);
    f.scores = F(take)(&memory, COLUMNS * ROWS);
    f.sum = F(take)(&memory, ROWS * f.width);
    T *room = F(take)(&memory, h->columns * f.width);
    f.k = F(widened)(F(rows_of)(k, head, h), 0, end, h->width, room);
    f.v = F(widened)(F(rows_of)(v, head, h), 0, end, h->width, memory);
    for (int64_t i = 0; i < rows.n; i += ROWS)
        F(forward_rows)(&f, rows.first + i, min_i64(ROWS, rows.n - i), h);
}

static int64_t F(forward_memory)(const heads *h)
{
    int64_t width = F(padded)(h->width);
    return whole_lines(h->width * ROWS) + whole_lines(COLUMNS * ROWS) + whole_lines(ROWS * width) +
           2 * whole_lines(h->columns * width);
}

static void F(attention)(tensor *out, T *lse, const tensor *q, const tensor *k, const tensor *v,
                         const heads *h)
{
    int threads = threads_for(h, 2);
    int64_t count = h->batch * h->heads, cut = task_size(h->rows, ROWS, count, threads);
    int64_t tasks = part_count(h->rows, cut), size = F(forward_memory)(h);
    T *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size) * sizeof(T));
#pragma omp parallel for collapse(2) schedule(dynamic) if (threads > 1)
    for (int64_t head = 0; head < count; head++)
        for (int64_t task = 0; task < tasks; task++)
            F(forward_task)
    (memory + omp_get_thread_num() * size, out, lse, q, k, v, head, part_of(h->rows, cut, task), h);
}

#undef T
#undef E
#undef F
#endif
