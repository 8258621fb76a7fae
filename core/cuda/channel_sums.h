/*
 * channel_sums -- two sums of every channel of an image, from which channel_norm.cu makes what
 * batch norm needs:
 *
 *     without g   sum (x - about), sum (x - about)^2        with g   sum g, sum g (x - mean)
 *
 *     channels last   rows of C numbers. A thread has the same pack of channels in every n-th row:
 *
 *                         thread  0 1 2 3        lane 0
 *                         thread  4 5 6 7        lane 1       8 threads, 4 packs wide, 2 lanes
 *
 *     channels first  planes of H W numbers, N for each channel; a block has packs of one channel
 *
 * Statistics are one pass: a thread takes off the first number that it meets, adds up what is left
 * of up to STRETCH numbers in T, and moves the sums in f64 to the place that all threads share: the
 * channel's first number. A number of the channel itself is never further from the mean than their
 * spread allows, so this cancels nothing, wherever the mean is (Chan, Golub, LeVeque 1983).
 */
#ifndef TORC_CUDA_CHANNEL_SUMS_H
#define TORC_CUDA_CHANNEL_SUMS_H

#include "core/cuda/columns.h"
#include "core/cuda/rows.h"

#define THREADS 256
#define STRETCH 64      /* numbers of a thread that are added in T */
#define MOST_PARTS 1024 /* of all channels together */
#define LEAST 8         /* packs of a thread, where that leaves several parts */

struct image {
    int64_t images, channels, places;
    bool channels_last;
};

static image image_of(const tensor *x)
{
    image i = {x->shape[0], x->shape[1], 1, false};
    for (int d = 2; d < x->ndim; d++)
        i.places *= x->shape[d];
    i.channels_last = i.places == 1 || (x->stride[1] == 1 && i.channels > 1);
    return i;
}

/* Elements that are moved at once: neighbours in a row of channels, or in a plane. */
template <class E> constexpr int width = sizeof(E) < sizeof(double) ? pack_width<E> : 1;

template <class E>
static bool fits_packs(const image &i, const void *a, const void *b, const void *c)
{
    return (i.channels_last ? i.channels : i.places) % width<E> == 0 && is_aligned(a) &&
           is_aligned(b) && is_aligned(c);
}

__device__ static inline int64_t quotient(int64_t a, int64_t b)
{
    /* A division of 32 bits takes a quarter of the time of one of 64. */
    return (uint64_t)(a | b) >> 32 ? a / b : (int64_t)((uint32_t)a / (uint32_t)b);
}

/* ---- sums ---- */

template <class E> struct summed {
    const E *g, *x;          /* g: only with GRAD */
    const compute<E> *about; /* a number a channel; NULL: 0 */
    bool about_first;        /* about the first number of x in each channel instead */
    int64_t channels;
};

/* The sums over up to STRETCH elements of a channel. */
template <class T, bool GRAD> struct stretch_sums {
    T about, plain, crossed; /* about: without a gradient the first element */

    __device__ void start(T first, T given)
    {
        about = GRAD ? given : first;
        plain = crossed = 0;
    }
    __device__ void add(T g, T x)
    {
        T d = x - about;
        plain += GRAD ? g : d;
        crossed += GRAD ? g * d : d * d;
    }
    /* About the given place, of `count` elements. */
    __device__ both<double> end(T given, int count) const
    {
        if (GRAD)
            return {plain, crossed};
        double by = (double)about - given;
        return {plain + count * by, crossed + 2 * by * plain + count * by * by};
    }
};

/* How channels last are dealt out: blocks have `part` rows of `wide` packs. */
struct lanes {
    int64_t rows, packs, part;
    int wide, count, tiles; /* count: of lanes; tiles: blocks side by side */
};

