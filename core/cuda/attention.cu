/*
 * attention -- out = softmax(scale q k^T) v in tiles, without the matrix of all scores (Dao 2023,
 * "FlashAttention-2", algorithm 1; the softmax is that of Milakov and Gimelshein 2018).
 *
 * A block has some queries of one head, and the head's keys pass by in tiles. For each query there
 * is the maximum m of the scores so far, the sum l of the powers, and their sum with v:
 *
 *     m' = max(m, max s)    p = e^(s - m')    l' = e^(m - m') l + sum p    o' = e^(m - m') o + p v
 *     at the end            out = o / l       lse = m + log l
 *
 *               keys:  tile 0   tile 1   tile 2                    causal
 *                    +--------+--------+--------+
 *     queries        | all    | some   | none   |     none     the loop ends before it
 *     of a block     |        | o  .   |        |     some     what is hidden gets s = -inf; a warp
 *                    |        | o o  . |        |              that sees nothing of it waits
 *                    +--------+--------+--------+
 *
 * Scores are never scaled: p is a power of 2, 2^(s scale log2(e) - m scale log2(e)), one fused
 * multiplication and addition. bf16 and f16: p is rounded to that before it meets v, l is the sum
 * of what it was before; so out is off by at most 2^-8, or 2^-11, of the mean of |v| (in f16 also
 * by 2^-25 of a |v| whose p is below 2^-14), and is rounded once more.
 */
#include "core/cuda/attention_tile.h"

typedef struct forward {
    heads h;
    order blocks;
    parts q, k, v;
    target out;
    float *lse;
    float unit; /* scale log2(e) */
} forward;

/* Of each query of a warp; two a band belong to this lane and the three beside it. */
template <class C> struct softmax_rows {
    float m[C::BANDS][2], l[C::BANDS][2]; /* l: over this lane's keys alone */
};

/* | queries | keys | values | keys | values |: of two passing tiles, by turns */
template <class C> struct forward_tiles {
    static constexpr int OWN = own_tile<C>::SIZE, PASSING = passing_tile<C>::SIZE;
    static constexpr int BYTES = (OWN + 4 * PASSING) * (int)sizeof(uint16_t);
    uint16_t *shared;

    __device__ own_tile<C> q() const
    {
        return {shared, 0};
    }
    __device__ passing_tile<C> k(int turn) const
    {
        return {shared, OWN + 2 * turn * PASSING};
    }
    __device__ passing_tile<C> v(int turn) const
    {
        return {shared, OWN + (2 * turn + 1) * PASSING};
    }
};

/* What queries from `row` on do not see of the keys from `key` on gets -inf. */
template <class C>
__device__ static inline void hide(score_sums<C> &scores, const heads &h, int row, int key)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int end = (int)visible(h, row + 16 * band + row_in_band(i)) - key;
#pragma unroll
            for (int n = 0; n < C::PASSING / 8; n++)
                if (8 * n + column_in_eight(i) >= end)
                    scores[band][n][i] = -INFINITY;
        }
}

/* Scores of one query to powers; returns what its sums so far are to be multiplied with. */
template <class C>
__device__ static inline float to_powers(sums (&scores)[C::PASSING / 8], int half, float &m,
                                         float &l, float unit)
{
    float largest = m, sum = 0;
#pragma unroll
    for (int n = 0; n < C::PASSING / 8; n++)
        largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    largest = warp_max<4>(largest);
    float shift = isinf(largest) ? 0 : largest * unit; /* inf - inf is no number */
    float factor = machine_exp2(m * unit - shift);
#pragma unroll
    for (int n = 0; n < C::PASSING / 8; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
            scores[n][i] = machine_exp2(fmaf(scores[n][i], unit, -shift));
            sum += scores[n][i];
        }
    m = largest;
    l = l * factor + sum;
    return factor;
}

/* One query's row of sums. */
template <class C>
__device__ static inline void scale_half(row_sums<C> &out, int band, int half, float factor)
{
#pragma unroll
    for (int n = 0; n < C::WIDTH / 8; n++)
        for (int i = 2 * half; i < 2 * half + 2; i++)
            out[band][n][i] *= factor;
}

template <class C>
__device__ static inline void next_powers(score_sums<C> &scores, softmax_rows<C> &rows,
                                          row_sums<C> &out, float unit)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float factor =
                to_powers<C>(scores[band], half, rows.m[band][half], rows.l[band][half], unit);
            scale_half<C>(out, band, half, factor);
        }
}

