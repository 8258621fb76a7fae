/*
 * index -- kernels that go where numbers point: embedding, gather, and their gradients, which add.
 *
 * Where several indices name the same place, additions must not meet: a thread owns a range of
 * columns, or of lines, and runs through all indices in their order. So every sum has one order,
 * whatever the number of threads.
 *
 *     dtable    | thread 0 | thread 1 |        row index[0] += g[0]
 *               |    ..    |    ..    |        row index[1] += g[1] ...
 */
#include "core/cpu/simd/block.h"
#include "core/cpu/simd/number.h"

#include <string.h>

#define CACHE_LINE 64
#define COST 128 /* of gathering an element, about 1 ns: see parallel_worth() */

int64_t SIMD(cpu_check_index)(const tensor *index, int64_t limit, int64_t ignore)
{
    const int64_t *i = tensor_data(index);
    int64_t n = tensor_numel(index), wrong = 0;
#pragma omp simd reduction(+ : wrong)
    for (int64_t k = 0; k < n; k++)
        wrong += (uint64_t)i[k] >= (uint64_t)limit && i[k] != ignore;
    for (int64_t k = 0; wrong && k < n; k++)
        if ((uint64_t)i[k] >= (uint64_t)limit && i[k] != ignore)
            return k;
    return -1;
}

int64_t SIMD(cpu_count_targets)(const tensor *target, int64_t ignore)
{
    const int64_t *t = tensor_data(target);
    int64_t n = tensor_numel(target), counted = 0;
#pragma omp simd reduction(+ : counted)
    for (int64_t k = 0; k < n; k++)
        counted += t[k] != ignore;
    return counted;
}

/* ---- embedding: rows of a table ---- */

/* An f32 table may give bf16 rows: each is rounded on its way. */
static void copy_rows(part mine, tensor *out, const tensor *table, const int64_t *index)
{
    int64_t width = table->shape[1];
    size_t row = (size_t)width * tensor_item_size(table);
    size_t step = (size_t)width * tensor_item_size(out);
    const char *from = tensor_data(table);
    char *to = (char *)tensor_data(out) + (size_t)mine.first * step;
    for (int64_t k = mine.first; k < mine.first + mine.n; k++, to += step)
        if (out->dtype == table->dtype)
            memcpy(to, from + (size_t)index[k] * row, row);
        else
            SIMD(block_store)(TORC_F32, from + (size_t)index[k] * row, out->dtype, to, 1, width);
}

void SIMD(cpu_embedding)(tensor *out, const tensor *table, const tensor *index)
{
    int64_t n = tensor_numel(index), width = table->shape[1];
    int64_t bytes = (int64_t)(tensor_item_size(table) + tensor_item_size(out)) * n * width;
    if (width)
        PARALLEL(bytes, n, 1, copy_rows, out, table, tensor_data(index));
}

/* T of the table, E of the gradient. */
#define ADD_ROW(T, E, suffix) \
    do { \
        T *to = to_; \
        const E *from = from_; \
        if (stride == 1) \
            _Pragma("omp simd") for (int64_t k = 0; k < n; k++) to[k] += number_##suffix(from[k]); \
        else \
            for (int64_t k = 0; k < n; k++) \
                to[k * stride] += number_##suffix(from[k]); \
    } while (0)

static void add_row(torc_dtype dtype, void *to_, int64_t stride, const void *from_, int64_t n)
{
    if (dtype == TORC_F32)
        ADD_ROW(float, float, f32);
    else if (dtype == TORC_BF16)
        ADD_ROW(float, uint16_t, bf16);
    else
        ADD_ROW(double, double, f64);
}

static void add_rows(part columns, const tensor *table, const tensor *g, const tensor *index)
{
    int64_t width = table->shape[1], item = (int64_t)tensor_item_size(table);
    int64_t step = (int64_t)tensor_item_size(g);
    int64_t down = table->stride[0], across = table->stride[1];
    const int64_t *i = tensor_data(index);
    char *to = (char *)tensor_data(table) + columns.first * across * item;
    const char *from = (const char *)tensor_data(g) + columns.first * step;
    for (int64_t k = 0; k < tensor_numel(index) && columns.n; k++)
        add_row(g->dtype, to + i[k] * down * item, across, from + k * width * step, columns.n);
}

/* Columns are shared out in whole cache lines, so that no two threads write to one. */
void SIMD(cpu_embedding_grad)(sink dtable, const tensor *g, const tensor *index)
{
    if (!dtable.add)
        SIMD(cpu_fill)(dtable.t, 0);
    int64_t item = (int64_t)tensor_item_size(dtable.t);
    if (tensor_numel(g))
        PARALLEL(3 * tensor_numel(g) * item, g->shape[g->ndim - 1], CACHE_LINE / item, add_rows,
                 dtable.t, g, index);
}