/* The sums of one thread: `mine` [2][N], in steps of THREADS. */
template <class E, int N, bool GRAD>
__device__ static inline void sum_lane(double *mine, const summed<E> &s, const lanes &l,
                                       int64_t row, int64_t end, int64_t i)
{
    using T = compute<E>;
    const closed<E, N> *g = (const closed<E, N> *)s.g + i, *x = (const closed<E, N> *)s.x + i;
    stretch_sums<T, GRAD> sums[N];
    T given[N];
    columns_load(given, s.about, i, (T)0);
    for (int k = 0; k < N && s.about_first; k++)
        given[k] = widen(((const pack<E, N> *)x)->at[k]);
    for (int k = 0; k < 2 * N; k++)
        mine[k * THREADS] = 0;
    while (row < end) {
        pack<E, N> first = ((const pack<E, N> *)x)[row * l.packs];
        for (int k = 0; k < N; k++)
            sums[k].start(widen(first.at[k]), given[k]);
        int count = 0;
#pragma unroll 4
        for (; count < STRETCH && row < end; count++, row += l.count) {
            closed<E, N> gradient = GRAD ? g[row * l.packs] : closed<E, N>{},
                         value = x[row * l.packs];
            pack<E, N> from = gradient.open(), at = value.open();
            for (int k = 0; k < N; k++)
                sums[k].add(widen(from.at[k]), widen(at.at[k]));
        }
        for (int k = 0; k < N; k++) {
            both<double> sum = sums[k].end(given[k], count);
            mine[k * THREADS] += sum.a;
            mine[(N + k) * THREADS] += sum.b;
        }
    }
}

/* parts [blocks / tiles][2][C] */
template <class E, int N, bool GRAD>
__global__ void __launch_bounds__(THREADS) sum_rows(double *parts, const summed<E> s, const lanes l)
{
    SHARED_BYTES(double, sums); /* [2][N][THREADS] */
    int thread = (int)threadIdx.x, tile = (int)(blockIdx.x % l.tiles);
    int64_t part = blockIdx.x / l.tiles, left = (int64_t)tile * l.wide;
    int64_t start = part * l.part, end = start + l.part < l.rows ? start + l.part : l.rows;
    int lane = thread / l.wide;
    int64_t i = left + thread % l.wide;
    if (lane < l.count && i < l.packs)
        sum_lane<E, N, GRAD>(sums + thread, s, l, start + lane, end, i);
    __syncthreads();
    /* All lanes' sums of a channel, in order; neighbours take neighbouring packs. */
    for (int k = thread; k < 2 * N * l.wide; k += THREADS) {
        int pack = k % l.wide, of = k / l.wide; /* of: 0 .. N - 1 plain, then crossed */
        if (left + pack >= l.packs)
            continue;
        double sum = 0;
        for (int j = 0; j < l.count; j++)
            sum += sums[of * THREADS + j * l.wide + pack];
        parts[(2 * part + of / N) * s.channels + (left + pack) * N + of % N] = sum;
    }
}

/* Channels first: a block has `part` packs of those of one channel, laid end to end. */
template <class E, int N, bool GRAD>
__global__ void __launch_bounds__(THREADS)
    sum_planes(double *parts, const summed<E> s, int64_t images, int64_t packs, int64_t part)
{
    using T = compute<E>;
    const pack<E, N> *g = (const pack<E, N> *)s.g, *x = (const pack<E, N> *)s.x;
    int64_t index = blockIdx.x / s.channels, c = blockIdx.x % s.channels, all = images * packs;
    int64_t end = (index + 1) * part < all ? (index + 1) * part : all;
    auto place = [&](int64_t i) {
        int64_t image = quotient(i, packs);
        return (image * s.channels + c) * packs + i - image * packs;
    };
    T given = s.about_first ? widen(x[place(0)].at[0]) : s.about ? s.about[c] : 0;
    both<double> total = {};
    for (int64_t i = index * part + threadIdx.x; i < end;) {
        stretch_sums<T, GRAD> sums;
        sums.start(widen(x[place(i)].at[0]), given);
        int count = 0;
        for (; count < STRETCH && i < end; count += N, i += THREADS) {
            pack<E, N> from = GRAD ? g[place(i)] : pack<E, N>{}, at = x[place(i)];
            for (int k = 0; k < N; k++)
                sums.add(widen(from.at[k]), widen(at.at[k]));
        }
        total = total + sums.end(given, count);
    }
    total = block_sum(total);
    if (threadIdx.x == 0) {
        parts[2 * index * s.channels + c] = total.a;
        parts[(2 * index + 1) * s.channels + c] = total.b;
    }
}

