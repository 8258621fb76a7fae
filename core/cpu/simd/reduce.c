/*
 * reduce -- sum, max and min over any dimensions.
 *
 * After coalescing, the innermost dimension is reduced or kept, and that decides the loop:
 *
 *     rows        x x x x -> r       lanes side by side, added up at the end
 *     columns     x x x x            a group of up to 512 results at a time; rows are added to it
 *                 x x x x
 *                 | | | |
 *                 r r r r
 *
 * The elements behind one group of results are cut into parts of about PART elements that depend
 * on the shape alone; threads take parts, and the parts' results are combined in order. Within a
 * part, sums are of f64 in LANES fixed lanes: the bits are the same at any level and on any number
 * of threads, and a sum of f32 is exact to its last rounding or two.
 */
#include "core/cpu/simd/block.h"
#include "core/cpu/simd/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PART 131072 /* large enough for its result to cost nothing beside it */
#define COLUMNS 512 /* their results in f64 are 4 KiB, which stay in L1 */
#define LANES 32    /* four vectors of AVX-512: hides the latency of an addition */

/* ---- rows: n contiguous elements into LANES lanes ---- */

#define SUM(a, x) ((a) + (x))
#define MAX(a, x) ((x) > (a) || (x) != (x) ? (x) : (a)) /* once NaN, always NaN */
#define MIN(a, x) ((x) < (a) || (x) != (x) ? (x) : (a))

#define ROW_LOOP(E, type, name, COMBINE) \
    static void row_##name##_##type(double *lanes, const void *from, int64_t n) \
    { \
        const E *x = from; \
        double lane[LANES]; \
        memcpy(lane, lanes, sizeof lane); \
        int64_t i = 0; \
        for (; i + LANES <= n; i += LANES) \
            _Pragma("omp simd") for (int l = 0; l < LANES; l++) \
            { \
                double v = (double)number_##type(x[i + l]); \
                lane[l] = COMBINE(lane[l], v); \
            } \
        for (int l = 0; i + l < n; l++) { \
            double v = (double)number_##type(x[i + l]); \
            lane[l] = COMBINE(lane[l], v); \
        } \
        memcpy(lanes, lane, sizeof lane); \
    }

/* ---- columns: rows of n contiguous elements, `stride` apart, onto n results ---- */

/* Four rows at a time spare three of four times to read and write the results; each result still
 * takes its elements one after the other. */
#define COLUMN_LOOP(E, type, name, COMBINE) \
    static void column_##name##_##type(double *to, const void *from, int64_t stride, int64_t rows, \
                                       int64_t n) \
    { \
        const E *x = from; \
        for (; rows >= 4; rows -= 4, x += 4 * stride) \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
            { \
                double a = (double)number_##type(x[i]), b = (double)number_##type(x[i + stride]); \
                double c = (double)number_##type(x[i + 2 * stride]); \
                double d = (double)number_##type(x[i + 3 * stride]); \
                double sum = COMBINE(to[i], a); \
                sum = COMBINE(sum, b); \
                sum = COMBINE(sum, c); \
                to[i] = COMBINE(sum, d); \
            } \
        for (; rows > 0; rows--, x += stride) \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
            { \
                double a = (double)number_##type(x[i]); \
                to[i] = COMBINE(to[i], a); \
            } \
    }

/* The loops over a type, and the table of them: [rows or columns][reduce_op]. */
#define LOOPS(E, type) \
    ROW_LOOP(E, type, sum, SUM) \
    ROW_LOOP(E, type, max, MAX) \
    ROW_LOOP(E, type, min, MIN) \
    COLUMN_LOOP(E, type, sum, SUM) \
    COLUMN_LOOP(E, type, max, MAX) \
    COLUMN_LOOP(E, type, min, MIN) \
    static const row_loop rows_##type[] = {row_sum_##type, row_max_##type, row_min_##type}; \
    static const column_loop columns_##type[] = {column_sum_##type, column_max_##type, \
                                                 column_min_##type};
typedef void (*row_loop)(double *lanes, const void *from, int64_t n);
typedef void (*column_loop)(double *to, const void *from, int64_t stride, int64_t rows, int64_t n);
LOOPS(float, f32)
LOOPS(double, f64)
LOOPS(uint16_t, bf16)

