/*
 * pool -- the largest or the mean of each window of an image, and their gradients.
 *
 *     a window of 2 x 2 at a corner, padding 1:    . .
 *                                                  . x     padding never wins, but counts in a mean
 *
 * Images are walked place by place, and at each place over the channels: with channels last (NHWC)
 * that is along memory, in vectors. Channels first (NCHW) works too, one number at a time. Threads
 * share rows of what they write. In the gradient too a place is written once: where windows overlap
 * it gathers, in their order, what those that cover it have to give.
 *
 * The largest is a choice: it is made among numbers as they are in memory (pick.h). Sums are of T,
 * and W(name) is name of that type: f32 for bf16.
 */
#ifndef T
#include "core/cpu/simd/number.h"
#include "core/cpu/simd/pick.h"
#include "core/cpu/simd/vector.h"

/* Handed on by value: a store of bytes might change what a pointer shows. */
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

/* The windows that cover place i of 0 .. along one direction, of `count`. */
static part covering(int64_t i, int64_t count, window how)
{
    int64_t end = i + how.padding,
            before = end - how.kernel; /* the last start, and one too early */
    int64_t first = before < 0 ? 0 : before / how.stride + 1;
    return (part){first, max_i64(0, min_i64(count, end / how.stride + 1) - first)};
}

/* Windows that fill the image from its corner without a gap, all channels in vectors. */
static bool side_by_side(picture image, picture g, picture places, window how)
{
    return how.stride == how.kernel && how.padding == 0 && image.channel == 1 && g.channel == 1 &&
           places.channel == 1;
}

#define T float
#define E float
#define F(name) name##_f32
#define W(name) name##_f32
#include "core/cpu/simd/pool.c"
#define T double
#define E double
#define F(name) name##_f64
#define W(name) name##_f64
#include "core/cpu/simd/pool.c"
#define T float
#define E uint16_t
#define F(name) name##_bf16
#define W(name) name##_f32
#include "core/cpu/simd/pool.c"

/* name_f32, name_f64 or name_bf16 of these arguments. */
#define OF_DTYPE(dtype, name, ...) \
    ((dtype) == TORC_F64    ? name##_f64(__VA_ARGS__) \
     : (dtype) == TORC_BF16 ? name##_bf16(__VA_ARGS__) \
                            : name##_f32(__VA_ARGS__))

void SIMD(cpu_max_pool2d)(tensor *out, tensor *at, const tensor *x, window how)
{
    picture from = picture_of(x), to = picture_of(out);
    OF_DTYPE(x->dtype, max_pool, tensor_data(out), tensor_data(at), tensor_data(x), to, from, how);
}

void SIMD(cpu_max_pool2d_grad)(sink dx, const tensor *g, const tensor *at, window how)
{
    if (!dx.t)
        return;
    picture to = picture_of(dx.t), from = picture_of(g), places = picture_of(at);
    if (!dx.add && side_by_side(to, from, places, how)) {
        OF_DTYPE(g->dtype, hand_back, tensor_data(dx.t), tensor_data(g), tensor_data(at), to, from,
                 places, how);
        return;
    }
    OF_DTYPE(g->dtype, pool_grad, tensor_data(dx.t), dx.add, tensor_data(g), tensor_data(at), to,
             from, places, how);
}

void SIMD(cpu_avg_pool2d)(tensor *out, const tensor *x, window how)
{
    picture from = picture_of(x), to = picture_of(out);
    OF_DTYPE(x->dtype, avg_pool, tensor_data(out), tensor_data(x), to, from, how);
}

void SIMD(cpu_avg_pool2d_grad)(sink dx, const tensor *g, window how)
{
    if (!dx.t)
        return;
    picture to = picture_of(dx.t), from = picture_of(g);
    OF_DTYPE(g->dtype, pool_grad, tensor_data(dx.t), dx.add, tensor_data(g), NULL, to, from, from,
             how);
}

#else

/* The largest of one window for one channel, or for the LANES channels of a vector. The first cell
 * inside stands even where all are -inf; a NaN wins, and is never beaten again. x is at the
 * window's cell (0, 0), which may lie outside. */
static inline T F(max_one)(const E *x, picture from, part rows, part columns, int kernel, int *cell)
{
    T best = F(number)(x[rows.first * from.row + columns.first * from.column]);
    *cell = (int)(rows.first * kernel + columns.first);
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++) {
            T value = F(number)(x[i * from.row + j * from.column]);
            if (value <= best || best != best)
                continue;
            best = value;
            *cell = (int)(i * kernel + j);
        }
    return best;
}

