/*
 * conv_weight -- the gradients of a convolution's weight and bias on the CPU.
 *
 *     dw = g^T columns, where row (n, i, j) of `columns` holds what the window at (i, j) sees:
 *
 *         x [H, W, C]         one row of `columns`, `length` = k k C numbers
 *         . . . . .
 *         . a b c .    -->    [u=0: a's C | b's C | c's C][u=1: d's C | e's C | f's C][u=2: ...]
 *         . d e f .
 *         . . . . .
 *
 *     line    a row of output places, W' of them: N H' in all
 *     chunk   some lines whose columns, about 1 MiB, stay in the cache
 *     part    some lines with a dw of their own. Parts depend on the shape alone and are added in
 *             order, so dw and dbias have the same bits on any number of threads.
 *
 * Why not oneDNN's own primitive: on channels-last images (2.6.3, AVX-512) it reaches 0.58 of the
 * peak of a core where this reaches 0.75, and for some shapes it is slower on two threads than on
 * one.
 */
#include "core/cpu/conv.h"
#include "core/cpu/cpu.h"
#include "core/cpu/parallel.h"

#include <string.h>

#define CHUNK_BYTES (1024 * 1024) /* of columns; measured: below 512 KiB it is 5 % slower */
#define PARTS 32                  /* at most; fewer where they would take more memory than this: */
#define PARTS_BYTES ((int64_t)64 << 20)

__typeof__(*((kernels *)0)->conv2d_grad_weight) cpu_conv2d_grad_weight; /* of its row's type */

typedef struct sums {
    conv c;
    const float *g, *x;          /* channels last */
    int64_t group_in, group_out; /* channels of a group */
    int64_t length, lines;
    int64_t part, chunk; /* in lines */
    int64_t size;        /* of a part's dw [O, length], dbias [O] behind it, and some padding */
} sums;

static int64_t padded(int64_t elements)
{
    return (elements + 15) / 16 * 16;
}

static sums sums_of(const tensor *g, const tensor *x, window how)
{
    sums s = {.c = conv_of(x, g, how)};
    s.group_in = s.c.in / how.groups;
    s.group_out = s.c.out / how.groups;
    s.length = s.group_in * how.kernel * how.kernel;
    s.lines = s.c.images * s.c.rows;
    s.size = padded(s.c.out * (s.length + 1));
    int64_t fit = PARTS_BYTES / (s.size * (int64_t)sizeof(float));
    s.part = max_i64(1, part_count(s.lines, max_i64(1, min_i64(PARTS, fit))));
    int64_t line_bytes = max_i64(1, s.c.columns * s.length * (int64_t)sizeof(float));
    s.chunk = max_i64(1, min_i64(s.part, CHUNK_BYTES / line_bytes));
    return s;
}

/* ---- columns ---- */

#define LONG_RUN 8 /* numbers that pay for a memcpy() */

/* Cell (u, v) of all W' windows of a line: n channels each, `length` apart. image_row is NULL above
 * and below the image. */
static void see_cell(const sums *s, const float *image_row, int64_t v, float *to)
{
    const conv *c = &s->c;
    int64_t n = s->group_in, column = v * c->how.dilation - c->how.padding;
    int64_t first = 0; /* the windows whose cell lies inside: first .. last - 1 */
    while (first < c->columns && column + first * c->how.stride < 0)
        first++;
    int64_t last = image_row ? c->columns : first;
    while (last > first && column + (last - 1) * c->how.stride >= c->width)
        last--;
    for (int64_t j = 0; j < c->columns; j++)
        if (j < first || j >= last)
            memset(to + j * s->length, 0, (size_t)n * sizeof *to);
    const float *from = image_row ? image_row + column * c->in : NULL;
    int64_t step = c->how.stride * c->in;
    if (n >= LONG_RUN)
        for (int64_t j = first; j < last; j++)
            memcpy(to + j * s->length, from + j * step, (size_t)n * sizeof *to);
    else
        for (int64_t e = 0; e < n; e++)
            for (int64_t j = first; j < last; j++)
                to[j * s->length + e] = from[j * step + e];
}

