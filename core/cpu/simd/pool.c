/*
 * pool -- the largest or the mean of each window of an image, and their gradients.
 *
 *     a window of 2 x 2 at a corner, padding 1:    . .
 *                                                  . x     padding never wins, but counts in a mean
 *
 * Images are walked place by place, and at each place over the channels: with channels last (NHWC)
 * that is along memory, in vectors. Channels first (NCHW) works too, one number at a time. Threads
 * share rows of output forward, and images in the gradient, where windows overlap; the order of
 * every sum is that of the loops, so any number of threads gives the same bits.
 */
#ifndef T
#include "core/cpu/simd/vector.h"

#define CHANNELS 64 /* of a mean at a time */

typedef struct picture { /* element (n, c, row, column), in elements */
    int64_t images, channels, height, width;
    int64_t image, channel, row, column;
} picture;

static picture picture_of(const tensor *t)
{
    return (picture){t->shape[0],  t->shape[1],  t->shape[2],  t->shape[3],
                     t->stride[0], t->stride[1], t->stride[2], t->stride[3]};
}

/* The cells k of a window at output place i that lie inside 0 .. size - 1, along one direction. */
static part inside(int64_t i, int64_t size, window how)
{
    int64_t start = i * how.stride - how.padding;
    int64_t first = max_i64(0, -start), last = min_i64(how.kernel, size - start);
    return (part){first, max_i64(0, last - first)};
}

#define T float
#define F(name) name##_f32
#include "core/cpu/simd/pool.c"
#define T double
#define F(name) name##_f64
#include "core/cpu/simd/pool.c"

void SIMD(cpu_max_pool2d)(tensor *out, tensor *at, const tensor *x, window how)
{
    picture from = picture_of(x), to = picture_of(out);
    if (x->dtype == TORC_F64)
        max_pool_f64(tensor_data(out), tensor_data(at), tensor_data(x), &to, &from, how);
    else
        max_pool_f32(tensor_data(out), tensor_data(at), tensor_data(x), &to, &from, how);
}

void SIMD(cpu_max_pool2d_grad)(sink dx, const tensor *g, const tensor *at, window how)
{
    if (!dx.t)
        return;
    picture to = picture_of(dx.t), from = picture_of(g), places = picture_of(at);
    if (g->dtype == TORC_F64)
        pool_grad_f64(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(at), &to, &from,
                      &places, how);
    else
        pool_grad_f32(tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(at), &to, &from,
                      &places, how);
}

void SIMD(cpu_avg_pool2d)(tensor *out, const tensor *x, window how)
{
    picture from = picture_of(x), to = picture_of(out);
    if (x->dtype == TORC_F64)
        avg_pool_f64(tensor_data(out), tensor_data(x), &to, &from, how);
    else
        avg_pool_f32(tensor_data(out), tensor_data(x), &to, &from, how);
}

void SIMD(cpu_avg_pool2d_grad)(sink dx, const tensor *g, window how)
{
    if (!dx.t)
        return;
    picture to = picture_of(dx.t), from = picture_of(g);
    if (g->dtype == TORC_F64)
        pool_grad_f64(tensor_data(dx.t), dx.add, tensor_data(g), NULL, &to, &from, &from, how);
    else
        pool_grad_f32(tensor_data(dx.t), dx.add, tensor_data(g), NULL, &to, &from, &from, how);
}

#else

/* The largest of one window for one channel, or for the LANES channels of a vector. The first cell
 * inside stands even where all are -inf; a NaN wins, and is never beaten again. x is at the
 * window's cell (0, 0), which may lie outside. */
static inline T F(max_one)(const T *x, const picture *from, part rows, part columns, int kernel,
                           int *cell)
{
    T best = x[rows.first * from->row + columns.first * from->column];
    *cell = (int)(rows.first * kernel + columns.first);
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++) {
            T value = x[i * from->row + j * from->column];
            if (value <= best || best != best)
                continue;
            best = value;
            *cell = (int)(i * kernel + j);
        }
    return best;
}

static inline F(vec) F(max_many)(const T *x, int64_t n, const picture *from, part rows,
                                 part columns, int kernel, F(lanes) * cell)
{
    F(vec) best = F(load_some)(x + rows.first * from->row + columns.first * from->column, n, 0);
    *cell = (F(lanes)){0} + (F(lane))(rows.first * kernel + columns.first);
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++) {
            F(vec) value = F(load_some)(x + i * from->row + j * from->column, n, 0);
            F(lanes) stays = (value <= best) | (best != best);
            best = F(choose)(stays, best, value);
            *cell = (*cell & stays) | (((F(lanes)){0} + (F(lane))(i * kernel + j)) & ~stays);
        }
    return best;
}

/* All channels of one output place: whole vectors where they lie side by side, else one by one. */
static inline void F(max_pool_place)(T *out, uint8_t *at, const T *x, const picture *to,
                                     const picture *from, part rows, part columns, int kernel)
{
    int64_t c = 0, n = to->channels;
    for (; to->channel == 1 && from->channel == 1 && c < n; c += LANES(T)) {
        F(lanes) cell;
        F(store_some)
        (out + c, F(max_many)(x + c, n - c, from, rows, columns, kernel, &cell), n - c);
        F(bytes) bytes = __builtin_convertvector(cell, F(bytes));
        memcpy(at + c, &bytes, n - c < LANES(T) ? (size_t)(n - c) : sizeof bytes);
    }
    for (; c < n; c++) {
        int cell;
        out[c * to->channel] =
            F(max_one)(x + c * from->channel, from, rows, columns, kernel, &cell);
        at[c * to->channel] = (uint8_t)cell;
    }
}