static ALWAYS_INLINE void F(max_many)(E *out, uint8_t *at, const E *x, int64_t n, picture from,
                                      part rows, part columns, int kernel)
{
    const E *first = x + rows.first * from.row + columns.first * from.column;
    F(items) best = F(get)(first, n), key = F(key)(best);
    F(spots) cell = F(spot)((int)(rows.first * kernel + columns.first));
    for (int64_t i = 0; i < rows.n; i++)
        for (int64_t j = i == 0; j < columns.n; j++) {
            F(items) value = F(get)(first + i * from.row + j * from.column, n);
            F(items) its_key = F(key)(value);
            F(fits) wins = F(beats)(its_key, key);
            int here = (int)((rows.first + i) * kernel + columns.first + j);
            best = F(pick)(wins, value, best);
            key = F(pick)(wins, its_key, key);
            cell = F(pick_spots)(wins, F(spot)(here), cell);
        }
    F(put)(out, best, n);
    F(put_marks)(at, cell, n);
}

/* All channels of one output place, which lie side by side. */
static ALWAYS_INLINE void F(max_vectors)(E *out, uint8_t *at, const E *x, int64_t channels,
                                         picture from, part rows, part columns, int kernel)
{
    int64_t c = 0;
    for (; c + LANES(E) <= channels; c += LANES(E))
        F(max_many)(out + c, at + c, x + c, LANES(E), from, rows, columns, kernel);
    if (c < channels)
        F(max_many)(out + c, at + c, x + c, channels - c, from, rows, columns, kernel);
}

/* The usual window, a whole one of 2 x 2, has code without loops. */
static ALWAYS_INLINE void F(max_pool_place)(E *out, uint8_t *at, const E *x, picture to,
                                            picture from, part rows, part columns, int kernel)
{
    const part both = {0, 2};
    if (to.channel != 1 || from.channel != 1)
        for (int64_t c = 0; c < to.channels; c++) {
            int cell;
            out[c * to.channel] =
                F(element)(F(max_one)(x + c * from.channel, from, rows, columns, kernel, &cell));
            at[c * to.channel] = (uint8_t)cell;
        }
    else if (kernel == 2 && rows.n == 2 && columns.n == 2)
        F(max_vectors)(out, at, x, to.channels, from, both, both, 2);
    else
        F(max_vectors)(out, at, x, to.channels, from, rows, columns, kernel);
}

static void F(max_pool)(E *out, uint8_t *at, const E *x, picture to, picture from, window how)
{
    int64_t work = to.images * to.channels * to.height * to.width * how.kernel * how.kernel;
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to.images; n++)
        for (int64_t i = 0; i < to.height; i++)
            for (int64_t j = 0; j < to.width; j++) {
                int64_t place = n * to.image + i * to.row + j * to.column;
                int64_t row = i * how.stride - how.padding, column = j * how.stride - how.padding;
                F(max_pool_place)
                (out + place, at + place,
                 x + n * from.image + row * from.row + column * from.column, to, from,
                 inside(i, from.height, how), inside(j, from.width, how), how.kernel);
            }
}

/* Cells outside add nothing, but count: factor is 1 / kernel^2 everywhere. x is at the window's
 * cell (0, 0). */
static inline T F(sum_one)(const E *x, picture from, part rows, part columns)
{
    T sum = 0;
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++)
            sum += F(number)(x[i * from.row + j * from.column]);
    return sum;
}

static ALWAYS_INLINE F(vec)
    F(sum_many)(const E *x, int64_t n, picture from, part rows, part columns)
{
    F(vec) sum = {0};
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++)
            sum += F(read_some)(x + i * from.row + j * from.column, n, 0);
    return sum;
}