/* ---- gather: out[.., i, .., k] = x[.., index[.., i, .., k], .., k] ---- */

/* A row is what the last dimension of the index spans. x's other sizes may be larger than the
 * index's, so rows are found by x's own strides. */
typedef struct rows {
    const tensor *index;
    int64_t n, width;      /* their number, and elements in each */
    int64_t along, across; /* x's stride in dim, and from one element of a row to the next */
    int64_t stride[TORC_MAX_DIMS]; /* x's in the dimensions that count rows; 0 in dim */
} rows;

static rows rows_of(const tensor *index, const tensor *x, int dim)
{
    int last = index->ndim - 1;
    rows r = {.index = index, .width = index->shape[last], .along = x->stride[dim]};
    r.n = r.width ? tensor_numel(index) / r.width : 0;
    for (int d = 0; d < last; d++)
        r.stride[d] = d == dim ? 0 : x->stride[d];
    r.across = last == dim ? 0 : x->stride[last];
    return r;
}

/* Of a row's first element in x, but for what its index adds. */
static int64_t row_offset(const rows *r, int64_t row)
{
    int64_t offset = 0;
    for (int d = r->index->ndim - 2; d >= 0; d--) {
        offset += row % r->index->shape[d] * r->stride[d];
        row /= r->index->shape[d];
    }
    return offset;
}

#define GATHER_ROW(item) \
    do { \
        item *to = to_; \
        const item *x = (const item *)x_ + offset; \
        for (int64_t k = 0; k < r->width; k++) \
            to[k] = x[k * r->across + index[k] * r->along]; \
    } while (0)

static void gather_row(const rows *r, size_t item, void *to_, const void *x_, int64_t offset,
                       const int64_t *index)
{
    if (item == 8)
        GATHER_ROW(uint64_t);
    else if (item == 4)
        GATHER_ROW(uint32_t);
    else if (item == 2)
        GATHER_ROW(uint16_t);
    else
        GATHER_ROW(uint8_t);
}

static void gather_rows(part mine, const rows *r, tensor *out, const tensor *x)
{
    size_t item = tensor_item_size(x);
    const int64_t *index = tensor_data(r->index);
    for (int64_t row = mine.first; row < mine.first + mine.n; row++)
        gather_row(r, item, (char *)tensor_data(out) + (size_t)(row * r->width) * item,
                   tensor_data(x), row_offset(r, row), index + row * r->width);
}

void SIMD(cpu_gather)(tensor *out, const tensor *x, int dim, const tensor *index)
{
    rows r = rows_of(index, x, dim);
    PARALLEL(COST * r.n * r.width, r.n, 1, gather_rows, &r, out, x);
}

#define SCATTER_ROW(T) \
    do { \
        T *x = (T *)x_ + offset; \
        const T *g = g_; \
        for (int64_t k = columns.first; k < columns.first + columns.n; k++) \
            x[k * r->across + index[k] * r->along] += g[k]; \
    } while (0)

static void scatter_row(const rows *r, torc_dtype dtype, void *x_, int64_t offset, const void *g_,
                        const int64_t *index, part columns)
{
    if (dtype == TORC_F32)
        SCATTER_ROW(float);
    else
        SCATTER_ROW(double);
}

static void scatter_rows(part mine, const rows *r, tensor *x, const tensor *g, part columns)
{
    const int64_t *index = tensor_data(r->index);
    for (int64_t row = mine.first; row < mine.first + mine.n; row++)
        scatter_row(r, g->dtype, tensor_data(x), row_offset(r, row),
                    (char *)tensor_data(g) + row * r->width * (int64_t)tensor_item_size(g),
                    index + row * r->width, columns);
}

static void scatter_columns(part columns, const rows *r, tensor *x, const tensor *g)
{
    if (columns.n)
        scatter_rows((part){0, r->n}, r, x, g, columns);
}

/* Rows along dim never meet, so threads share the rows; otherwise rows meet but columns do not. */
void SIMD(cpu_gather_grad)(sink dx, const tensor *g, int dim, const tensor *index)
{
    if (!dx.add)
        SIMD(cpu_fill)(dx.t, 0);
    rows r = rows_of(index, dx.t, dim);
    int64_t bytes = COST * r.n * r.width, line = CACHE_LINE / (int64_t)tensor_item_size(g);
    if (dim == index->ndim - 1)
        PARALLEL(bytes, r.n, 1, scatter_rows, &r, dx.t, g, (part){0, r.width});
    else
        PARALLEL(bytes, r.width, line, scatter_columns, &r, dx.t, g);
}
