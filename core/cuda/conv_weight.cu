/*
 * conv_weight -- the gradients of a convolution's weight and bias on the GPU.
 *
 *     dw [length, O] = windows^T g       g [places, O], and a row of `windows` [places, length] is
 *                                        what a place sees of x
 *
 *     places   |--- part 0 ---|--- part 1 ---| ...      few results, each a sum over many places:
 *                    v               v                  a part of them has a dw of its own, and
 *                 dw [.., O]      dw [.., O]            the kernel `reduce` adds the parts in order
 *
 * Parts depend on the shape alone. See conv_tile.h for the words.
 */
#include "core/cuda/conv_tile.h"

template <class E> struct task {
    sight s;
    image<const E> x, g;
    int64_t columns, groups; /* columns: channels of g in a group */
    int64_t part, parts;     /* in places */
    compute<E> *sums;        /* [parts, groups, length, columns] */
};

/* Begins to copy what places first .. first + K - 1 see from number k on. */
template <class TILE>
__device__ static inline void load_windows(const task<typename TILE::E> &t, typename TILE::E *left,
                                           int64_t first, int64_t end, int64_t k, int64_t group)
{
    constexpr int V = TILE::V, PACKS = TILE::M / V;
#pragma unroll
    for (int e = (int)threadIdx.x; e < TILE::K * PACKS; e += THREADS) {
        int row = V > 1 ? e / PACKS : e % TILE::K, skip = V > 1 ? e % PACKS * V : e / TILE::K;
        auto p = place_at(t.s, t.x, group * t.s.depth, first + row, end);
        copy_pack<V>(left + row * TILE::LEFT_ROW + skip, seen(t.s, t.x, p, k + skip), t.x.data);
    }
}

/* The same places of g, from channel `column` of the group on. */
template <class TILE>
__device__ static inline void load_gradients(const task<typename TILE::E> &t,
                                             typename TILE::E *right, int64_t first, int64_t end,
                                             int64_t column, int64_t group)
{
    using E = typename TILE::E;
    constexpr int V = TILE::V, PACKS = TILE::N / V;
#pragma unroll
    for (int e = (int)threadIdx.x; e < TILE::K * PACKS; e += THREADS) {
        int row = e / PACKS, skip = e % PACKS * V;
        const E *from = NULL;
        if (first + row < end && column + skip < t.columns) {
            int64_t n;
            int i, j;
            place_split(t.s, first + row, &n, &i, &j);
            from = t.g.data + n * t.g.n + i * t.g.h + j * t.g.w +
                   (group * t.columns + column + skip) * t.g.c;
        }
        copy_pack<V>(right + row * TILE::RIGHT_ROW + skip, from, t.g.data);
    }
}

template <class TILE>
__global__ void __launch_bounds__(THREADS, 2) conv_weight_part(task<typename TILE::E> t)
{
    using E = typename TILE::E;
    using T = typename TILE::T;
    SHARED_BYTES(unsigned char, shared);
    int64_t across = (t.columns + TILE::N - 1) / TILE::N;
    int64_t down = (t.s.length + TILE::M - 1) / TILE::M, index = blockIdx.x;
    int64_t column = index % across * TILE::N, k = index / across % down * TILE::M;
    int64_t group = index / across / down % t.groups, part = index / across / down / t.groups;
    int64_t first = part * t.part, end = first + t.part < t.s.places ? first + t.part : t.s.places;
    T sum[TILE::SUMS] = {};
    sum_products<TILE>(sum, (E *)shared, (end - first + TILE::K - 1) / TILE::K,
                       [&](int64_t step, E *left, E *right) {
                           int64_t from = first + step * TILE::K;
                           load_windows<TILE>(t, left, from, end, k, group);
                           load_gradients<TILE>(t, right, from, end, column, group);
                       });
    T *result = (T *)shared;
    lay_out<TILE>(result, sum);
    T *to = t.sums + (part * t.groups + group) * t.s.length * t.columns;
    for (int e = (int)threadIdx.x; e < TILE::M * TILE::N; e += THREADS) {
        int row = e / TILE::N, skip = e % TILE::N;
        if (k + row < t.s.length && column + skip < t.columns)
            to[(k + row) * t.columns + column + skip] = result[row * TILE::RESULT_ROW + skip];
    }
}

/* ---- launching ---- */