#define LOOPS_OF(type, name) \
    (type == TORC_F64 ? name##_f64 : type == TORC_BF16 ? name##_bf16 : name##_f32)

static double combine(reduce_op op, double a, double x)
{
    return op == REDUCE_SUM ? SUM(a, x) : op == REDUCE_MAX ? MAX(a, x) : MIN(a, x);
}

static double identity(reduce_op op)
{
    return op == REDUCE_SUM ? 0 : op == REDUCE_MAX ? -INFINITY : INFINITY;
}

/* ---- the plan ---- */

typedef struct plan {
    reduce_op op;
    double scale;
    bool add;
    torc_dtype dtype; /* of x, and of blocks of it */
    walk groups;      /* kept dimensions but for the columns; operand 0 is x, 1 is out */
    walk reduced;     /* a result's elements; operand 0 is x */
    int64_t columns;  /* in the kept dimension that is the loop's; 0: rows */
    int64_t x_stride, out_stride, tiles; /* along the columns; groups of COLUMNS among them */
    int64_t fold;                        /* so many rows of few columns are handled as one row */
    int64_t part, parts; /* what is cut: blocks of `reduced` for rows, its positions else */
} plan;

/* The dimension that columns lie along, or -1. Rows of a few elements would spend their time on
 * adding up lanes, so they make columns too, though strided ones. */
static int column_dim(const walk *w, const bool *kept, int64_t row)
{
    int d = w->ndim - 1;
    if (!kept[d] && row >= LANES)
        return -1;
    while (d >= 0 && !kept[d])
        d--;
    return d;
}

static void plan_rows(plan *p)
{
    bool direct = block_is_direct(&p->reduced, 0, p->dtype);
    walk_cut(&p->reduced, direct ? BLOCK_DIRECT : BLOCK_LENGTH);
    p->part = max_i64(1, p->reduced.blocks * PART / p->reduced.numel);
    p->parts = part_count(p->reduced.blocks, p->part);
    p->tiles = 1;
}

static void plan_columns(plan *p)
{
    int64_t width = min_i64(p->columns, COLUMNS);
    const walk *r = &p->reduced;
    bool packed = p->x_stride == 1 && r->ndim == 1 && r->operand[0].stride[0] == p->columns;
    p->fold = packed ? min_i64(COLUMNS / p->columns, r->numel) : 1;
    p->part = max_i64(1, PART / width);
    p->parts = part_count(r->numel, p->part);
    p->tiles = part_count(p->columns, COLUMNS);
}

static plan plan_of(reduce_op op, const tensor *x, const tensor *out)
{
    walk w = walk_of(WALK_FASTEST, 2, (const tensor *const[]){x, out});
    bool kept[TORC_MAX_DIMS], grouped[TORC_MAX_DIMS], reduced[TORC_MAX_DIMS];
    int64_t row = 1;
    for (int d = 0; d < w.ndim; d++) {
        kept[d] = grouped[d] = w.operand[1].stride[d] != 0;
        reduced[d] = !kept[d];
        row *= kept[d] ? 1 : w.shape[d];
    }
    plan p = {.op = op, .dtype = x->dtype};
    p.reduced = walk_select(&w, reduced);
    int d = column_dim(&w, kept, row);
    if (d >= 0) {
        grouped[d] = false;
        p.columns = w.shape[d];
        p.x_stride = w.operand[0].stride[d];
        p.out_stride = w.operand[1].stride[d];
        plan_columns(&p);
    } else {
        plan_rows(&p);
    }
    p.groups = walk_select(&w, grouped);
    return p;
}

/* ---- a part of the elements behind a group of results ---- */

static int64_t group_width(const plan *p, int64_t group)
{
    return p->columns ? part_of(p->columns, COLUMNS, group % p->tiles).n : 1;
}

/* The blocks of one part; `r` is this thread's, to be moved to the group's elements. */
static void reduce_rows(const plan *p, walk *r, int64_t part_index, double *to)
{
    row_loop loop = LOOPS_OF(p->dtype, rows)[p->op];
    double lane[LANES];
    for (int l = 0; l < LANES; l++)
        lane[l] = identity(p->op);
    part blocks = part_of(r->blocks, p->part, part_index);
    for (int64_t b = blocks.first; b < blocks.first + blocks.n; b++) {
        block buffer;
        part at = walk_block(r, b);
        loop(lane, block_at(r, 0, at, p->dtype, &buffer), at.n);
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = combine(p->op, lane[l], lane[l + half]);
    *to = lane[0];
}

/* Rows in memory as the loop wants them, as many as one run has; others are loaded, one by one. */
static void reduce_columns(const plan *p, const walk *r, int64_t part_index, int64_t width,
                           double *to)
{
    column_loop loop = LOOPS_OF(p->dtype, columns)[p->op];
    bool direct = p->x_stride == 1;
    int64_t stride = r->operand[0].stride[r->ndim - 1];
    part rows = part_of(r->numel, p->part, part_index);
    for (int64_t c = 0; c < width; c++)
        to[c] = identity(p->op);
    for (int64_t n; rows.n; rows.first += n, rows.n -= n) {
        const void *x = walk_at(r, 0, rows.first);
        n = direct ? min_i64(rows.n, r->run - rows.first % r->run) : 1;
        block buffer;
        if (direct) {
            loop(to, x, stride, n, width);
        } else {
            SIMD(block_load)(p->dtype, &buffer, p->dtype, x, p->x_stride, width);
            loop(to, &buffer, 0, 1, width);
        }
    }
}

/* Few columns, packed: so many rows of them as make COLUMNS are one row, and the results that
 * belong to one column are combined at the end. */
static void reduce_folded(const plan *p, const walk *r, int64_t part_index, double *to)
{
    column_loop loop = LOOPS_OF(p->dtype, columns)[p->op];
    part rows = part_of(r->numel, p->part, part_index);
    const char *x = walk_at(r, 0, rows.first);
    int64_t width = p->columns, wide = p->fold * width, whole = rows.n / p->fold;
    for (int64_t c = 0; c < wide; c++)
        to[c] = identity(p->op);
    loop(to, x, wide, whole, wide);
    x += whole * wide * (int64_t)r->operand[0].item;
    loop(to, x, 0, 1, (rows.n - whole * p->fold) * width);
    for (int64_t f = 1; f < p->fold; f++)
        for (int64_t c = 0; c < width; c++)
            to[c] = combine(p->op, to[c], to[f * width + c]);
}

static void reduce_part(const plan *p, walk *r, int64_t group, int64_t part_index, double *to)
{
    int64_t first = group % p->tiles * COLUMNS * p->x_stride;
    int64_t item = (int64_t)p->groups.operand[0].item;
    r->operand[0].data = walk_at(&p->groups, 0, group / p->tiles) + first * item;
    if (p->fold > 1)
        reduce_folded(p, r, part_index, to);
    else if (p->columns)
        reduce_columns(p, r, part_index, group_width(p, group), to);
    else
        reduce_rows(p, r, part_index, to);
}

/* ---- results ---- */

static void put(const plan *p, const double *result, void *to, int64_t stride, int64_t n)
{
    block values, old;
    torc_dtype dtype = p->groups.operand[1].dtype;
    for (int64_t i = 0; i < n; i++)
        values.f64[i] = p->scale * result[i];
    if (p->add) {
        SIMD(block_load)(TORC_F64, &old, dtype, to, stride, n);
        for (int64_t i = 0; i < n; i++)
            values.f64[i] += old.f64[i];
    }
    SIMD(block_store)(TORC_F64, &values, dtype, to, stride, n);
}

static void put_group(const plan *p, int64_t group, const double *result)
{
    const operand *out = &p->groups.operand[1];
    int64_t first = group % p->tiles * COLUMNS * p->out_stride;
    char *to = walk_at(&p->groups, 1, group / p->tiles) + first * (int64_t)out->item;
    put(p, result, to, p->out_stride, group_width(p, group));
}

static void reduce_groups(part groups, const plan *p)
{
    walk r = p->reduced;
    double to[COLUMNS];
    for (int64_t group = groups.first; group < groups.first + groups.n; group++) {
        reduce_part(p, &r, group, 0, to);
        put_group(p, group, to);
    }
}

/* Where the elements of a group are cut, each part leaves `width` results. */
static void reduce_units(part units, const plan *p, int64_t width, double *results)
{
    walk r = p->reduced;
    double to[COLUMNS];
    for (int64_t unit = units.first; unit < units.first + units.n; unit++) {
        reduce_part(p, &r, unit / p->parts, unit % p->parts, to);
        memcpy(results + unit * width, to, (size_t)width * sizeof *to);
    }
}

static void reduce_cut(const plan *p, int64_t groups, int64_t bytes)
{
    int64_t width = p->columns ? min_i64(p->columns, COLUMNS) : 1, units = groups * p->parts;
    double *results = base_alloc((size_t)(units * width), sizeof *results);
    PARALLEL(bytes, units, 1, reduce_units, p, width, results);
    for (int64_t group = 0; group < groups; group++) {
        double *sum = results + group * p->parts * width;
        for (int64_t i = width; i < p->parts * width; i++)
            sum[i % width] = combine(p->op, sum[i % width], sum[i]);
        put_group(p, group, sum);
    }
    free(results);
}

void SIMD(cpu_reduce)(reduce_op op, tensor *out, const tensor *x, double scale, bool add)
{
    int64_t n = tensor_numel(x);
    if (n == 0) {
        if (!add)
            SIMD(cpu_fill)(out, scale * identity(op));
        return;
    }
    plan p = plan_of(op, x, out);
    p.scale = scale;
    p.add = add;
    int64_t groups = p.groups.numel * p.tiles, bytes = n * (int64_t)p.groups.operand[0].item;
    if (p.parts > 1)
        reduce_cut(&p, groups, bytes);
    else
        PARALLEL(bytes, groups, 1, reduce_groups, &p);
}
