/*
 * conv -- convolution and the gradient of its input on the GPU: one kernel, whose places see an
 * image through windows and multiply what they see by a matrix of weights.
 *
 *                   places     see         through cell u at        columns
 *     y, from x     of y       x           i stride + u dilation    channels of y
 *                                            - padding
 *     dx, from g    of x       g           (i - u dilation          channels of x
 *                                            + padding) / stride
 *
 * The weights are arranged first, as [length, columns] of each group, with zeros up to whole tiles.
 * Behind the sum come the bias, the rounding (into pre), and the activation of what was rounded.
 */
#include "core/cuda/conv_tile.h"
#include "core/cuda/function.h"

/* ---- weights ---- */

/* Element (k, column) of a group, with k = (u kernel + v) depth + channel, is at
 * group * g + column * n + channel * c + u * h + v * w. */
template <class E> struct weights {
    const E *from;
    int64_t g, n, c, h, w; /* strides */
    int kernel, depth, length;
    int64_t columns, rows_up, columns_up, groups; /* up: to whole tiles */
};

template <class E> __global__ void arrange(weights<E> w, E *to)
{
    EACH(i, w.groups * w.rows_up * w.columns_up) {
        int64_t column = i % w.columns_up, k = i / w.columns_up % w.rows_up;
        int64_t group = i / w.columns_up / w.rows_up, cell = w.depth ? k / w.depth : 0;
        const E *at = w.from + group * w.g + column * w.n + (k - cell * w.depth) * w.c +
                      cell / w.kernel * w.h + cell % w.kernel * w.w;
        to[i] = k < w.length && column < w.columns ? *at : E();
    }
}

/* ---- the kernel ---- */

template <class E> struct task {
    sight s;
    image<const E> x;
    const E *weights; /* arranged */
    int64_t columns, rows_up, columns_up, groups;
    image<void> out, pre; /* pre.data NULL: not wanted */
    bool wide;            /* out and pre are f32 where E is bf16 or f16 */
    bool packed;          /* four neighbouring channels of them are moved at once */
    const compute<E> *bias;
    int act;
    bool add;
};

/* n results of neighbouring channels, n 1 or 4, on their way to memory. */
template <class R, int N, class E, class T>
__device__ static inline void finish(const task<E> &t, int64_t at, int64_t pre_at, T x[N])
{
    pack<R, N> out;
    R *to = (R *)t.out.data + at;
    if (t.add) {
        pack<R, N> before = *(const pack<R, N> *)to;
        for (int i = 0; i < N; i++)
            x[i] += widen(before.at[i]);
    }
    for (int i = 0; i < N; i++)
        out.at[i] = narrow<R>(x[i]);
    if (t.pre.data)
        *(pack<R, N> *)((R *)t.pre.data + pre_at) = out;
    if (t.act != EW_NONE)
        for (int i = 0; i < N; i++)
            out.at[i] = narrow<R>(activation(t.act, (T)widen(out.at[i])));
    *(pack<R, N> *)to = out;
}

template <class E, int N, class T>
__device__ static inline void finish_any(const task<E> &t, int64_t at, int64_t pre_at, T x[N])
{
    if (is_low<E> && t.wide)
        finish<float, N>(t, at, pre_at, x);
    else
        finish<E, N>(t, at, pre_at, x);
}

/* The tile's sums from shared memory, four of a row a time. */
template <class TILE>
__device__ static inline void write_tile(const task<typename TILE::E> &t,
                                         const typename TILE::T *sums, int64_t first,
                                         int64_t column, int64_t group)
{
    using T = typename TILE::T;
    for (int e = (int)threadIdx.x; e < TILE::M * TILE::N / 4; e += THREADS) {
        int row = e / (TILE::N / 4), skip = e % (TILE::N / 4) * 4;
        int64_t index = first + row, c = column + skip, n;
        if (index >= t.s.places || c >= t.columns)
            continue;
        int i, j;
        place_split(t.s, index, &n, &i, &j);
        int64_t channel = group * t.columns + c;
        int64_t at = n * t.out.n + i * t.out.h + j * t.out.w + channel * t.out.c;
        int64_t pre_at = n * t.pre.n + i * t.pre.h + j * t.pre.w + channel * t.pre.c;
        T x[4];
        for (int q = 0; q < 4; q++)
            x[q] = sums[row * TILE::RESULT_ROW + skip + q] +
                   (t.bias && c + q < t.columns ? t.bias[channel + q] : (T)0);
        if (t.packed)
            finish_any<typename TILE::E, 4>(t, at, pre_at, x);
        else
            for (int q = 0; q < 4 && c + q < t.columns; q++)
                finish_any<typename TILE::E, 1>(t, at + q * t.out.c, pre_at + q * t.pre.c, x + q);
    }
}

