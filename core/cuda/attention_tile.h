/*
 * attention_tile -- tiles of rows in shared memory, and what a warp makes of them on tensor cores.
 *
 *     a block of 4 warps       other side's rows, PASSING at a time    ->
 *                            +-------------+-------------+-------------
 *     own rows:    warp 0    |   left . right^T          |                scores, in registers
 *     OWN rows     warp 1    |             |             |
 *                  warp 2    |   this tile | is copied   |                copy_async() fills one of
 *                  warp 3    |   is worked | meanwhile   |                two tiles while the other
 *                            |   on        |             |                is read
 *
 * A warp has BANDS bands of 16 own rows and sees all of the passing tile, so that maxima and sums
 * over a row never leave the four lanes that hold it. Scores that were computed become the left
 * side of the next product where they are: see the fragments in machine_mma.h.
 *
 * In shared memory a row of W columns is W / 8 packs of 16 bytes, pack c of row r standing at place
 * c ^ (r % 8): eight rows at one column, or eight columns of one row, are then in eight different
 * groups of banks.
 *
 *     row 0    0 1 2 3 4 5 6 7       row 1    1 0 3 2 5 4 7 6       row 2    2 3 0 1 6 7 4 5   ...
 *
 * f32. An element is the sum of three bf16 (attention_pack.cu), a = a0 + a1 + a2 with |a1| <= 2^-8
 * |a| and |a2| <= 2^-16 |a|. Of the nine products a_i b_j the six with i + j <= 2 are taken; the
 * others add up to 2^-23 |a b|. Tensor cores cut off what is below 2^-24 of the largest of 16
 * products and the sum so far (Fasi et al. 2021), always towards 0, which would pile up over long
 * sums. So 16 columns at a time are summed from 0, small products apart from large ones, and then
 * added in f32 with rounding. A sum over n columns is off by at most
 *
 *     (2^-23 + 16 2^-24 + 2^-24 n / 16) sum |a b|      dropped, cut off, rounded n / 16 times
 *
 * and that of f32 alone by 2^-24 n of it, which is more from n = 32 on. TF32 in two parts (11 bits
 * each) costs the same: its instruction has half the columns, and three of its products are needed;
 * but it drops 2^-22, and would need tiles and fragments of its own.
 */
#ifndef TORC_CUDA_ATTENTION_TILE_H
#define TORC_CUDA_ATTENTION_TILE_H

#include "core/cuda/attention.h"
#include "core/cuda/machine_mma.h"

/* How a kernel is cut: W columns in PARTS parts of the low type E; own rows are BANDS x 16 a warp.
 * KEEP: own fragments stay in registers. */
template <class E_, int WIDTH_, int PARTS_, int WARPS_, int BANDS_, int PASSING_, bool KEEP_>
struct cut {
    using E = E_;
    static constexpr int WIDTH = WIDTH_, PARTS = PARTS_, WARPS = WARPS_, BANDS = BANDS_;
    static constexpr int PASSING = PASSING_, OWN = WARPS * BANDS * 16, THREADS = WARPS * WARP;
    static constexpr bool KEEP = KEEP_;
};

/* A lane's part of 16 x 8 sums, and of 16 x 16 and twice 16 x 8 factors in their parts. */
typedef float sums[4];
template <int PARTS> struct left_fragment {
    uint32_t of[PARTS][4];
};
template <int PARTS> struct right_fragment {
    uint32_t of[PARTS][4];
};

/* ---- tiles ---- */

template <int ROWS, int WIDTH, int PARTS> struct tile {
    static constexpr int PART = ROWS * WIDTH, SIZE = PARTS * PART;
    uint16_t *shared;
    int first; /* where it begins there: a multiple of WIDTH, as PART is */

    __device__ uint16_t *pack_at(int part, int row, int pack) const
    {
        return shared + first + part * PART + row * WIDTH + (pack ^ row % 8) * 8;
    }

    /* pack_at(part, row + lane_row, 2 step + lane_pack), for rows that are multiples of 8. Written
     * so that a step changes it by an exclusive or: the compiler would keep all of them otherwise,
     * in more registers than there are. */
    __device__ uint16_t *lane_at(int lane_row, int lane_pack, int part, int row, int step) const
    {
        int place = first + lane_row * WIDTH + (lane_pack ^ lane_row % 8) * 8;
        return shared + ((place ^ 16 * step) + part * PART + row * WIDTH);
    }

    /* Rows row .. + 16 by columns 16 step .. + 16. */
    __device__ void left(left_fragment<PARTS> &to, int row, int step) const
    {
        int lane = (int)threadIdx.x % WARP;
        for (int part = 0; part < PARTS; part++)
            machine_matrices(to.of[part], lane_at(lane % 16, lane / 16, part, row, step));
    }

    /* The right side of a product with these rows turned: of a sum over columns 16 step .. + 16,
     * for rows row .. + 8 and + 8 .. + 16. */
    __device__ void right_by_columns(right_fragment<PARTS> &to, int row, int step) const
    {
        int lane = (int)threadIdx.x % WARP, lane_row = lane % 8 + lane / 16 * 8;
        for (int part = 0; part < PARTS; part++)
            machine_matrices(to.of[part], lane_at(lane_row, lane / 8 % 2, part, row, step));
    }

    /* Of a product with these rows as they are: of a sum over rows row .. + 16, for columns 16 step
     * .. + 8 and + 8 .. + 16. */
    __device__ void right_by_rows(right_fragment<PARTS> &to, int row, int step) const
    {
        int lane = (int)threadIdx.x % WARP;
        for (int part = 0; part < PARTS; part++)
            machine_matrices_turned(to.of[part], lane_at(lane % 16, lane / 16, part, row, step));
    }
};