static ALWAYS_INLINE void F(avg_pool_place)(E *out, const E *x, picture to, picture from, part rows,
                                            part columns, T factor)
{
    int64_t c = 0, n = to.channels;
    for (; to.channel == 1 && from.channel == 1 && c < n; c += LANES(T))
        F(write_some)(out + c, F(sum_many)(x + c, n - c, from, rows, columns) * factor, n - c);
    for (; c < n; c++)
        out[c * to.channel] =
            F(element)(F(sum_one)(x + c * from.channel, from, rows, columns) * factor);
}

static void F(avg_pool)(E *out, const E *x, picture to, picture from, window how)
{
    int64_t work = to.images * to.channels * to.height * to.width * how.kernel * how.kernel;
    T factor = (T)1 / (T)(how.kernel * how.kernel);
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to.images; n++)
        for (int64_t i = 0; i < to.height; i++)
            for (int64_t j = 0; j < to.width; j++) {
                int64_t row = i * how.stride - how.padding, column = j * how.stride - how.padding;
                F(avg_pool_place)
                (out + n * to.image + i * to.row + j * to.column,
                 x + n * from.image + row * from.row + column * from.column, to, from,
                 inside(i, from.height, how), inside(j, from.width, how), factor);
            }
}

/* ---- gradients ---- */

/* Of a window whose cell 0 is at dx, all channels: g to the cell that was the largest, else 0. */
static ALWAYS_INLINE void F(hand_back_window)(E *dx, picture to, const E *g, const uint8_t *at,
                                              int64_t c, int64_t n, int kernel)
{
    F(items) given = F(get)(g + c, n);
    F(seen) marks = F(get_marks)(at + c, n);
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++)
            F(put)(dx + i * to.row + j * to.column + c, F(marked)(given, marks, i * kernel + j), n);
}

static ALWAYS_INLINE void F(hand_back_place)(E *dx, picture to, const E *g, const uint8_t *at,
                                             int kernel)
{
    int64_t c = 0;
    for (; c + LANES(E) <= to.channels; c += LANES(E))
        F(hand_back_window)(dx, to, g, at, c, LANES(E), kernel);
    if (c < to.channels)
        F(hand_back_window)(dx, to, g, at, c, to.channels - c, kernel);
}

static void F(clear_places)(E *dx, picture to, part rows, part columns)
{
    for (int64_t i = rows.first; i < rows.first + rows.n; i++)
        for (int64_t j = columns.first; j < columns.first + columns.n; j++)
            memset(dx + i * to.row + j * to.column, 0, (size_t)to.channels * sizeof(E));
}

/* A row of windows at a time, and of the rest of dx, which is in none, what is beside and below. */
static void F(hand_back)(E *dx, const E *g, const uint8_t *at, picture to, picture from,
                         picture places, window how)
{
    int64_t k = how.kernel, work = to.images * to.channels * to.height * to.width * 4;
    part beside = {from.width * k, to.width - from.width * k};
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to.images; n++)
        for (int64_t row = 0; row < part_count(to.height, k); row++) {
            E *image = dx + n * to.image;
            if (row == from.height) {
                F(clear_places)
                (image, to, (part){row * k, to.height - row * k}, (part){0, to.width});
                continue;
            }
            for (int64_t j = 0; j < from.width; j++) {
                E *corner = image + row * k * to.row + j * k * to.column;
                const E *g_place = g + n * from.image + row * from.row + j * from.column;
                const uint8_t *at_place =
                    at + n * places.image + row * places.row + j * places.column;
                if (k == 2)
                    F(hand_back_place)(corner, to, g_place, at_place, 2);
                else
                    F(hand_back_place)(corner, to, g_place, at_place, (int)k);
            }
            F(clear_places)(image, to, (part){row * k, k}, beside);
        }
}

/* Of one place of dx: the windows that cover it, and what they give. */
typedef struct F(cover) {
    part rows, columns;
    int64_t row, column; /* of the place, counted from the first cell of window 0 */
    const E *g;
    const uint8_t *at; /* NULL: of a mean */
    picture from, places;
    window how;
} F(cover);