/* Row u of the windows of a line that see k neighbouring columns as one run of k C numbers. */
static void see_row(const sums *s, const float *image_row, float *to)
{
    const conv *c = &s->c;
    int64_t k = c->how.kernel, n = c->in;
    for (int64_t j = 0; j < c->columns; j++, to += s->length) {
        int64_t column = j * c->how.stride - c->how.padding;
        const float *from = image_row + column * n;
        if (column >= 0 && column + k <= c->width) {
            memcpy(to, from, (size_t)(k * n) * sizeof *to);
            continue;
        }
        int64_t left = min_i64(k, max_i64(0, -column));
        int64_t right = max_i64(left, min_i64(k, c->width - column));
        memset(to, 0, (size_t)(k * n) * sizeof *to);
        memcpy(to + left * n, from + left * n, (size_t)((right - left) * n) * sizeof *to);
    }
}

static void see_line(const sums *s, int64_t line, int64_t group, float *to)
{
    const conv *c = &s->c;
    const float *image = s->x + line / c->rows * c->height * c->width * c->in + group * s->group_in;
    int64_t k = c->how.kernel, top = line % c->rows * c->how.stride - c->how.padding;
    bool runs = c->how.dilation == 1 && c->how.groups == 1 && k * s->group_in >= LONG_RUN;
    for (int64_t u = 0; u < k; u++) {
        int64_t row = top + u * c->how.dilation;
        bool inside = row >= 0 && row < c->height;
        const float *image_row = inside ? image + row * c->width * c->in : NULL;
        if (runs && inside)
            see_row(s, image_row, to + u * k * s->group_in);
        for (int64_t v = 0; v < k && !(runs && inside); v++)
            see_cell(s, image_row, v, to + (u * k + v) * s->group_in);
    }
}

/* ---- parts ---- */

static void add_products(const sums *s, part lines, int64_t group, float *columns, float *dw)
{
    const conv *c = &s->c;
    for (int64_t i = 0; i < lines.n; i++)
        see_line(s, lines.first + i, group, columns + i * c->columns * s->length);
    const float *g = s->g + lines.first * c->columns * c->out + group * s->group_out;
    onednn_check(dnnl_sgemm('T', 'N', s->group_out, s->length, lines.n * c->columns, 1, g, c->out,
                            columns, s->length, 1, dw + group * s->group_out * s->length,
                            s->length),
                 "multiply matrices");
}

static void add_bias(const sums *s, part lines, float *dbias)
{
    const float *g = s->g + lines.first * s->c.columns * s->c.out;
    for (int64_t place = 0; place < lines.n * s->c.columns; place++, g += s->c.out)
#pragma omp simd
        for (int64_t o = 0; o < s->c.out; o++)
            dbias[o] += g[o];
}

static void add_part(const sums *s, part p, float *columns, float *dw)
{
    memset(dw, 0, (size_t)s->size * sizeof *dw);
    for (int64_t done = 0; done < p.n; done += s->chunk) {
        part lines = {p.first + done, min_i64(s->chunk, p.n - done)};
        for (int64_t group = 0; s->length && group < s->c.how.groups; group++)
            add_products(s, lines, group, columns, dw);
        add_bias(s, lines, dw + s->c.out * s->length);
    }
}

/* All parts, and their sum in the first one's place. oneDNN keeps to the calling thread here. */
static float *sum_of_parts(const sums *s)
{
    int64_t count = part_count(s->lines, s->part),
            column_size = padded(s->chunk * s->c.columns * s->length);
    int64_t flops = 2 * s->lines * s->c.columns * s->c.out * s->length;
    bool team = parallel_worth(flops / 7);
    int64_t threads = team ? omp_get_max_threads() : 1;
    float *parts = scratch(SCRATCH_PARTS, (size_t)(max_i64(count, 1) * s->size) * sizeof *parts);
    float *columns = scratch(SCRATCH_THREADS, (size_t)(threads * column_size) * sizeof *columns);
#pragma omp parallel for schedule(dynamic) if (team)
    for (int64_t i = 0; i < count; i++)
        add_part(s, part_of(s->lines, s->part, i), columns + omp_get_thread_num() * column_size,
                 parts + i * s->size);
#pragma omp parallel for schedule( \
    static) if (parallel_worth(count * s->size * (int64_t)sizeof(float)))
    for (int64_t e = 0; e < s->size; e += 16)
        for (int64_t i = 1; i < count; i++)
            for (int64_t lane = 0; lane < 16; lane++)
                parts[e + lane] += parts[i * s->size + e + lane];
    if (count == 0)
        memset(parts, 0, (size_t)s->size * sizeof *parts);
    return parts;
}

