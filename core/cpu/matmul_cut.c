/*
 * matmul_cut -- products that are cut over the threads here and not by oneDNN: f64, which it does
 * not have, and f32 where the bits must not depend on the number of threads.
 */
#include "core/cpu/matmul.h"
#include "core/cpu/onednn.h"
#include "core/cpu/parallel.h"

/* ---- f64 ---- */

/* Row i of the product whose matrices start at the given elements. */
static void row_f64(const product *p, const double *a, const double *b, double *out, int64_t i)
{
    const double *bias = (const double *)p->bias;
    out += i * p->out.row;
    for (int64_t j = 0; j < p->n; j++)
        out[j] = (p->add ? out[j] : 0) + (bias ? bias[j] : 0);
    for (int64_t k = 0; k < p->k; k++) {
        double factor = a[i * p->a.row + k * p->a.column];
        const double *row = b + k * p->b.row;
        if (p->b.column == 1)
            for (int64_t j = 0; j < p->n; j++)
                out[j] += factor * row[j];
        else
            for (int64_t j = 0; j < p->n; j++)
                out[j] += factor * row[j * p->b.column];
    }
}

/* Where matrix `index` of the leading dimensions starts, in elements. */
static int64_t start_of(const product *p, const matrix *m, int64_t index)
{
    int64_t at = 0;
    for (int d = p->batches - 1; d >= 0; d--) {
        at += index % p->batch[d] * m->batch[d];
        index /= p->batch[d];
    }
    return at;
}

static double *double_at(const product *p, const matrix *m, int64_t index)
{
    return (double *)m->data + start_of(p, m, index);
}

static float *float_at(const product *p, const matrix *m, int64_t index)
{
    return (float *)m->data + start_of(p, m, index);
}

/* Rows of all matrices are shared out; each is computed in one order. */
void matmul_run_f64(const product *p)
{
    int64_t rows = p->m;
    for (int d = 0; d < p->batches; d++)
        rows *= p->batch[d];
#pragma omp parallel for schedule(static) if (parallel_worth(rows * p->n * p->k * 16))
    for (int64_t row = 0; row < rows; row++) {
        int64_t index = row / p->m;
        row_f64(p, double_at(p, &p->a, index), double_at(p, &p->b, index),
                double_at(p, &p->out, index), row % p->m);
    }
}

/* ---- f32 in blocks: the same bits on any number of threads ----
 *
 * With virtual ranks weights must not depend on the threads of a rank, and oneDNN cuts a long K
 * over them. So the rows of out, or its columns where they are more, are cut, by the shape alone,
 * and one thread computes a block: inside of a parallel region oneDNN uses no other. */

#define BLOCKS 16     /* of a matrix, at most: a rank of more threads than that gains no more */
#define BLOCK_ROWS 64 /* at least, lest packing the other matrix again for each cost too much */

static void add_bias_row(const product *p, float *out, int64_t first, int64_t n)
{
    const float *bias = (const float *)p->bias + first;
    for (int64_t j = 0; j < n; j++)
        out[j] = (p->add ? out[j] : 0) + bias[j];
}

/* Rows i .. i + m - 1 and columns j .. j + n - 1 of matrix `index`. */
static void run_block(const product *p, int64_t index, int64_t i, int64_t m, int64_t j, int64_t n)
{
    bool turn_a = p->a.column != 1, turn_b = p->b.column != 1;
    const float *a = float_at(p, &p->a, index) + i * p->a.row;
    const float *b = float_at(p, &p->b, index) + j * p->b.column;
    float *out = float_at(p, &p->out, index) + i * p->out.row + j;
    for (int64_t row = 0; p->bias && row < m; row++)
        add_bias_row(p, out + row * p->out.row, j, n);
    onednn_check(dnnl_sgemm(turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', m, n, p->k, 1, a,
                            turn_a ? p->a.column : p->a.row, b, turn_b ? p->b.column : p->b.row,
                            p->add || p->bias, out, p->out.row),
                 "multiply matrices");
}

/* What so many operations cost, as the bytes that would take as long (parallel.h). */
static bool worth_a_team(const product *p, int64_t matrices)
{
    return parallel_worth(
        (int64_t)(1.2 * (double)matrices * (double)p->m * (double)p->n * (double)p->k));
}

void matmul_run_blocks(const product *p)
{
    bool by_rows = p->m >= p->n;
    int64_t longest = by_rows ? p->m : p->n, matrices = 1;
    int64_t size = max_i64(BLOCK_ROWS, part_count(longest, BLOCKS));
    for (int d = 0; d < p->batches; d++)
        matrices *= p->batch[d];
    int64_t blocks = part_count(longest, size);
    int threads = omp_get_max_threads();
    bool together = worth_a_team(p, matrices);
    if (!together) /* oneDNN must not wake one either */
        omp_set_num_threads(1);
#pragma omp parallel for schedule(static) if (together)
    for (int64_t k = 0; k < matrices * blocks; k++) {
        part cut = part_of(longest, size, k % blocks);
        if (by_rows)
            run_block(p, k / blocks, cut.first, cut.n, 0, p->n);
        else
            run_block(p, k / blocks, 0, p->m, cut.first, cut.n);
    }
    omp_set_num_threads(threads);
}