/* The place's cell in window (i, j). */
static ALWAYS_INLINE int F(cell_in)(const F(cover) * p, int64_t i, int64_t j)
{
    int64_t row = p->row - i * p->how.stride, column = p->column - j * p->how.stride;
    return (int)(row * p->how.kernel + column);
}

/* sum + what the windows give to channel c: g where the place was the largest, or g times factor.
 */
static inline T F(given_one)(const F(cover) * p, int64_t c, T sum, T factor)
{
    picture from = p->from, places = p->places;
    for (int64_t i = p->rows.first; i < p->rows.first + p->rows.n; i++)
        for (int64_t j = p->columns.first; j < p->columns.first + p->columns.n; j++) {
            int64_t at = i * places.row + j * places.column + c * places.channel;
            T g = F(number)(p->g[i * from.row + j * from.column + c * from.channel]);
            if (!p->at)
                sum += g * factor;
            else if (p->at[at] == F(cell_in)(p, i, j))
                sum += g;
        }
    return sum;
}

/* The same of window (i, j) for the next n channels, as many as a vector holds. */
static ALWAYS_INLINE F(vec) F(given_in)(const F(cover) * p, int64_t i, int64_t j, int64_t c,
                                        int64_t n, F(vec) sum, T factor)
{
    picture from = p->from, places = p->places;
    F(vec) g = F(read_some)(p->g + i * from.row + j * from.column + c, n, 0);
    if (!p->at)
        return sum + g * factor;
    W(seen) marks = W(get_marks)(p->at + i * places.row + j * places.column + c, n);
    return sum + W(marked)(g, marks, F(cell_in)(p, i, j));
}

static ALWAYS_INLINE F(vec)
    F(given_many)(const F(cover) * p, int64_t c, int64_t n, F(vec) sum, T factor)
{
    if (p->rows.n == 1 && p->columns.n == 1) /* windows that do not overlap */
        return F(given_in)(p, p->rows.first, p->columns.first, c, n, sum, factor);
    for (int64_t i = p->rows.first; i < p->rows.first + p->rows.n; i++)
        for (int64_t j = p->columns.first; j < p->columns.first + p->columns.n; j++)
            sum = F(given_in)(p, i, j, c, n, sum, factor);
    return sum;
}

/* All channels of one place of dx. */
static ALWAYS_INLINE void F(place_grad)(E *dx, bool add, picture to, const F(cover) * p)
{
    const T factor = (T)1 / (T)(p->how.kernel * p->how.kernel);
    int64_t c = 0, channels = to.channels;
    bool vectors = to.channel == 1 && p->from.channel == 1 && p->places.channel == 1;
    for (; vectors && c < channels; c += LANES(T)) {
        int64_t n = min_i64(LANES(T), channels - c);
        F(vec) sum = add ? F(read_some)(dx + c, n, 0) : (F(vec)){0};
        F(write_some)(dx + c, F(given_many)(p, c, n, sum, factor), n);
    }
    for (; c < channels; c++) {
        E *to_c = dx + c * to.channel;
        *to_c = F(element)(F(given_one)(p, c, add ? F(number)(*to_c) : 0, factor));
    }
}

/* `at` is NULL for means. */
static void F(pool_grad)(E *dx, bool add, const E *g, const uint8_t *at, picture to, picture from,
                         picture places, window how)
{
    int64_t work = to.images * to.channels * to.height * to.width * 4;
#pragma omp parallel for collapse(2) schedule(static) if (parallel_worth(work * 2))
    for (int64_t n = 0; n < to.images; n++)
        for (int64_t row = 0; row < to.height; row++) {
            F(cover)
            p = {.row = row + how.padding,
                 .rows = covering(row, from.height, how),
                 .g = g + n * from.image,
                 .at = at ? at + n * places.image : NULL,
                 .from = from,
                 .places = places,
                 .how = how};
            for (int64_t column = 0; column < to.width; column++) {
                p.column = column + how.padding;
                p.columns = covering(column, from.width, how);
                F(place_grad)
                (dx + n * to.image + row * to.row + column * to.column, add, to, &p);
            }
        }
}

#undef T
#undef E
#undef F
#undef W
#endif