/* A thread's share in copying the rows of a head, tile after tile. */
template <int THREADS, int WIDTH> struct reader {
    static constexpr int PACKS = WIDTH / 8, STEP = THREADS / PACKS;
    const parts &from;
    const uint16_t *at; /* its next row, at its pack */
    int left;           /* rows from there on; 0: there are none of its pack */

    __device__ reader(const parts &p, const heads &h, int head, int first, int64_t count) : from(p)
    {
        int pack = (int)threadIdx.x % PACKS;
        first += (int)threadIdx.x / PACKS;
        at = p.at + head_place(p.stride, h, head) + first * p.stride.row + pack * 8;
        left = pack * 8 < p.width ? (int)count - first : 0;
    }

    /* Begins to copy the next rows; zeros behind the last. */
    template <int ROWS, int PARTS> __device__ void fill(const tile<ROWS, WIDTH, PARTS> &to)
    {
        static_assert(ROWS % STEP == 0, "the same work for all threads");
        int first = (int)threadIdx.x / PACKS, pack = (int)threadIdx.x % PACKS;
#pragma unroll
        for (int i = 0; i < ROWS; i += STEP, at += STEP * from.stride.row)
#pragma unroll
            for (int k = 0; k < PARTS; k++)
                machine_copy_async<16>(to.pack_at(k, first + i, pack), at + k * from.part,
                                       i < left);
        left -= ROWS;
    }
};

/* ---- products ---- */

/* d += a b, for the first or the second 8 columns of b. */
template <class E>
__device__ static inline void multiply(sums &d, const left_fragment<1> &a,
                                       const right_fragment<1> &b, int half)
{
    machine_mma<E>(d, a.of[0], b.of[0] + 2 * half);
}
template <class E>
__device__ static inline void multiply(sums &d, const left_fragment<3> &a,
                                       const right_fragment<3> &b, int half)
{
    sums large = {}, small = {};
    machine_mma<E>(large, a.of[0], b.of[0] + 2 * half);
    for (int both = 2; both > 0; both--)
        for (int i = 0; i <= both; i++)
            machine_mma<E>(small, a.of[i], b.of[both - i] + 2 * half);
    for (int i = 0; i < 4; i++)
        d[i] += large[i] + small[i];
}

/* Two neighbouring sums as a left side, in parts as attention_pack.cu makes them. */
template <class E, int PARTS>
__device__ static inline void left_of_sums(left_fragment<PARTS> &to, const sums &x, const sums &y)
{
    float rest[8] = {x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]};
    for (int part = 0; part < PARTS; part++)
        for (int i = 0; i < 4; i++) {
            uint32_t pair = machine_pair<E>(rest[2 * i], rest[2 * i + 1]);
            to.of[part][i] = pair;
            rest[2 * i] -= widen(E{(uint16_t)pair});
            rest[2 * i + 1] -= widen(E{(uint16_t)(pair >> 16)});
        }
}

/* A warp's own rows as left sides: in registers, or read again each time. */
template <class C> struct own_rows {
    tile<C::OWN, C::WIDTH, C::PARTS> from;
    int row;
    left_fragment<C::PARTS> kept[C::KEEP ? C::WIDTH / 16 : 1][C::BANDS];

    __device__ void read(int step, int place)
    {
        for (int band = 0; band < C::BANDS; band++)
            from.left(kept[place][band], row + 16 * band, step);
    }
    __device__ void start()
    {
#pragma unroll
        for (int step = 0; C::KEEP && step < C::WIDTH / 16; step++)
            read(step, step);
    }
    __device__ const left_fragment<C::PARTS> (&at(int step))[C::BANDS]
    {
        if (!C::KEEP)
            read(step, 0);
        return kept[C::KEEP ? step : 0];
    }
};

