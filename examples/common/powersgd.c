/*
 * powersgd -- see powersgd.h.
 *
 * A factor is stored as its r columns, each contiguous: all loops over a row of M, or over a
 * column, run through memory in order.
 *
 *     thick   [P of matrix 0 | P of matrix 1 | .. | gradients that travel whole]     one message
 *     thin    [Q of matrix 0 | Q of matrix 1 | ..]                                   one message
 */
#include "examples/common/powersgd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct matrix {
    int64_t rows, cols;
    float *values;   /* the gradient; rows * cols */
    float *p, *q;    /* r columns of rows, of cols; q NULL: it travels whole, in p */
    float *error;    /* as values; NULL where it travels whole */
    uint64_t random; /* state of its generator */
} matrix;

struct powersgd {
    int rank, n; /* n: matrices; 0 before the first step */
    matrix *m;
    float *thick, *thin;
    int64_t thick_count, thin_count;
};

static void *zeroed(int64_t count, size_t size)
{
    void *p = calloc(count > 0 ? (size_t)count : 1, size);
    if (!p) {
        fprintf(stderr, "powersgd: no memory for %lld x %zu bytes\n", (long long)count, size);
        abort();
    }
    return p;
}

powersgd *powersgd_new(int rank)
{
    powersgd *s = rank >= 1 ? calloc(1, sizeof *s) : NULL;
    if (s)
        s->rank = rank;
    return s;
}

void powersgd_free(powersgd *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        free(s->m[i].error);
    free(s->m);
    free(s->thick);
    free(s->thin);
    free(s);
}

/* ---- the first step: what is compressed, and where its factors are ---- */

static matrix matrix_of(const torc_gradient *g, int number)
{
    matrix m = {.rows = 1, .cols = 1, .values = g->values, .random = (uint64_t)number << 32};
    for (int i = 0; i < g->shape.ndim; i++)
        *(i ? &m.cols : &m.rows) *= g->shape.dim[i];
    return m;
}

/* Of vectors too cols is 1, and factors of rank 1 are larger. */
static int gets_smaller(const matrix *m, int rank)
{
    return rank * (m->rows + m->cols) < m->rows * m->cols;
}

static void lay_out(powersgd *s, const torc_gradient *gradients, int n)
{
    s->n = n;
    s->m = zeroed(n, sizeof *s->m);
    for (int i = 0; i < n; i++) {
        matrix *m = &s->m[i];
        *m = matrix_of(&gradients[i], i);
        int small = gets_smaller(m, s->rank);
        s->thick_count += small ? s->rank * m->rows : m->rows * m->cols;
        s->thin_count += small ? s->rank * m->cols : 0;
        m->error = small ? zeroed(m->rows * m->cols, sizeof *m->error) : NULL;
    }
    float *thick = s->thick = zeroed(s->thick_count, sizeof *s->thick);
    float *thin = s->thin = zeroed(s->thin_count, sizeof *s->thin);
    for (int i = 0; i < n; i++) {
        matrix *m = &s->m[i];
        m->p = thick;
        m->q = m->error ? thin : NULL;
        thick += m->error ? s->rank * m->rows : m->rows * m->cols;
        thin += m->error ? s->rank * m->cols : 0;
    }
}

/* ---- vectors ---- */

/* Sixteen partial sums, which the compiler may keep in vector registers: it must not reorder one.
 */