/* ---- the kernel ---- */

/* From [O, k, k, C / groups] to the parameter's [O, C / groups, k, k]. */
static void give_weight(sink dw, const sums *s, const float *sum)
{
    float *to = tensor_data(dw.t);
    int64_t cells = s->c.how.kernel * s->c.how.kernel;
    for (int64_t o = 0; o < s->c.out; o++, to += s->length, sum += s->length)
        for (int64_t i = 0; i < s->group_in; i++)
            for (int64_t cell = 0; cell < cells; cell++) {
                float *at = &to[i * cells + cell];
                *at = (dw.add ? *at : 0) + sum[cell * s->group_in + i];
            }
}

static void give_bias(sink dbias, const float *sum, int64_t n)
{
    float *to = tensor_data(dbias.t);
    for (int64_t o = 0; o < n; o++)
        to[o] = (dbias.add ? to[o] : 0) + sum[o];
}

static void grad_weight_f64(sink dw, sink dbias, const tensor *g, const tensor *x, window how)
{
    if (dw.t && !dw.add)
        cpu_kernels()->fill(dw.t, 0);
    if (dw.t)
        conv_grad_weight_f64(dw.t, g, x, how);
    if (!dbias.t)
        return;
    tensor wide = *dbias.t; /* [1, O, 1, 1], as a reduction of g gives it */
    wide.ndim = 4;
    for (int d = 0; d < 4; d++) {
        wide.shape[d] = d == 1 ? g->shape[1] : 1;
        wide.stride[d] = d == 1 ? dbias.t->stride[0] : 0;
    }
    cpu_kernels()->reduce(REDUCE_SUM, &wide, g, 1, dbias.add);
}

/* dbias (+)= the sum of g over all places; g channels last. */
static void sum_bias(sink dbias, const tensor *g, void *data)
{
    storage store = {.data = data};
    tensor rows = {.ndim = 2,
                   .dtype = g->dtype,
                   .shape = {g->shape[0] * g->shape[2] * g->shape[3], g->shape[1]},
                   .stride = {g->shape[1], 1},
                   .store = &store};
    cpu_kernels()->activation_grad(NULL, dbias, EW_NONE, NULL, &rows);
}

/* By the primitive; where there is none, in f32. */
static void grad_weight_low(sink dw, sink dbias, const tensor *g, const tensor *x, window how)
{
    bool some = tensor_numel(g) > 0 && tensor_numel(x) > 0;
    if (some && (!dw.t || conv_grad_weight_low(dw, g, x, how))) {
        if (dbias.t)
            sum_bias(dbias, g, conv_channels_last(g, SCRATCH_INPUT));
        return;
    }
    storage stores[2];
    tensor wide_g = conv_image_like(g, TORC_F32, &stores[0], SCRATCH_INPUT);
    tensor wide_x = conv_image_like(x, TORC_F32, &stores[1], SCRATCH_OTHER);
    cpu_kernels()->copy(&wide_g, g);
    cpu_kernels()->copy(&wide_x, x);
    cpu_conv2d_grad_weight(dw, dbias, &wide_g, &wide_x, how);
}

void cpu_conv2d_grad_weight(sink dw, sink dbias, const tensor *g, const tensor *x, window how)
{
    if (g->dtype == TORC_F64) {
        grad_weight_f64(dw, dbias, g, x, how);
        return;
    }
    if (g->shape[1] == 0)
        return;
    if (g->dtype == TORC_BF16) {
        grad_weight_low(dw, dbias, g, x, how);
        return;
    }
    sums s = sums_of(g, x, how);
    s.g = conv_channels_last(g, SCRATCH_INPUT);
    s.x = conv_channels_last(x, SCRATCH_OTHER);
    const float *sum = sum_of_parts(&s);
    if (dw.t)
        give_weight(dw, &s, sum);
    if (dbias.t)
        give_bias(dbias, sum + s.c.out * s.length, s.c.out);
}
