/* product -- see product.h. */
#include "core/product.h"

#include <string.h>

static matrix matrix_of(const tensor *t)
{
    int leading = t->ndim - 2;
    matrix m = {
        .data = tensor_data(t), .row = t->stride[leading], .column = t->stride[leading + 1]};
    memcpy(m.batch, t->stride, (size_t)leading * sizeof *m.batch);
    return m;
}

/* The distance between rows of a matrix by rows, or 0 if it is not one. A dimension of 1 may claim
 * any stride. */
static int64_t row_distance(const matrix *m, int64_t rows, int64_t columns)
{
    if (m->column != 1 && columns > 1)
        return 0;
    if (rows == 1)
        return max_i64(columns, 1);
    return m->row >= columns ? m->row : 0;
}

/* The transpose: the same memory read the other way. */
static matrix turned(matrix m)
{
    int64_t row = m.row;
    m.row = m.column;
    m.column = row;
    return m;
}

/* Strides as oneDNN wants them: dimensions of 1 have one that fits. */
static void settle_strides(matrix *m, int64_t rows, int64_t columns)
{
    int64_t distance = row_distance(m, rows, columns);
    if (distance) {
        m->row = distance;
        m->column = 1;
        return;
    }
    matrix t = turned(*m);
    distance = row_distance(&t, columns, rows);
    if (!distance)
        bug("a matrix [%lld, %lld] of strides %lld, %lld", (long long)rows, (long long)columns,
            (long long)m->row, (long long)m->column);
    m->row = 1;
    m->column = distance;
}

/* out^T = b^T a^T, which is by rows where out is by columns. */
static void turn_product(product *p)
{
    int64_t m = p->m;
    matrix a = p->a;
    p->m = p->n;
    p->n = m;
    p->a = turned(p->b);
    p->b = turned(a);
    p->out = turned(p->out);
}

/* Drops leading dimensions of 1 and joins neighbours that are one run in all three. */
static void join_batches(product *p)
{
    matrix *const all[] = {&p->a, &p->b, &p->out};
    int kept = 0;
    for (int d = 0; d < p->batches; d++) {
        if (p->batch[d] == 1)
            continue;
        bool run = kept > 0;
        for (int i = 0; i < 3 && run; i++)
            run = all[i]->batch[kept - 1] == all[i]->batch[d] * p->batch[d];
        int to = run ? kept - 1 : kept++;
        p->batch[to] = run ? p->batch[to] * p->batch[d] : p->batch[d];
        for (int i = 0; i < 3; i++)
            all[i]->batch[to] = all[i]->batch[d];
    }
    p->batches = kept;
}

/* Many matrices times one, [B, M, K] [K, N], are one product of B M rows. */
static void fold_rows(product *p)
{
    while (p->batches) {
        int d = p->batches - 1;
        bool rows = p->b.batch[d] == 0 && p->a.column == 1 && p->out.column == 1 &&
                    p->a.batch[d] == p->m * p->a.row && p->out.batch[d] == p->m * p->out.row;
        if (!rows)
            return;
        p->m *= p->batch[d];
        p->batches = d;
    }
}

product product_of(const tensor *out, const tensor *a, const tensor *b, const tensor *bias,
                   bool add)
{
    product p = {.dtype = a->dtype, .out_dtype = out->dtype, .batches = out->ndim - 2, .add = add};
    p.m = out->shape[p.batches];
    p.n = out->shape[p.batches + 1];
    p.k = a->shape[p.batches + 1];
    memcpy(p.batch, out->shape, (size_t)p.batches * sizeof *p.batch);
    p.a = matrix_of(a);
    p.b = matrix_of(b);
    p.out = matrix_of(out);
    p.bias = bias ? tensor_data(bias) : NULL;
    p.bias_dtype = bias ? bias->dtype : out->dtype;
    settle_strides(&p.out, p.m, p.n);
    if (p.out.column != 1)
        turn_product(&p);
    settle_strides(&p.a, p.m, p.k);
    settle_strides(&p.b, p.k, p.n);
    join_batches(&p);
    fold_rows(&p);
    return p;
}

bool product_takes_bias(const tensor *out, const tensor *bias)
{
    int64_t rows = out->shape[out->ndim - 2], columns = out->shape[out->ndim - 1];
    matrix m = matrix_of(out);
    return row_distance(&m, rows, columns) && (columns <= 1 || bias->stride[0] == 1);
}

void product_start(const kernels *k, tensor *out, const tensor *bias, bool add)
{
    if (!bias && !add)
        k->fill(out, 0);
    if (!bias)
        return;
    tensor rows = *out;
    rows.dtype = bias->dtype;
    rows.store = bias->store;
    rows.offset = bias->offset;
    memset(rows.stride, 0, sizeof rows.stride);
    rows.stride[rows.ndim - 1] = bias->stride[0];
    if (add)
        k->elementwise(EW_add, out, 2, (const tensor *[]){out, &rows}, 0, 0, false);
    else
        k->copy(out, &rows);
}
