/*
 * pool -- the largest or the mean of each window of an image, and their gradients.
 *
 *     a window of 2 x 2 at a corner, padding 1:    . .
 *                                                  . x     padding never wins, but counts in a mean
 *
 * A thread writes one place of one channel, or, where the channels of all tensors lie side by side
 * (NHWC), of as many channels as fill 16 bytes. In the gradient it gathers, in their order, what
 * the windows that cover its place have to give, so nothing is ever written twice.
 */
#include "core/cuda/kernel.h"

typedef struct picture { /* element (n, c, row, column), in elements */
    int64_t images, channels, height, width;
    int64_t image, channel, row, column;
} picture;

static picture picture_of(const tensor *t)
{
    return {t->shape[0],  t->shape[1],  t->shape[2],  t->shape[3],
            t->stride[0], t->stride[1], t->stride[2], t->stride[3]};
}

/* What a launch is about: `to` is walked in the order of its memory, `from` read. */
typedef struct pooling {
    picture to, from, places; /* places: of the maxima, bytes */
    window how;
    int64_t threads; /* places of `to` in all channels, or in all packs of channels */
    bool add, max;
} pooling;

struct spot {
    int64_t image, channel, row, column;
};

/* The quotient, and in *rest what is left over; 32 bits take a quarter of the time. */
__device__ static inline int64_t divide(int64_t i, int64_t by, int64_t *rest)
{
    int64_t result = i <= INT_MAX ? (int64_t)((uint32_t)i / (uint32_t)by) : i / by;
    *rest = i - result * by;
    return result;
}

/* Of thread i, N channels a thread: neighbours in memory are neighbouring threads. */
template <int N> __device__ static inline spot spot_of(const picture &to, int64_t i)
{
    spot s;
    if (to.channel == 1) {
        i = divide(i, to.channels / N, &s.channel);
        s.channel *= N;
        i = divide(i, to.width, &s.column);
        s.image = divide(i, to.height, &s.row);
    } else {
        i = divide(i, to.width, &s.column);
        i = divide(i, to.height, &s.row);
        s.image = divide(i, to.channels, &s.channel);
    }
    return s;
}

/* The cells first .. end - 1 of a window at output place i that lie inside 0 .. size - 1. */
struct range {
    int64_t first, end;
};
__device__ static inline range inside(int64_t i, int64_t size, const window &how)
{
    int64_t start = i * how.stride - how.padding, rest = size - start;
    return {start < 0 ? -start : 0, rest < how.kernel ? rest : how.kernel};
}

/* The windows that cover place i, along one direction, of `count`. */
__device__ static inline range covering(int64_t i, int64_t count, const window &how)
{
    int64_t end = i + how.padding, before = end - how.kernel; /* last start, and one too early */
    int64_t last = end / how.stride + 1;
    return {before < 0 ? 0 : before / how.stride + 1, last < count ? last : count};
}

template <class E, class T, int N> __device__ static inline void load(T (&to)[N], const E *from)
{
    pack<E, N> p = *(const pack<E, N> *)from;
    for (int k = 0; k < N; k++)
        to[k] = widen(p.at[k]);
}

template <class E, class T, int N> __device__ static inline void store(E *to, const T (&from)[N])
{
    pack<E, N> p;
    for (int k = 0; k < N; k++)
        p.at[k] = narrow<E>(from[k]);
    *(pack<E, N> *)to = p;
}

/* ---- forward ---- */

/* The first cell inside stands even where all are -inf; a NaN wins, and is never beaten again. */
template <class E, int N> __global__ void max_windows(E *out, uint8_t *at, const E *x, pooling p)
{
    EACH(i, p.threads) {
        spot s = spot_of<N>(p.to, i);
        range rows = inside(s.row, p.from.height, p.how);
        range columns = inside(s.column, p.from.width, p.how);
        const E *cell0 = x + s.image * p.from.image + s.channel * p.from.channel +
                         (s.row * p.how.stride - p.how.padding) * p.from.row +
                         (s.column * p.how.stride - p.how.padding) * p.from.column;
        compute<E> best[N] = {}, v[N];
        pack<uint8_t, N> cell = {};
        for (int64_t r = rows.first; r < rows.end; r++)
            for (int64_t c = columns.first; c < columns.end; c++) {
                load(v, cell0 + r * p.from.row + c * p.from.column);
                bool first = r == rows.first && c == columns.first;
                for (int k = 0; k < N; k++)
                    if (first || !(v[k] <= best[k] || best[k] != best[k])) {
                        best[k] = v[k];
                        cell.at[k] = (uint8_t)(r * p.how.kernel + c);
                    }
            }
        int64_t place = s.image * p.to.image + s.channel * p.to.channel + s.row * p.to.row +
                        s.column * p.to.column;
        store(out + place, best);
        *(pack<uint8_t, N> *)(at + place) = cell;
    }
}