static void F(max_pool)(T *out, uint8_t *at, const T *x, const picture *to, const picture *from,
                        window how)
{
    int64_t work = to->images * to->channels * to->height * to->width * how.kernel * how.kernel;
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to->images; n++)
        for (int64_t i = 0; i < to->height; i++)
            for (int64_t j = 0; j < to->width; j++) {
                int64_t place = n * to->image + i * to->row + j * to->column;
                int64_t row = i * how.stride - how.padding, column = j * how.stride - how.padding;
                F(max_pool_place)
                (out + place, at + place,
                 x + n * from->image + row * from->row + column * from->column, to, from,
                 inside(i, from->height, how), inside(j, from->width, how), how.kernel);
            }
}

/* Cells outside add nothing, but count: factor is 1 / kernel^2 everywhere. */
static void F(avg_pool_place)(T *out, const T *x, const picture *to, const picture *from, part rows,
                              part columns, T factor)
{
    for (int64_t first = 0; first < to->channels; first += CHANNELS) {
        int64_t n = min_i64(CHANNELS, to->channels - first);
        T sum[CHANNELS] = {0};
        for (int64_t i = rows.first; i < rows.first + rows.n; i++)
            for (int64_t j = columns.first; j < columns.first + columns.n; j++) {
                const T *cell = x + i * from->row + j * from->column + first * from->channel;
#pragma omp simd
                for (int64_t c = 0; c < n; c++)
                    sum[c] += cell[c * from->channel];
            }
        for (int64_t c = 0; c < n; c++)
            out[(first + c) * to->channel] = sum[c] * factor;
    }
}

static void F(avg_pool)(T *out, const T *x, const picture *to, const picture *from, window how)
{
    int64_t work = to->images * to->channels * to->height * to->width * how.kernel * how.kernel;
    T factor = (T)1 / (T)(how.kernel * how.kernel);
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to->images; n++)
        for (int64_t i = 0; i < to->height; i++)
            for (int64_t j = 0; j < to->width; j++) {
                int64_t row = i * how.stride - how.padding, column = j * how.stride - how.padding;
                F(avg_pool_place)
                (out + n * to->image + i * to->row + j * to->column,
                 x + n * from->image + row * from->row + column * from->column, to, from,
                 inside(i, from->height, how), inside(j, from->width, how), factor);
            }
}

/* ---- gradients ---- */

/* dx of one cell += g where the cell was the largest, or g * factor where at is NULL. */
static inline void F(give)(T *dx, int64_t dx_step, const T *g, int64_t g_step, const uint8_t *at,
                           int64_t at_step, int64_t channels, int cell, T factor)
{
    if (at)
#pragma omp simd
        for (int64_t c = 0; c < channels; c++)
            dx[c * dx_step] += at[c * at_step] == cell ? g[c * g_step] : 0;
    else
#pragma omp simd
        for (int64_t c = 0; c < channels; c++)
            dx[c * dx_step] += g[c * g_step] * factor;
}

/* Right before its sums: the image is still in the cache when they come. */
static void F(clear_image)(T *dx, const picture *to)
{
    for (int64_t i = 0; i < to->height; i++)
        for (int64_t j = 0; j < to->width; j++)
            for (int64_t c = 0; c < to->channels; c++)
                dx[i * to->row + j * to->column + c * to->channel] = 0;
}

/* One output place of one image. */
static void F(place_grad)(T *dx, const T *g, const uint8_t *at, const picture *to,
                          const picture *from, const picture *places, part rows, part columns,
                          int kernel)
{
    T factor = (T)1 / (T)(kernel * kernel);
    bool vectors = to->channel == 1 && from->channel == 1 && places->channel == 1;
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++) {
            T *cell = dx + i * to->row + j * to->column;
            if (vectors)
                F(give)(cell, 1, g, 1, at, 1, to->channels, (int)(i * kernel + j), factor);
            else
                F(give)
            (cell, to->channel, g, from->channel, at, places->channel, to->channels,
             (int)(i * kernel + j), factor);
        }
}

/* Windows may overlap, so what they give is added to zeros; `at` is NULL for means. */
static void F(pool_grad)(T *dx, bool add, const T *g, const uint8_t *at, const picture *to,
                         const picture *from, const picture *places, window how)
{
    int64_t work =
        from->images * from->channels * from->height * from->width * how.kernel * how.kernel;
#pragma omp parallel for schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to->images; n++) {
        T *image = dx + n * to->image;
        if (!add)
            F(clear_image)(image, to);
        for (int64_t i = 0; i < from->height; i++)
            for (int64_t j = 0; j < from->width; j++) {
                int64_t row = i * how.stride - how.padding, column = j * how.stride - how.padding;
                int64_t place = n * places->image + i * places->row + j * places->column;
                F(place_grad)
                (image + row * to->row + column * to->column,
                 g + n * from->image + i * from->row + j * from->column, at ? at + place : NULL, to,
                 from, places, inside(i, to->height, how), inside(j, to->width, how), how.kernel);
            }
    }
}

#undef T
#undef F
#endif