/* Begins to copy the windows of the tile's places from number k on. */
template <class TILE>
__device__ static inline void load_windows(const task<typename TILE::E> &t, typename TILE::E *left,
                                           const place<typename TILE::E> *places, int64_t k)
{
    constexpr int V = TILE::V, PACKS = TILE::K / V;
#pragma unroll
    for (int e = (int)threadIdx.x; e < TILE::M * PACKS; e += THREADS) {
        /* With packs, neighbours take the packs of a place; without, neighbouring places. */
        int row = V > 1 ? e / PACKS : e % TILE::M, inner = V > 1 ? e % PACKS * V : e / TILE::M;
        copy_pack<V>(left + row * TILE::LEFT_ROW + inner, seen(t.s, t.x, places[row], k + inner),
                     t.x.data);
    }
}

/* The arranged weights are whole packs whatever the image is. */
template <class TILE>
__device__ static inline void load_weights(const task<typename TILE::E> &t, typename TILE::E *right,
                                           const typename TILE::E *from)
{
    constexpr int V = pack_width<typename TILE::E>, PACKS = TILE::N / V;
#pragma unroll
    for (int e = (int)threadIdx.x; e < TILE::K * PACKS; e += THREADS) {
        int k = e / PACKS, column = e % PACKS * V;
        machine_copy_async<16>(right + k * TILE::RIGHT_ROW + column,
                               from + k * t.columns_up + column, true);
    }
}

template <class TILE>
__global__ void __launch_bounds__(THREADS, 2) conv_places(task<typename TILE::E> t)
{
    using E = typename TILE::E;
    SHARED_BYTES(unsigned char, shared);
    __shared__ place<E> places[TILE::M];
    int64_t across = t.columns_up / TILE::N, down = (t.s.places + TILE::M - 1) / TILE::M;
    int64_t column = blockIdx.x % across * TILE::N, group = blockIdx.x / across / down;
    int64_t first = blockIdx.x / across % down * TILE::M;
    for (int i = (int)threadIdx.x; i < TILE::M; i += THREADS)
        places[i] = place_at(t.s, t.x, group * t.s.depth, first + i, t.s.places);
    __syncthreads();
    const E *weights = t.weights + group * t.rows_up * t.columns_up + column;
    typename TILE::T sum[TILE::SUMS] = {};
    sum_products<TILE>(sum, (E *)shared, t.rows_up / TILE::K, [&](int64_t step, E *left, E *right) {
        load_windows<TILE>(t, left, places, step * TILE::K);
        load_weights<TILE>(t, right, weights + step * TILE::K * t.columns_up);
    });
    lay_out<TILE>((typename TILE::T *)shared, sum);
    write_tile<TILE>(t, (const typename TILE::T *)shared, first, column, group);
}

/* ---- launching ---- */

template <class TILE> static void run_tile(task<typename TILE::E> t, weights<typename TILE::E> w)
{
    using E = typename TILE::E;
    t.rows_up = w.rows_up = rounded_up(w.length, TILE::K);
    t.columns_up = w.columns_up = rounded_up(w.columns, TILE::N);
    int64_t size = w.groups * w.rows_up * w.columns_up;
    storage *room = storage_new((size_t)size * sizeof(E));
    t.weights = (const E *)room->data;
    LAUNCH((arrange<E>), grid_of(size, 256), 256, w, (E *)room->data);
    int64_t blocks = part_count(t.s.places, TILE::M) * (t.columns_up / TILE::N) * t.groups;
    LAUNCH_SHARED((conv_places<TILE>), blocks, THREADS, TILE::BYTES, t);
    storage_release(room);
}

enum { ROWS = 128, BLOCKS_ENOUGH = 264 /* two for each processor of an H100 */ };