/* Sums of parts of the channels, [count][2][C]. */
struct parts {
    storage *room; /* the caller releases it */
    double *sums;
    int64_t count;
};

static parts parts_new(int64_t count, int64_t channels)
{
    storage *room = storage_new((size_t)(count * 2 * channels) * sizeof(double));
    return {room, (double *)room->data, count};
}

template <class E, int N, bool GRAD>
static parts sum_channels_last(const summed<E> &s, const image &i)
{
    lanes l = {};
    l.rows = i.images * i.places;
    l.packs = i.channels / N;
    l.wide = (int)max_i64(1, min_i64(l.packs, WARP));
    l.count = THREADS / l.wide;
    l.tiles = (int)max_i64(1, part_count(l.packs, l.wide));
    int64_t least = (int64_t)l.count * LEAST, most = max_i64(1, MOST_PARTS / l.tiles);
    l.part = max_i64(least, part_count(part_count(l.rows, most), l.count) * l.count);
    parts p = parts_new(part_count(l.rows, l.part), i.channels);
    LAUNCH_SHARED((sum_rows<E, N, GRAD>), i.channels ? p.count * l.tiles : 0, THREADS,
                  2 * N * THREADS * sizeof(double), p.sums, s, l);
    return p;
}

template <class E, int N, bool GRAD>
static parts sum_channels_first(const summed<E> &s, const image &i)
{
    int64_t packs = i.places / N, most = max_i64(1, MOST_PARTS / max_i64(1, i.channels));
    int64_t part = max_i64(THREADS * LEAST, part_count(i.images * packs, most));
    parts p = parts_new(part_count(i.images * packs, part), i.channels);
    LAUNCH((sum_planes<E, N, GRAD>), p.count * i.channels, THREADS, p.sums, s, i.images, packs,
           part);
    return p;
}

template <class E, int N> static parts sum_by_width(const summed<E> &s, const image &i)
{
    if (i.channels_last)
        return s.g ? sum_channels_last<E, N, true>(s, i) : sum_channels_last<E, N, false>(s, i);
    return s.g ? sum_channels_first<E, N, true>(s, i) : sum_channels_first<E, N, false>(s, i);
}

template <class E> static parts sums_of(const summed<E> &s, const image &i)
{
    if (fits_packs<E>(i, s.g, s.x, s.about))
        return sum_by_width<E, width<E>>(s, i);
    return sum_by_width<E, 1>(s, i);
}

/* sum(g) and sum(g (x - mean)); x - mean for g where that is NULL, 0 for mean. */
template <class E> static parts sums_about(const tensor *g, const tensor *x, const tensor *mean)
{
    image i = image_of(x);
    summed<E> s = {data_of<E>(g), data_of<E>(x), data_of<compute<E>>(mean), false, i.channels};
    return sums_of<E>(s, i);
}

/* ---- what becomes of the sums ---- */

/* give(c, {plain, crossed}) of every channel */
template <class F>
__global__ void finish(const double *parts, int64_t count, int64_t channels, F give)
{
    columns_add(parts, count, channels, give);
}

template <class F> static void finish_all(const parts &p, int64_t channels, const F &give)
{
    LAUNCH(finish<F>, part_count(channels, COLUMNS_OF_BLOCK), COLUMNS_THREADS,
           (const double *)p.sums, p.count, channels, give);
}

#endif
