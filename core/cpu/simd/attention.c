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
#include "core/cpu/simd/vmath.h"

#define TASKS_PER_THREAD 4 /* of unequal size where causal: the last one shall be short */

/* In the lanes of a vector, in any loop under omp simd. */
#define log_f32 logf
#define log_f64 log

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/attention.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/attention.c"

void SIMD(cpu_attention)(tensor *out, tensor *lse, const tensor *q, const tensor *k,
                         const tensor *v, double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (q->dtype == TORC_F64)
        attention_f64(out, tensor_data(lse), q, k, v, &h);
    else
        attention_f32(out, tensor_data(lse), q, k, v, &h);
}

#else

typedef struct F(forward) {
    F(rows) q, k, v, out; /* v padded to whole vectors */
    T *lse;
    int64_t width;        /* D padded */
    T *qt, *scores, *sum; /* [D, ROWS], [COLUMNS, ROWS], [ROWS, width] */
    T m[ROWS], l[ROWS];
} F(forward);

/* m = the maximum of what it was and of n scores, which get their scale. */
static void F(next_maxima)(F(forward) * f, int64_t n, T scale)
{
    for (int64_t r = 0; r < ROWS; r += LANES(T)) {
        F(vec) largest = F(load)(f->m + r);
        for (int64_t j = 0; j < n; j++) {
            T *at = f->scores + j * ROWS + r;
            F(vec) score = F(load)(at) * scale;
            F(store)(at, score);
            largest = F(larger)(score, largest);
        }
        F(store)(f->m + r, largest);
    }
}

/* Scores to powers; l and the sum of v move on. */
static void F(next_powers)(F(forward) * f, int64_t n, const T *before)
{
    T factor[ROWS];
    for (int64_t r = 0; r < ROWS; r += LANES(T)) {
        F(vec) m = F(load)(f->m + r), shift = F(unless)(m, m - m != 0); /* inf - inf is no number */
        F(vec) scale = F(exp)(F(load)(before + r) - shift), sum = F(load)(f->l + r) * scale;
        F(store)(factor + r, scale);
        for (int64_t j = 0; j < n; j++) {
            T *at = f->scores + j * ROWS + r;
            F(vec) power = F(exp)(F(load)(at) - shift);
            F(store)(at, power);
            sum += power;
        }
        F(store)(f->l + r, sum);
    }
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t i = 0; factor[r] != 1 && i < f->width; i += LANES(T))
            F(store)(f->sum + r * f->width + i, F(load)(f->sum + r * f->width + i) * factor[r]);
}

static void F(write_rows)(F(forward) * f, int64_t first, int64_t n, int64_t width)
{
    T lse[ROWS];
#pragma omp simd
    for (int r = 0; r < ROWS; r++) /* l is 0 where nothing was seen: its logarithm is -inf */
        lse[r] = (f->l[r] == 0 ? 0 : f->m[r]) + F(log)(f->l[r]);
    memcpy(f->lse + first, lse, (size_t)n * sizeof(T));
    for (int64_t r = 0; r < n; r++) {
        T factor = f->l[r] == 0 ? 0 : 1 / f->l[r], *to = f->out.at + (first + r) * f->out.step;
        for (int64_t i = 0; i < width; i += LANES(T))
            F(store_some)(to + i, F(load)(f->sum + r * f->width + i) * factor, width - i);
    }
}

static void F(forward_rows)(F(forward) * f, int64_t first, int64_t rows, const heads *h)
{
    int64_t end = visible(h, first + rows - 1);
    for (int64_t r = 0; r < ROWS; r++) {
        f->m[r] = -(T)INFINITY;
        f->l[r] = 0;
    }
    memset(f->sum, 0, (size_t)(ROWS * f->width) * sizeof(T));
    F(transpose_rows)(f->q, first, rows, h->width, f->qt);
    for (int64_t column = 0; column < end; column += COLUMNS) {
        int64_t n = min_i64(COLUMNS, end - column);
        T before[ROWS];
        F(left) k = {f->k.at + column * f->k.step, f->k.step, 1}, p = {f->scores, 1, ROWS};
        F(multiply)(n, ROWS, h->width, k, f->qt, ROWS, f->scores, ROWS, false);
        F(hide)(f->scores, first, column, n, h);
        memcpy(before, f->m, sizeof before);
        F(next_maxima)(f, n, (T)h->scale);
        F(next_powers)(f, n, before);
        F(multiply)
        (rows, f->width, n, p, f->v.at + column * f->v.step, f->v.step, f->sum, f->width, true);
    }
    F(write_rows)(f, first, rows, h->width);
}

static void F(forward_task)(T *memory, tensor *out, T *lse, const tensor *q, const tensor *k,
                            const tensor *v, int64_t head, part rows, const heads *h)
{
    F(forward) f = {.q = F(rows_of)(q, head, h), .k = F(rows_of)(k, head, h)};
    f.out = F(rows_of)(out, head, h);
    f.lse = lse + head * h->rows;
    f.width = round_up(h->width, LANES(T));
    f.qt = F(take)(&memory, h->width * ROWS);
    f.scores = F(take)(&memory, COLUMNS * ROWS);
    f.sum = F(take)(&memory, ROWS * f.width);
    f.v = F(whole_rows)(F(rows_of)(v, head, h), visible(h, rows.first + rows.n - 1), h->width,
                        memory);
    for (int64_t i = 0; i < rows.n; i += ROWS)
        F(forward_rows)(&f, rows.first + i, min_i64(ROWS, rows.n - i), h);
}

static int64_t F(forward_memory)(const heads *h)
{
    int64_t width = round_up(h->width, LANES(T));
    return whole_lines(h->width * ROWS) + whole_lines(COLUMNS * ROWS) + whole_lines(ROWS * width) +
           whole_lines(h->columns * width);
}

static void F(attention)(tensor *out, T *lse, const tensor *q, const tensor *k, const tensor *v,
                         const heads *h)
{
    int threads = threads_for(h, 2);
    int64_t count = h->batch * h->heads, blocks = part_count(h->rows, ROWS);
    int64_t cuts = part_count(TASKS_PER_THREAD * threads, max_i64(count, 1));
    int64_t cut = max_i64(1, part_count(blocks, cuts)) * ROWS;
    int64_t tasks = part_count(h->rows, cut), size = F(forward_memory)(h);
    T *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size) * sizeof(T));
#pragma omp parallel for collapse(2) schedule(dynamic) if (threads > 1)
    for (int64_t head = 0; head < count; head++)
        for (int64_t task = 0; task < tasks; task++)
            F(forward_task)
    (memory + omp_get_thread_num() * size, out, lse, q, k, v, head, part_of(h->rows, cut, task), h);
}

#undef T
#undef F
#endif