/* Wide tiles, unless columns or blocks are few. */
template <class E> static void run_packs(const task<E> &t, const weights<E> &w)
{
    constexpr int V = pack_width<E>;
    int64_t wide = part_count(t.s.places, ROWS) * part_count(w.columns, 128) * t.groups;
    if (w.columns <= 32)
        run_tile<tile<E, V, ROWS, 32, false>>(t, w);
    else if (w.columns <= 64 || wide < BLOCKS_ENOUGH)
        run_tile<tile<E, V, ROWS, 64, false>>(t, w);
    else
        run_tile<tile<E, V, ROWS, 128, false>>(t, w);
}

template <class E> static void run(const task<E> &t, const weights<E> &w)
{
    if constexpr (sizeof(E) == sizeof(double)) /* gradient checks: small images */
        run_tile<tile<E, 1, 32, 32, false>>(t, w);
    else if (has_packs(t.x, t.s.depth))
        run_packs(t, w);
    else
        run_tile<tile<E, 1, ROWS, 64, false>>(t, w);
}

static bool moves_four(const tensor *t, int64_t channels)
{
    return t->stride[1] == 1 && channels % 4 == 0 && t->stride[0] % 4 == 0 &&
           t->stride[2] % 4 == 0 && t->stride[3] % 4 == 0 && is_aligned(tensor_data(t));
}

static image<void> result_of(const tensor *t)
{
    return t ? image_of<void>(t) : image<void>();
}

/* out: places of it see x, with `columns` channels of out and `depth` of x a group. */
template <class E>
static task<E> task_of(const tensor *out, const tensor *x, window how, int64_t columns,
                       int64_t depth)
{
    task<E> t = {};
    t.s.rows = (int)out->shape[2], t.s.columns = (int)out->shape[3];
    t.s.places = out->shape[0] * out->shape[2] * out->shape[3];
    t.s.kernel = how.kernel;
    t.s.depth = (int)depth, t.s.length = (int)(depth * how.kernel * how.kernel);
    t.x = image_of<const E>(x);
    t.columns = columns, t.groups = how.groups;
    t.out = result_of(out);
    t.wide = out->dtype != x->dtype;
    t.packed = moves_four(out, columns);
    t.act = EW_NONE;
    return t;
}

/* ---- y ---- */

template <class E>
static void forward(tensor *out, tensor *pre, const tensor *x, const tensor *w, const tensor *bias,
                    window how, elementwise_op act)
{
    int64_t columns = out->shape[1] / how.groups, depth = x->shape[1] / how.groups;
    task<E> t = task_of<E>(out, x, how, columns, depth);
    t.s.scale = how.stride, t.s.step = how.dilation, t.s.offset = -how.padding, t.s.divide = 1;
    t.pre = result_of(pre);
    t.packed = t.packed && (!pre || moves_four(pre, columns));
    t.bias = data_of<compute<E>>(bias);
    t.act = act;
    run(t,
        weights<E>{data_of<E>(w), columns * w->stride[0], w->stride[0], w->stride[1], w->stride[2],
                   w->stride[3], how.kernel, t.s.depth, t.s.length, columns, 0, 0, how.groups});
}

void cuda_conv2d(tensor *out, tensor *pre, const tensor *x, const tensor *w, const tensor *bias,
                 window how, elementwise_op act)
{
    if (tensor_numel(out) > 0)
        BY_FLOAT(x->dtype, forward<E>(out, pre, x, w, bias, how, act));
}

/* ---- dx ---- */

template <class E> static void grad_input(sink dx, const tensor *g, const tensor *w, window how)
{
    int64_t columns = dx.t->shape[1] / how.groups, depth = g->shape[1] / how.groups;
    task<E> t = task_of<E>(dx.t, g, how, columns, depth);
    t.s.scale = 1, t.s.step = -how.dilation, t.s.offset = how.padding, t.s.divide = how.stride;
    t.add = dx.add;
    run(t, weights<E>{data_of<E>(w), depth * w->stride[0], w->stride[1], w->stride[0], w->stride[2],
                      w->stride[3], how.kernel, t.s.depth, t.s.length, columns, 0, 0, how.groups});
}

void cuda_conv2d_grad_input(sink dx, const tensor *g, const tensor *w, window how)
{
    if (dx.t && tensor_numel(dx.t) > 0)
        BY_FLOAT(g->dtype, grad_input<E>(dx, g, w, how));
}
