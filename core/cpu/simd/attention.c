/*
 * attention -- out = softmax(q k^T scale) v in blocks, without the matrix of all scores (Dao et al.
 * 2022, "FlashAttention", algorithms 1 and 4; Dao 2023).
 *
 *               keys: S                           head    one (b, h): q [T, D], k and v [S, D]
 *             +-----+-----+-----+-----+           block   ROWS queries by COLUMNS keys; it is kept
 *   queries:  |  p  |  p  | p \ |     |                   with a row of memory for each key, so
 *   T         +-----+-----+-----+-----+                   that a vector holds queries: maxima and
 *             |  p  |  p  |  p  | p \ |                   sums over keys never cross a vector
 *             +-----+-----+-----+-----+           task    some rows of blocks of one head
 *
 *             causal: blocks above the diagonal \ are skipped
 *
 * Forward: along a row of blocks, keep each query's maximum m so far, the sum l of e^(s - m), and
 * the sum of e^(s - m) v; where m grows, what was summed before is scaled down. lse = m + log l.
 *
 * Backward: p = e^(s - lse) again; with dp = g v^T and delta = sum of g out over D
 *     ds = p (dp - delta) scale     dv += p^T g     dk += ds^T q     dq += ds k
 *
 * All products are tiles in registers (tile.h). They want the right side by rows, so the queries of
 * a block (and their g) are transposed; the rest is read where it is. A query (forward) or a head
 * (backward) is computed by one thread in one order: the same bits on any number of threads. A
 * thread's memory grows with (T + S) D.
 *
 * A query that sees no key (causal, S < T) gives 0, with an lse of -inf.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/tile.h"

#define ROWS 32 /* whole vectors of any level and type */
#define COLUMNS 64
#define TASKS_PER_THREAD 4 /* of unequal size where causal: the last one shall be short */

typedef struct heads {
    int64_t batch, heads, rows, columns, width; /* B, H, T, S, D */
    bool causal;
    double scale;
} heads;

static heads heads_of(const tensor *q, const tensor *k, double scale, bool causal)
{
    return (heads){q->shape[0], q->shape[1], q->shape[2], k->shape[2], q->shape[3], causal, scale};
}

/* How many columns row i sees. */
static int64_t visible(const heads *h, int64_t i)
{
    if (!h->causal)
        return h->columns;
    return max_i64(0, min_i64(h->columns, i + h->columns - h->rows + 1));
}

/* Threads for so many products of T x S x D; 30 GB/s take as long as 200 GF/s for 3 bytes each. */
static int threads_for(const heads *h, int products)
{
    double flops = 2.0 * products * (double)(h->batch * h->heads) * (double)h->rows *
                   (double)h->columns * (double)h->width;
    return parallel_worth((int64_t)(flops / 7)) ? omp_get_max_threads() : 1;
}

/* Elements in a multiple of a cache line, so that no two threads share one. */
static int64_t whole_lines(int64_t elements)
{
    return round_up(elements, 16);
}

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

typedef struct F(rows) { /* of one head, in a tensor: row i is at[i * step .. + D] */
    T *at;               /* NULL: not wanted */
    int64_t step;
    bool add;
} F(rows);

static F(rows) F(rows_of)(const tensor *t, int64_t head, const heads *h)
{
    if (!t)
        return (F(rows)){0};
    int64_t place = head / h->heads * t->stride[0] + head % h->heads * t->stride[1];
    return (F(rows)){(T *)tensor_data(t) + place, t->stride[2], false};
}

/* The rows where they are if whole vectors fit into them, else a copy padded with zeros. */
static F(rows) F(whole_rows)(F(rows) rows, int64_t n, int64_t width, T *copy)
{
    int64_t padded = round_up(width, LANES(T));
    if (padded == width)
        return rows;
    for (int64_t i = 0; i < n; i++) {
        memcpy(copy + i * padded, rows.at + i * rows.step, (size_t)width * sizeof(T));
        memset(copy + i * padded + width, 0, (size_t)(padded - width) * sizeof(T));
    }
    return (F(rows)){copy, padded, false};
}

/* What one thread needs, one piece behind the other. */
static T *F(take)(T **memory, int64_t elements)
{
    T *piece = *memory;
    *memory += whole_lines(elements);
    return piece;
}

/* Keys first .. first + n against the queries from `row` on: what a query does not see counts
 * nothing, since e^-inf is 0. Key j is hidden from the queries i < j + T - S. */
static void F(hide)(T *scores, int64_t row, int64_t first, int64_t n, const heads *h)
{
    for (int64_t j = 0; h->causal && j < n; j++) {
        int64_t hidden = min_i64(ROWS, first + j + h->rows - h->columns - row);
        for (int64_t r = 0; r < hidden; r++)
            scores[j * ROWS + r] = -(T)INFINITY;
    }
}

/* to [D, ROWS]: n rows transposed, the rest 0. */
static void F(transpose_rows)(F(rows) from, int64_t first, int64_t n, int64_t width, T *to)
{
    F(transpose)(from.at + first * from.step, from.step, n, width, to, ROWS);
}

/* ---- forward ---- */

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
        F(vec) scale = F(powers)(F(load)(before + r) - shift), sum = F(load)(f->l + r) * scale;
        F(store)(factor + r, scale);
        for (int64_t j = 0; j < n; j++) {
            T *at = f->scores + j * ROWS + r;
            F(vec) power = F(powers)(F(load)(at) - shift);
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
    for (int64_t r = 0; r < n; r++) {
        T factor = f->l[r] == 0 ? 0 : 1 / f->l[r], *to = f->out.at + (first + r) * f->out.step;
        const T *from = f->sum + r * f->width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            to[i] = from[i] * factor;
        f->lse[first + r] = f->l[r] == 0 ? -(T)INFINITY : f->m[r] + (T)log(f->l[r]);
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

/* ---- backward ---- */

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
            F(vec) p = F(powers)(F(load)(at) * scale - shift);
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
