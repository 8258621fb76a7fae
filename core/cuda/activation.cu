/*
 * activation -- the gradient through an activation and its sum over the rows, the gradient of the
 * bias before it, in one pass.
 *
 *     g, kept [M, N]   |--- block 0 ---|--- block 1 ---|    dpre = act'(kept) g, and the sums of
 *     a part of the    |               |               |    its own columns on the way: a row of
 *     rows a block     |--- block 2 ---|--- ...        |    `sums` for every part
 *
 *     block      groups of up to 32 lanes: the lanes side by side, a pack each; the groups take
 *                the rows of the part in turns
 *
 * The parts depend on the shape alone, and are added by the kernel `reduce`.
 */
#include "core/cuda/function.h"
#include "core/cuda/reduce.h"

enum { THREADS = 256, GROUP_ROWS = 8, MOST_PARTS = 512 };

template <class E> struct pass {
    E *dpre;
    const E *kept, *g;
    int act;
    int64_t rows, columns, part;
    int lanes;        /* of a group */
    compute<E> *sums; /* [parts, columns], or NULL */
};

/* N columns from `column` on; what they add up to over this thread's rows of [first, last). */
template <class E, int N>
__device__ static inline void pass_columns(const pass<E> &p, int64_t first, int64_t last,
                                           int64_t column, compute<E> sum[N])
{
    using T = compute<E>;
    int groups = THREADS / p.lanes;
    for (int64_t row = first + threadIdx.x / p.lanes; row < last; row += groups) {
        int64_t at = row * p.columns + column;
        pack<E, N> kept = *(const pack<E, N> *)(p.kept + at), g = *(const pack<E, N> *)(p.g + at);
        for (int k = 0; k < N; k++) {
            g.at[k] = narrow<E>(activation_slope<T>(p.act, widen(kept.at[k]), widen(g.at[k])));
            sum[k] += widen(g.at[k]); /* of what is stored */
        }
        *(pack<E, N> *)(p.dpre + at) = g;
    }
}

template <class E, int N> __global__ void activation_pass(pass<E> p)
{
    using T = compute<E>;
    __shared__ T of_thread[THREADS * N];
    int width = p.lanes * N; /* columns of this block */
    int64_t tiles = (p.columns + width - 1) / width, index = blockIdx.x / tiles;
    int64_t start = blockIdx.x % tiles * width, column = start + threadIdx.x % p.lanes * N;
    int64_t first = index * p.part, rest = p.rows - first;
    int64_t last = first + (rest < p.part ? rest : p.part);
    T sum[N] = {};
    if (column < p.columns)
        pass_columns<E, N>(p, first, last, column, sum);
    if (!p.sums)
        return;
    for (int k = 0; k < N; k++)
        of_thread[threadIdx.x * N + k] = sum[k];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < width && start + i < p.columns; i += THREADS) {
        T total = of_thread[i];
        for (int group = 1; group < THREADS / p.lanes; group++)
            total += of_thread[group * width + i];
        p.sums[index * p.columns + start + i] = total;
    }
}

/* ---- which ---- */

/* dbias (+)= the column sums of t [rows, columns], contiguous. */
static void give_sums(sink dbias, const tensor *t)
{
    tensor out = *dbias.t;
    out.ndim = 2;
    out.shape[0] = 1, out.shape[1] = dbias.t->shape[0];
    out.stride[0] = out.shape[1], out.stride[1] = dbias.t->stride[0];
    cuda_reduce(REDUCE_SUM, &out, t, 1, dbias.add);
}

/* A power of 2: as many as a row has packs for. */
static int lanes_for(int64_t packs)
{
    int lanes = 1;
    while (lanes < WARP && lanes < packs)
        lanes *= 2;
    return lanes;
}

template <class E> static void run(pass<E> p, sink dbias)
{
    using T = compute<E>;
    constexpr int N = pack_width<E>;
    bool packs = p.columns % N == 0 && is_aligned(p.dpre) && is_aligned(p.kept) && is_aligned(p.g);
    int width = packs ? N : 1;
    p.lanes = lanes_for(part_count(p.columns, width));
    p.part = max_i64(GROUP_ROWS * THREADS / p.lanes, part_count(p.rows, MOST_PARTS));
    int64_t parts = part_count(p.rows, p.part);
    int64_t blocks = parts * part_count(p.columns, p.lanes * width);
    storage *room = dbias.t ? storage_new((size_t)(parts * p.columns) * sizeof(T)) : NULL;
    p.sums = room ? (T *)room->data : NULL;
    if (packs)
        LAUNCH((activation_pass<E, N>), blocks, THREADS, p);
    else
        LAUNCH((activation_pass<E, 1>), blocks, THREADS, p);
    if (!room)
        return;
    tensor sums = {};
    sums.ndim = 2;
    sums.dtype = sizeof(T) == sizeof(double) ? TORC_F64 : TORC_F32;
    sums.store = room;
    sums.shape[0] = parts, sums.shape[1] = p.columns;
    sums.stride[0] = p.columns, sums.stride[1] = 1;
    give_sums(dbias, &sums);
    storage_release(room);
}

void cuda_activation_grad(tensor *dpre, sink dbias, elementwise_op act, const tensor *kept,
                          const tensor *g)
{
    int64_t rows = g->shape[0], columns = g->shape[1];
    if (act == EW_NONE || rows == 0) {
        if (dbias.t && columns > 0)
            give_sums(dbias, g);
        return;
    }
    BY_FLOAT(g->dtype, run<E>({data_of<E>(dpre), data_of<E>(kept), data_of<E>(g), (int)act, rows,
                               columns, 0, 0, NULL},
                              dbias));
}