template <class C> using own_tile = tile<C::OWN, C::WIDTH, C::PARTS>;
template <class C> using passing_tile = tile<C::PASSING, C::WIDTH, C::PARTS>;
template <class C> using score_sums = sums[C::BANDS][C::PASSING / 8];
template <class C> using row_sums = sums[C::BANDS][C::WIDTH / 8];

/* scores = own passing^T */
template <class C>
__device__ static inline void score(score_sums<C> &scores, own_rows<C> &own,
                                    const passing_tile<C> &passing)
{
    using E = typename C::E;
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int n = 0; n < C::PASSING / 8; n++)
            for (int i = 0; i < 4; i++)
                scores[band][n][i] = 0;
#pragma unroll
    for (int step = 0; step < C::WIDTH / 16; step++) {
        const auto &left = own.at(step);
#pragma unroll
        for (int n = 0; n < C::PASSING / 16; n++) {
            right_fragment<C::PARTS> right;
            passing.right_by_columns(right, 16 * n, step);
#pragma unroll
            for (int band = 0; band < C::BANDS; band++) {
                multiply<E>(scores[band][2 * n], left[band], right, 0);
                multiply<E>(scores[band][2 * n + 1], left[band], right, 1);
            }
        }
    }
}

/* to += weights passing */
template <class C>
__device__ static inline void add_weighted(row_sums<C> &to, const score_sums<C> &weights,
                                           const passing_tile<C> &passing)
{
    using E = typename C::E;
#pragma unroll
    for (int k = 0; k < C::PASSING / 16; k++) {
        left_fragment<C::PARTS> left[C::BANDS];
#pragma unroll
        for (int band = 0; band < C::BANDS; band++)
            left_of_sums<E>(left[band], weights[band][2 * k], weights[band][2 * k + 1]);
#pragma unroll
        for (int n = 0; n < C::WIDTH / 16; n++) {
            right_fragment<C::PARTS> right;
            passing.right_by_rows(right, 16 * k, n);
#pragma unroll
            for (int band = 0; band < C::BANDS; band++) {
                multiply<E>(to[band][2 * n], left[band], right, 0);
                multiply<E>(to[band][2 * n + 1], left[band], right, 1);
            }
        }
    }
}

/* ---- blocks ---- */

/* Which head and which of its tiles of own rows a block takes. Heads go by groups whose rows fit
 * into the second-level cache together. Within a group tile 0 of all heads comes first, then tile 1
 * ..: callers count so that it is the one with the most work, and the last blocks are short. */
typedef struct order {
    int heads, tiles, group;
} order;

typedef struct block_place {
    int head, tile;
} block_place;

static inline order order_of(const heads &h, int64_t rows, int own, int width, int parts)
{
    int64_t bytes = (h.rows + h.columns) * width * parts * 2;
    int64_t group = max_i64(1, min_i64(h.count, (16 << 20) / bytes));
    return {(int)h.count, (int)part_count(rows, own), (int)group};
}

__device__ static inline block_place place_of_block(const order &o)
{
    int block = (int)blockIdx.x, first = block / (o.group * o.tiles) * o.group;
    int heads = o.group < o.heads - first ? o.group : o.heads - first, i = block - first * o.tiles;
    return {first + i % heads, i / heads};
}

/* sums[band][n][i] of this lane: row 16 band + row_in_band(i), column 8 n + column_in_eight(i). */
__device__ static inline int row_in_band(int i)
{
    return (int)threadIdx.x % WARP / 4 + i / 2 * 8;
}
__device__ static inline int column_in_eight(int i)
{
    return (int)threadIdx.x % 4 * 2 + i % 2;
}

/* Rows first .. of a head. */
template <class C, class E>
__device__ static inline void give_rows_as(const target &to, const heads &h, int head, int first,
                                           int rows, const row_sums<C> &sum, float scale)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = first + 16 * band + row_in_band(2 * half), column = column_in_eight(0);
            E *at = (E *)to.at + head_place(to.stride, h, head) + row * to.stride.row + column;
            int left = row < rows ? (int)h.width - column : 0;
#pragma unroll
            for (int n = 0; n < C::WIDTH / 8; n++)
                give_pair(to, at + 8 * n, sum[band][n][2 * half] * scale,
                          sum[band][n][2 * half + 1] * scale, left - 8 * n);
        }
}
template <class C>
__device__ static inline void give_rows(const target &to, const heads &h, int head, int first,
                                        int rows, const row_sums<C> &sum, float scale)
{
    if (!to.at)
        return;
    if (to.dtype != TORC_F32) /* what the operands are of */
        give_rows_as<C, typename C::E>(to, h, head, first, rows, sum, scale);
    else
        give_rows_as<C, float>(to, h, head, first, rows, sum, scale);
}

#endif
