/*
 * conv_tile -- products of a convolution's windows, tile by tile: what its kernels are made of.
 *
 *                       columns (channels)
 *                       | . . N . . |           a block of THREADS computes a tile [M, N] of the
 *              K        |===========|  right    result, K of the inner dimension a step: both
 *           |====|      |===========|           operands come to shared memory while the tiles
 *         M |====|      +-----------+           of the steps before are multiplied
 *      rows |====|      |   tile    |
 *           |====| left +-----------+
 *
 * No matrix of windows is ever stored: an element of `left` is looked up where the window sees it.
 *
 * Words
 *   place    a position (n, i, j) of a map of results
 *   cell     (u, v) of a window, at a place of the image that is read, or beyond its edge: 0
 *   length   cells x channels of a group: what a window sees; channels are fastest
 *   pack     V elements of neighbouring channels, 16 bytes; V is 1 where they are not neighbours
 *   turned   left lies in shared memory as [K, M], not as [M, K]
 *
 * bf16 and f16 in packs are multiplied by tensor cores, all else one by one; all is added in f32
 * (f64).
 */
#ifndef TORC_CUDA_CONV_TILE_H
#define TORC_CUDA_CONV_TILE_H

#include "core/cuda/kernel.h"
#include "core/cuda/machine_mma.h"

enum { THREADS = 256, STAGES = 3, BEYOND = INT_MIN / 2 };

/* ---- images and windows ---- */

/* [N, C, H, W], stored in any order. */
template <class E> struct image {
    E *data;
    int64_t n, c, h, w; /* strides */
    int height, width;
};

template <class E> static inline image<E> image_of(const tensor *t)
{
    return {data_of<E>(t), t->stride[0],     t->stride[1],    t->stride[2],
            t->stride[3],  (int)t->shape[2], (int)t->shape[3]};
}

/* Which rows and columns of an image the places of a map see: cell u of row i sees
 * (i scale + u step + offset) / divide, and nothing where that is no whole number. */
struct sight {
    int64_t places; /* N rows columns */
    int rows, columns;
    int kernel, scale, step, offset, divide;
    int depth, length; /* channels of a group; with all cells */
};

template <class E> struct place {
    const E *image; /* its first channel of the group */
    int row, column;
};

/* n, i and j of a place. */
__device__ static inline void place_split(const sight &s, int64_t index, int64_t *n, int *i, int *j)
{
    if (s.places <= INT_MAX) { /* a division of 32 bits takes a quarter of the time of one of 64 */
        uint32_t line = (uint32_t)index / (uint32_t)s.columns;
        uint32_t image = line / (uint32_t)s.rows;
        *n = image;
        *i = (int)(line - image * (uint32_t)s.rows);
        *j = (int)((uint32_t)index - line * (uint32_t)s.columns);
    } else {
        int64_t line = index / s.columns;
        *n = line / s.rows;
        *i = (int)(line % s.rows);
        *j = (int)(index % s.columns);
    }
}

/* Of an image's channels from `channel` on; a place from `end` on sees nothing. */
template <class E>
__device__ static inline place<E> place_at(const sight &s, const image<const E> &x, int64_t channel,
                                           int64_t index, int64_t end)
{
    if (index >= end)
        return {x.data, BEYOND, BEYOND};
    int64_t n;
    int i, j;
    place_split(s, index, &n, &i, &j);
    return {x.data + n * x.n + channel * x.c, i * s.scale + s.offset, j * s.scale + s.offset};
}

/* Where a place sees number k of its window; NULL: beyond the edge. */
template <class E>
__device__ static inline const E *seen(const sight &s, const image<const E> &x, const place<E> &p,
                                       int64_t k)
{
    if (k >= s.length)
        return NULL;
    uint32_t cell = (uint32_t)k / (uint32_t)s.depth, u = cell / (uint32_t)s.kernel;
    int64_t channel = k - (int64_t)cell * s.depth;
    int row = p.row + (int)u * s.step, column = p.column + (int)(cell - u * s.kernel) * s.step;
    if (s.divide > 1) {
        if (row % s.divide || column % s.divide)
            return NULL;
        row /= s.divide;
        column /= s.divide;
    }
    if ((unsigned)row >= (unsigned)x.height || (unsigned)column >= (unsigned)x.width)
        return NULL;
    return p.image + channel * x.c + row * x.h + column * x.w;
}

/* ---- tiles in shared memory ---- */