static float dot(const float *a, const float *b, int64_t n)
{
    enum { LANES = 16 };
    float lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        lane[i % LANES] += a[i] * b[i];
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

/* y += factor x */
static void add_multiple(float *y, float factor, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

/* To length 1; the zero vector stays. In double, where squares of small gradients are not 0. */
static void normalise(float *x, int64_t n)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    double factor = squares > 0 ? 1 / sqrt(squares) : 0;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(factor * x[i]);
}

/* Modified Gram-Schmidt. Where M has fewer than r directions, what is left of a column is rounding,
 * which made to length 1 is no longer orthogonal to the others, and their part of the gradient
 * would be counted twice: so each column goes through it again ("twice is enough", Kahan). */
static void orthogonalise(float *p, int64_t rows, int rank)
{
    for (int k = 0; k < rank; k++) {
        float *column = p + k * rows;
        normalise(column, rows);
        for (int again = 0; again < 2; again++) {
            for (int j = 0; j < k; j++)
                add_multiple(column, -dot(column, p + j * rows, rows), p + j * rows, rows);
            normalise(column, rows);
        }
    }
}

/* ---- random directions ---- */

/* splitmix64 (Steele, Lea, Flood 2014), as a number in [0, 1). */
static double uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* The sum of twelve has the variance 1, and, unlike logarithm and cosine, the same bits with every
 * mathematical library: ranks need not run on the same system. */
static float normal(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform(state);
    return (float)sum;
}

/* A column of Q that is 0 would stay so for ever, and one that is not finite as well: before the
 * first step, and after a gradient of zeros or NaN, it starts anew. Q is the same on every rank, so
 * all decide alike. */
static void renew(matrix *m, int rank)
{
    for (int k = 0; k < rank; k++) {
        float *column = m->q + k * m->cols, length = 0;
        for (int64_t j = 0; j < m->cols; j++)
            length += fabsf(column[j]);
        for (int64_t j = 0; j < m->cols && !(length > 0 && isfinite(length)); j++)
            column[j] = normal(&m->random);
    }
}

/* ---- the three parts of a step, between which the factors travel ---- */

/* M = G + E, in the gradient; P = M Q. */
static void project(matrix *m, int rank)
{
    renew(m, rank);
    for (int64_t i = 0; i < m->rows; i++) {
        float *row = m->values + i * m->cols;
        add_multiple(row, 1, m->error + i * m->cols, m->cols);
        for (int k = 0; k < rank; k++)
            m->p[k * m->rows + i] = dot(row, m->q + k * m->cols, m->cols);
    }
}

/* Q = M^T P. */
static void project_back(matrix *m, int rank)
{
    orthogonalise(m->p, m->rows, rank);
    memset(m->q, 0, (size_t)(rank * m->cols) * sizeof *m->q);
    for (int64_t i = 0; i < m->rows; i++)
        for (int k = 0; k < rank; k++)
            add_multiple(m->q + k * m->cols, m->p[k * m->rows + i], m->values + i * m->cols,
                         m->cols);
}

/* G = P Q^T, E = M - G. */
static void restore(matrix *m, int rank)
{
    for (int64_t i = 0; i < m->rows; i++) {
        float *row = m->values + i * m->cols, *error = m->error + i * m->cols;
        memcpy(error, row, (size_t)m->cols * sizeof *row);
        memset(row, 0, (size_t)m->cols * sizeof *row);
        for (int k = 0; k < rank; k++)
            add_multiple(row, m->p[k * m->rows + i], m->q + k * m->cols, m->cols);
        for (int64_t j = 0; j < m->cols; j++) {
            float left_out = error[j] - row[j];
            error[j] = isfinite(left_out) ? left_out : 0;
        }
    }
}

void powersgd_compress(torc_module *net, torc_gradient *gradients, int n, void *state)
{
    powersgd *s = state;
    if (s->n == 0)
        lay_out(s, gradients, n);
    for (int i = 0; i < n; i++) {
        matrix *m = &s->m[i];
        m->values = gradients[i].values;
        if (m->q)
            project(m, s->rank);
        else
            memcpy(m->p, m->values, (size_t)(m->rows * m->cols) * sizeof *m->p);
    }
    torc_ddp_mean(net, s->thick, s->thick_count);
    for (int i = 0; i < n; i++)
        if (s->m[i].q)
            project_back(&s->m[i], s->rank);
    torc_ddp_mean(net, s->thin, s->thin_count);
    for (int i = 0; i < n; i++) {
        matrix *m = &s->m[i];
        if (m->q)
            restore(m, s->rank);
        else
            memcpy(m->values, m->p, (size_t)(m->rows * m->cols) * sizeof *m->p);
    }
}