/* out and lse; l is 0 where nothing was seen. */
template <class C>
__device__ static inline void finish(const forward &f, int head, int row, softmax_rows<C> &rows,
                                     row_sums<C> &out)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float l = warp_sum<4>(rows.l[band][half]), m = rows.m[band][half] * f.unit;
            int at = row + 16 * band + row_in_band(2 * half);
            if (at < f.h.rows && threadIdx.x % 4 == 0)
                f.lse[head * f.h.rows + at] =
                    (l == 0 ? 0 : m * (float)(1 / ATTENTION_LOG2_E)) + logf(l);
            scale_half<C>(out, band, half, l == 0 ? 0 : 1 / l);
        }
    give_rows<C>(f.out, f.h, head, row, (int)f.h.rows, out, 1);
}

/* A block's queries; what is begun is in one buffer while the other is worked on. */
template <class C> __global__ void __launch_bounds__(C::THREADS) attention_tiles(forward f)
{
    SHARED_BYTES(uint16_t, shared);
    forward_tiles<C> tiles = {shared};
    block_place place = place_of_block(f.blocks);
    int first = ((int)f.blocks.tiles - 1 - place.tile) * C::OWN; /* the last sees most */
    int row = first + (int)threadIdx.x / WARP * C::BANDS * 16;
    int last = first + C::OWN < f.h.rows ? first + C::OWN - 1 : (int)f.h.rows - 1;
    int end = (int)visible(f.h, last); /* of the keys that any query of the block sees */
    int sees_all = (int)visible(f.h, row), sees_any = (int)visible(f.h, row + C::BANDS * 16 - 1);
    using rows_reader = reader<C::THREADS, C::WIDTH>;
    rows_reader q(f.q, f.h, place.head, first, f.h.rows);
    rows_reader k(f.k, f.h, place.head, 0, f.h.columns), v(f.v, f.h, place.head, 0, f.h.columns);

    q.fill(tiles.q());
    machine_copies_end();
    auto begin = [&](int key) {
        int turn = key / C::PASSING % 2;
        if (key < end) {
            k.fill(tiles.k(turn));
            v.fill(tiles.v(turn));
        }
        machine_copies_end();
    };
    begin(0);
    machine_copies_wait<1>();
    __syncthreads();
    own_rows<C> own = {tiles.q(), row - first, {}};
    own.start();

    softmax_rows<C> rows;
    row_sums<C> out = {};
    for (int band = 0; band < C::BANDS; band++)
        for (int half = 0; half < 2; half++) {
            rows.m[band][half] = -INFINITY;
            rows.l[band][half] = 0;
        }
#pragma unroll 1
    for (int key = 0; key < end; key += C::PASSING) {
        int turn = key / C::PASSING % 2;
        machine_copies_wait<0>();
        __syncthreads(); /* this tile is there, and all are done with the one before */
        begin(key + C::PASSING);
        if (key >= sees_any)
            continue;
        score_sums<C> scores;
        score<C>(scores, own, tiles.k(turn));
        if (key + C::PASSING > sees_all)
            hide<C>(scores, f.h, row, key);
        next_powers<C>(scores, rows, out, f.unit);
        add_weighted<C>(out, scores, tiles.v(turn));
    }
    machine_copies_wait<0>();
    finish<C>(f, place.head, row, rows, out);
}

template <class C> static void launch(forward &f)
{
    f.blocks = order_of(f.h, f.h.rows, C::OWN, C::WIDTH, C::PARTS);
    LAUNCH_SHARED(attention_tiles<C>, (int64_t)f.blocks.heads * f.blocks.tiles, C::THREADS,
                  forward_tiles<C>::BYTES, f);
}

/* No cut takes more than 99 KiB of shared memory, which is what any GPU since sm_80 has. */
template <class E> static void launch_low(forward &f, bool wide)
{
    if (wide)
        launch<cut<E, 128, 1, 4, 2, 32, false>>(f);
    else
        launch<cut<E, 64, 1, 4, 2, 64, true>>(f);
}

static void launch_fitting(forward &f, bool wide, torc_dtype dtype)
{
    if (dtype == TORC_F16)
        launch_low<f16>(f, wide);
    else if (dtype == TORC_BF16)
        launch_low<bf16>(f, wide);
    else if (wide)
        launch<cut<bf16, 128, 3, 4, 1, 16, false>>(f);
    else
        launch<cut<bf16, 64, 3, 4, 1, 32, false>>(f);
}

void cuda_attention(tensor *out, tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                    double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    if (!fits_tiles(h, q->dtype)) {
        attention_plain(out, lse, q, k, v, &h);
        return;
    }
    forward f = {};
    f.h = h;
    f.out = target_of(out, false);
    f.lse = (float *)tensor_data(lse);
    f.q = parts_of(q, &h);
    f.k = parts_of(k, &h);
    f.v = parts_of(v, &h);
    f.unit = (float)(scale * ATTENTION_LOG2_E);
    launch_fitting(f, h.width > 64, q->dtype);
    parts_drop(&f.q);
    parts_drop(&f.k);
    parts_drop(&f.v);
}