template <class E, int N> __global__ void mean_windows(E *out, const E *x, pooling p)
{
    using T = compute<E>;
    T factor = (T)1 / (T)(p.how.kernel * p.how.kernel);
    EACH(i, p.threads) {
        spot s = spot_of<N>(p.to, i);
        range rows = inside(s.row, p.from.height, p.how);
        range columns = inside(s.column, p.from.width, p.how);
        const E *cell0 = x + s.image * p.from.image + s.channel * p.from.channel +
                         (s.row * p.how.stride - p.how.padding) * p.from.row +
                         (s.column * p.how.stride - p.how.padding) * p.from.column;
        T sum[N] = {}, v[N];
        for (int64_t r = rows.first; r < rows.end; r++)
            for (int64_t c = columns.first; c < columns.end; c++) {
                load(v, cell0 + r * p.from.row + c * p.from.column);
                for (int k = 0; k < N; k++)
                    sum[k] += v[k];
            }
        for (T &v : sum)
            v *= factor;
        store(out + s.image * p.to.image + s.channel * p.to.channel + s.row * p.to.row +
                  s.column * p.to.column,
              sum);
    }
}

/* ---- gradients ---- */

/* sum += what window (i, j) gives to place s: g where the place was the largest, or the mean's
 * share. */
template <class E, int N, class T>
__device__ static inline void take_from(const pooling &p, const E *g, const uint8_t *at,
                                        const spot &s, int64_t i, int64_t j, T (&sum)[N])
{
    T v[N];
    load(v, g + s.image * p.from.image + s.channel * p.from.channel + i * p.from.row +
                j * p.from.column);
    if (!p.max) {
        for (int k = 0; k < N; k++)
            sum[k] += v[k] * ((T)1 / (T)(p.how.kernel * p.how.kernel));
        return;
    }
    pack<uint8_t, N> cell =
        *(const pack<uint8_t, N> *)(at + s.image * p.places.image + s.channel * p.places.channel +
                                    i * p.places.row + j * p.places.column);
    int64_t row = s.row + p.how.padding - i * p.how.stride;
    int64_t column = s.column + p.how.padding - j * p.how.stride;
    for (int k = 0; k < N; k++)
        sum[k] += cell.at[k] == row * p.how.kernel + column ? v[k] : 0;
}

template <class E, int N> __global__ void pool_grad(E *dx, const E *g, const uint8_t *at, pooling p)
{
    EACH(i, p.threads) {
        spot s = spot_of<N>(p.to, i);
        range rows = covering(s.row, p.from.height, p.how);
        range columns = covering(s.column, p.from.width, p.how);
        E *to = dx + s.image * p.to.image + s.channel * p.to.channel + s.row * p.to.row +
                s.column * p.to.column;
        compute<E> sum[N] = {};
        if (p.add)
            load(sum, to);
        for (int64_t r = rows.first; r < rows.end; r++)
            for (int64_t c = columns.first; c < columns.end; c++)
                take_from(p, g, at, s, r, c, sum);
        store(to, sum);
    }
}

/* ---- which ---- */

/* A pack of channels may be moved at once at any place of t. */
static bool fits_packs(const tensor *t, int64_t N)
{
    return !t ||
           (t->stride[1] == 1 && t->stride[0] % N == 0 && t->stride[2] % N == 0 &&
            t->stride[3] % N == 0 && (uintptr_t)tensor_data(t) % (N * tensor_item_size(t)) == 0);
}

/* function<E, N>(...) with p's threads counted: packs of channels where these lie side by side. */
#define LAUNCH_POOL(function, a, b, c, ...) \
    do { \
        constexpr int N = pack_width<E>; \
        int64_t numel = tensor_numel(a); \
        if ((a)->shape[1] % N == 0 && fits_packs(a, N) && fits_packs(b, N) && fits_packs(c, N)) { \
            p.threads = numel / N; \
            LAUNCH((function<E, N>), grid_of(p.threads, 256), 256, __VA_ARGS__); \
        } else { \
            p.threads = numel; \
            LAUNCH((function<E, 1>), grid_of(p.threads, 256), 256, __VA_ARGS__); \
        } \
    } while (0)

static pooling pooling_of(const tensor *to, const tensor *from, const tensor *places, bool add,
                          window how)
{
    return {picture_of(to), picture_of(from), picture_of(places ? places : from), how, 0, add,
            places != NULL};
}

void cuda_max_pool2d(tensor *out, tensor *at, const tensor *x, window how)
{
    pooling p = pooling_of(out, x, at, false, how);
    BY_FLOAT(x->dtype, LAUNCH_POOL(max_windows, out, x, at, data_of<E>(out), data_of<uint8_t>(at),
                                   data_of<E>(x), p));
}

void cuda_avg_pool2d(tensor *out, const tensor *x, window how)
{
    pooling p = pooling_of(out, x, NULL, false, how);
    BY_FLOAT(x->dtype, LAUNCH_POOL(mean_windows, out, x, (const tensor *)NULL, data_of<E>(out),
                                   data_of<E>(x), p));
}

static void launch_grad(sink dx, const tensor *g, const tensor *at, window how)
{
    if (!dx.t)
        return;
    pooling p = pooling_of(dx.t, g, at, dx.add, how);
    BY_FLOAT(g->dtype, LAUNCH_POOL(pool_grad, dx.t, g, at, data_of<E>(dx.t), data_of<E>(g),
                                   data_of<uint8_t>(at), p));
}

void cuda_max_pool2d_grad(sink dx, const tensor *g, const tensor *at, window how)
{
    launch_grad(dx, g, at, how);
}

void cuda_avg_pool2d_grad(sink dx, const tensor *g, window how)
{
    launch_grad(dx, g, NULL, how);
}