template <class E_, int V_, int M_, int N_, bool TURNED_> struct tile {
    using E = E_;
    using T = compute<E>;
    static constexpr int V = V_, M = M_, N = N_;
    static constexpr bool TURNED = TURNED_, TENSOR = is_low<E> && V > 1;
    static constexpr int K = TENSOR ? 32 : 16;
    /* 16 bytes between rows, so that rows at one column are in different banks */
    static constexpr int PAD = 16 / (int)sizeof(E);
    static constexpr int LEFT_ROW = (TURNED ? M : K) + PAD, RIGHT_ROW = N + PAD;
    static constexpr int LEFT = (TURNED ? K : M) * LEFT_ROW, STAGE = LEFT + K * RIGHT_ROW;
    static constexpr int SUMS = M * N / THREADS; /* of a thread */
    static constexpr int RESULT_ROW = N + 4;
    static constexpr size_t IN = sizeof(E) * STAGES * STAGE, OUT = sizeof(T) * M * RESULT_ROW;
    static constexpr size_t BYTES = IN > OUT ? IN : OUT; /* one after the other */
};

/* Begins to copy a pack, or zeros where there is none; `any` is an address to name instead. */
template <int V, class E>
__device__ static inline void copy_pack(E *to, const E *from, const E *any)
{
    if constexpr (V * sizeof(E) == 16)
        machine_copy_async<16>(to, from ? from : any, from != NULL);
    else
        *to = from ? *from : E();
}

/* ---- one by one: thread (x, y) of 16 x 16 has sums in runs of up to 4 ---- */

template <int SIZE> struct runs {
    static constexpr int COUNT = SIZE / 16, RUN = COUNT < 4 ? COUNT : 4;
    /* Of this thread's number i. */
    __device__ static int at(int thread, int i)
    {
        return (i / RUN * 16 + thread) * RUN + i % RUN;
    }
};

/* What rows of left there are for inner numbers k and k + 1. */
template <class TILE>
__device__ static inline void left_pair(typename TILE::T to[2][TILE::M / 16],
                                        const typename TILE::E *left, int k)
{
    using E = typename TILE::E;
    using ROWS = runs<TILE::M>;
    int y = (int)threadIdx.x / 16;
    if constexpr (TILE::TURNED) {
        for (int q = 0; q < 2; q++)
            for (int i = 0; i < ROWS::COUNT; i += ROWS::RUN) {
                auto p =
                    *(const pack<E, ROWS::RUN> *)(left + (k + q) * TILE::LEFT_ROW + ROWS::at(y, i));
                for (int r = 0; r < ROWS::RUN; r++)
                    to[q][i + r] = widen(p.at[r]);
            }
    } else {
        for (int i = 0; i < ROWS::COUNT; i++) {
            auto p = *(const pack<E, 2> *)(left + ROWS::at(y, i) * TILE::LEFT_ROW + k);
            to[0][i] = widen(p.at[0]);
            to[1][i] = widen(p.at[1]);
        }
    }
}

template <class TILE>
__device__ static inline void multiply_each(typename TILE::T sum[TILE::SUMS],
                                            const typename TILE::E *left,
                                            const typename TILE::E *right)
{
    using T = typename TILE::T;
    using ROWS = runs<TILE::M>;
    using COLUMNS = runs<TILE::N>;
    int x = (int)threadIdx.x % 16;
#pragma unroll
    for (int k = 0; k < TILE::K; k += 2) {
        T a[2][ROWS::COUNT];
        left_pair<TILE>(a, left, k);
#pragma unroll
        for (int q = 0; q < 2; q++) {
            T b[COLUMNS::COUNT];
            for (int j = 0; j < COLUMNS::COUNT; j += COLUMNS::RUN) {
                auto p = *(const pack<typename TILE::E, COLUMNS::RUN> *)(right +
                                                                         (k + q) * TILE::RIGHT_ROW +
                                                                         COLUMNS::at(x, j));
                for (int r = 0; r < COLUMNS::RUN; r++)
                    b[j + r] = widen(p.at[r]);
            }
            for (int i = 0; i < ROWS::COUNT; i++)
                for (int j = 0; j < COLUMNS::COUNT; j++)
                    sum[i * COLUMNS::COUNT + j] += a[q][i] * b[j];
        }
    }
}

/* ---- tensor cores: 4 x 2 warps, each with 32 rows and half of the columns ---- */