enum { BLOCKS_ENOUGH = 528, PART_LEAST = 256 /* places */ };
#define PARTS_BYTES ((int64_t)32 << 20)

/* dw (+)= the sums of all parts. */
template <class E> static void give_parts(sink dw, const task<E> &t, storage *room, int64_t kernel)
{
    tensor sums = {}, out = *dw.t;
    const int64_t shape[] = {t.parts, t.groups, kernel, kernel, t.s.depth, t.columns};
    const int64_t *w = dw.t->stride;
    const int64_t stride[] = {0, t.columns * w[0], w[2], w[3], w[1], w[0]};
    sums.ndim = out.ndim = 6;
    sums.dtype = sizeof(compute<E>) == sizeof(double) ? TORC_F64 : TORC_F32;
    sums.store = room;
    int64_t step = 1;
    for (int d = 5; d >= 0; d--) {
        sums.shape[d] = shape[d], sums.stride[d] = step;
        out.shape[d] = d ? shape[d] : 1, out.stride[d] = stride[d];
        step *= shape[d];
    }
    cuda_reduce(REDUCE_SUM, &out, &sums, 1, dw.add);
}

template <class TILE> static void run_tile(task<typename TILE::E> t, sink dw)
{
    using T = typename TILE::T;
    int64_t tiles = part_count(t.columns, TILE::N) * part_count(t.s.length, TILE::M) * t.groups;
    int64_t size = t.groups * t.s.length * t.columns;
    int64_t fit = max_i64(1, PARTS_BYTES / (size * (int64_t)sizeof(T)));
    int64_t parts = min_i64(fit, part_count(BLOCKS_ENOUGH, tiles));
    t.part = rounded_up(max_i64(PART_LEAST, part_count(t.s.places, parts)), TILE::K);
    t.parts = max_i64(1, part_count(t.s.places, t.part));
    storage *room = storage_new((size_t)(t.parts * size) * sizeof(T));
    t.sums = (T *)room->data;
    LAUNCH_SHARED((conv_weight_part<TILE>), tiles * t.parts, THREADS, TILE::BYTES, t);
    give_parts(dw, t, room, t.s.kernel);
    storage_release(room);
}

template <class E> static void run(const task<E> &t, sink dw)
{
    constexpr int V = pack_width<E>;
    bool packs = has_packs(t.x, t.s.depth) && has_packs(t.g, t.columns);
    if constexpr (sizeof(E) < sizeof(double)) {
        if (packs && t.columns <= 32)
            return run_tile<tile<E, V, 128, 32, true>>(t, dw);
        if (packs && t.columns <= 64)
            return run_tile<tile<E, V, 128, 64, true>>(t, dw);
        if (packs)
            return run_tile<tile<E, V, 128, 128, true>>(t, dw);
    }
    run_tile<tile<E, 1, 32, 32, true>>(t, dw);
}

template <class E> static void grad_weight(sink dw, const tensor *g, const tensor *x, window how)
{
    task<E> t = {};
    t.s.rows = (int)g->shape[2], t.s.columns = (int)g->shape[3];
    t.s.places = g->shape[0] * g->shape[2] * g->shape[3];
    t.s.kernel = how.kernel, t.s.scale = how.stride, t.s.step = how.dilation;
    t.s.offset = -how.padding, t.s.divide = 1;
    t.s.depth = (int)(x->shape[1] / how.groups), t.s.length = t.s.depth * how.kernel * how.kernel;
    t.x = image_of<const E>(x), t.g = image_of<const E>(g);
    t.columns = g->shape[1] / how.groups, t.groups = how.groups;
    run(t, dw);
}

/* dbias (+)= the sums of g's channels. */
static void grad_bias(sink dbias, const tensor *g)
{
    tensor out = *dbias.t;
    out.ndim = 4;
    for (int d = 0; d < 4; d++)
        out.shape[d] = 1, out.stride[d] = 0;
    out.shape[1] = dbias.t->shape[0], out.stride[1] = dbias.t->stride[0];
    cuda_reduce(REDUCE_SUM, &out, g, 1, dbias.add);
}

void cuda_conv2d_grad_weight(sink dw, sink dbias, const tensor *g, const tensor *x, window how)
{
    if (dw.t && tensor_numel(dw.t) > 0)
        BY_FLOAT(g->dtype, grad_weight<E>(dw, g, x, how));
    if (dbias.t && tensor_numel(dbias.t) > 0)
        grad_bias(dbias, g);
}