/* Rows row .. row + 15 of left at inner numbers k .. k + 15. */
template <class TILE>
__device__ static inline void left_fragment(uint32_t to[4], const typename TILE::E *left, int row,
                                            int k)
{
    int lane = (int)threadIdx.x % WARP, low = lane % 16, high = lane / 16 * 8;
    if constexpr (TILE::TURNED)
        machine_matrices_turned(to,
                                left + (k + high + lane % 8) * TILE::LEFT_ROW + row + low / 8 * 8);
    else
        machine_matrices(to, left + (row + low) * TILE::LEFT_ROW + k + high);
}

template <class TILE>
__device__ static inline void multiply_tensor(float sum[TILE::SUMS], const typename TILE::E *left,
                                              const typename TILE::E *right)
{
    constexpr int WIDE = TILE::N / 16; /* fragments of 8 columns */
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp % 4 * 32, column = warp / 4 * (TILE::N / 2);
#pragma unroll
    for (int k = 0; k < TILE::K; k += 16) {
        uint32_t a[2][4], b[WIDE][2];
        for (int i = 0; i < 2; i++)
            left_fragment<TILE>(a[i], left, row + 16 * i, k);
        for (int j = 0; j < WIDE; j += 2)
            machine_matrices_turned(&b[j][0], right + (k + lane % 16) * TILE::RIGHT_ROW + column +
                                                  8 * j + lane / 16 * 8);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < WIDE; j++)
                machine_mma<typename TILE::E>(sum + (i * WIDE + j) * 4, a[i], b[j]);
    }
}

/* ---- a tile of the result ---- */

/* sum += left right over `steps`. load(step, left, right) begins the copies of a step. */
template <class TILE, class F>
__device__ static inline void sum_products(typename TILE::T sum[TILE::SUMS],
                                           typename TILE::E *shared, int64_t steps, F load)
{
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            load(s, shared + s * TILE::STAGE, shared + s * TILE::STAGE + TILE::LEFT);
        machine_copies_end();
    }
    for (int64_t step = 0; step < steps; step++) {
        typename TILE::E *now = shared + step % STAGES * TILE::STAGE;
        int64_t next = step + STAGES - 1;
        typename TILE::E *later = shared + next % STAGES * TILE::STAGE;
        machine_copies_wait<STAGES - 2>();
        __syncthreads(); /* everybody's copies are here, and nobody reads `later` any more */
        if (next < steps)
            load(next, later, later + TILE::LEFT);
        machine_copies_end();
        if constexpr (TILE::TENSOR)
            multiply_tensor<TILE>(sum, now, now + TILE::LEFT);
        else
            multiply_each<TILE>(sum, now, now + TILE::LEFT);
    }
    machine_copies_wait<0>();
    __syncthreads();
}

/* Lays the sums into shared memory, as [M, RESULT_ROW]. */
template <class TILE>
__device__ static inline void lay_out(typename TILE::T *to, const typename TILE::T sum[TILE::SUMS])
{
    if constexpr (TILE::TENSOR) {
        constexpr int WIDE = TILE::N / 16;
        int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
        int row = warp % 4 * 32 + lane / 4, column = warp / 4 * (TILE::N / 2) + lane % 4 * 2;
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < WIDE; j++)
                for (int q = 0; q < 4; q++)
                    to[(row + 16 * i + q / 2 * 8) * TILE::RESULT_ROW + column + 8 * j + q % 2] =
                        sum[(i * WIDE + j) * 4 + q];
    } else {
        using ROWS = runs<TILE::M>;
        using COLUMNS = runs<TILE::N>;
        int y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
        for (int i = 0; i < ROWS::COUNT; i++)
            for (int j = 0; j < COLUMNS::COUNT; j++)
                to[ROWS::at(y, i) * TILE::RESULT_ROW + COLUMNS::at(x, j)] =
                    sum[i * COLUMNS::COUNT + j];
    }
    __syncthreads();
}

/* ---- which tile ---- */

/* Whether packs of V channels, from any place and group on, are 16 bytes that start at a multiple
 * of 16. */
template <class E> static inline bool has_packs(const image<const E> &x, int64_t channels)
{
    constexpr int V = pack_width<E>;
    return x.c == 1 && channels % V == 0 && x.n % V == 0 && x.h % V == 0 && x.w % V == 0 &&
           is_aligned(x.data);
}

static inline int64_t rounded_up(int64_t n, int64_t to)
{
    return part_count(n, to) * to;
}

#endif
