/*
 * attention_grad -- the gradients of attention, tile by tile (Dao 2023, "FlashAttention-2",
 * algorithm 2, cut into two passes).
 *
 *     p = e^(s - lse) again; with dp = g v^T and delta = sum of g out over D
 *     ds = p (dp - delta)     dv = p^T g     dk = scale ds^T q     dq = scale ds k
 *
 *     pass       a block has      there pass by      scores in its hands     and gives
 *     of keys    k and v          q and g            s^T = k q^T, dp^T       dk, dv
 *     of queries q and g          k and v            s = q k^T, dp           dq
 *
 *              queries:   hidden |  some  |  all   |                 keys:   all  | some |
 *     keys of a block    | skip  |   o    |   o    |    queries of          |  o  |  o   | skip
 *                        | skip  |   o    |   o    |    a block             |  o  |  o   | skip
 *                           causal, pass of keys            causal, pass of queries
 *
 * p and ds are computed twice, seven products in place of five. In return no block adds to what
 * another one adds to: no atomics and no turns, and every sum has one order. Either side, what was
 * computed is the left side of the next product where it stands.
 *
 * bf16 and f16: p and ds are rounded to that before they meet g, q and k: dv is off by at most 2^-8
 * sum p |g|, or 2^-11 of it, dq and dk by as much of scale sum |ds k| and so on, beside their own
 * rounding. What is below 2^-14 in f16 is off by up to 2^-25 instead: g is to be scaled.
 */
#include "core/cuda/attention_tile.h"

/* ---- the states of queries ---- */

typedef struct stating {
    heads h;
    const void *g, *out;
    row_strides g_stride, out_stride;
    bool aligned;
    const void *lse;
    double unit; /* lse is multiplied with */
    void *states;
} stating;

/* Eight lanes a row, each with packs of columns of its own. */
template <class E> __global__ void query_states(stating s)
{
    using T = compute<E>;
    constexpr int N = pack_width<E>;
    int lane = (int)threadIdx.x % 8;
    int64_t all = (int64_t)gridDim.x * blockDim.x / 8, n = s.h.count * s.h.rows;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 8;
    for (int64_t i = first; i - first % 4 < n; i += all) { /* a warp stays together */
        int head = (int)((i < n ? i : n - 1) / s.h.rows);
        int64_t row = (i < n ? i : n - 1) % s.h.rows;
        const E *g = (const E *)s.g + head_place(s.g_stride, s.h, head) + row * s.g_stride.row;
        const E *out =
            (const E *)s.out + head_place(s.out_stride, s.h, head) + row * s.out_stride.row;
        T sum = 0;
        for (int64_t e = lane * N; e < s.h.width; e += 8 * N) {
            T x[N], y[N];
            read_columns<E, N>(x, g + e, s.h.width - e, s.aligned);
            read_columns<E, N>(y, out + e, s.h.width - e, s.aligned);
            for (int k = 0; k < N; k++)
                sum += x[k] * y[k];
        }
        sum = warp_sum<8>(sum);
        T lse = ((const T *)s.lse)[i < n ? i : n - 1];
        if (i < n && lane == 0)
            ((query_state<T> *)s.states)[i] = {isinf(lse) ? 0 : lse * (T)s.unit, sum};
    }
}

static storage *states_of(const heads &h, const tensor *g, const tensor *out, const tensor *lse,
                          double unit)
{
    int64_t n = h.count * h.rows;
    storage *room = storage_new((size_t)(2 * n) * tensor_item_size(lse));
    stating s = {};
    s.h = h;
    s.g = tensor_data(g);
    s.out = tensor_data(out);
    s.g_stride = row_strides_of(g);
    s.out_stride = row_strides_of(out);
    s.aligned = rows_aligned(g) && rows_aligned(out);
    s.lse = tensor_data(lse);
    s.unit = unit;
    s.states = room->data;
    BY_FLOAT(g->dtype, LAUNCH(query_states<E>, grid_of(8 * n, 256), 256, s));
    return room;
}

/* ---- a pass ---- */

typedef struct backward {
    heads h;
    order blocks;
    parts own[2], passing[2]; /* k, v and q, g; or the other way round */
    target products, powers;  /* of ds and the first of those that pass, of p and the second */
    const query_state<float> *states;
    float unit, scale; /* scale log2(e) */
} backward;

/* | own two | passing two | passing two | states |: of two passing tiles, by turns. The states are
 * those of the queries: own ones, or passing ones, by turns. */
template <class C, bool OF_KEYS> struct backward_tiles {
    static constexpr int OWN = own_tile<C>::SIZE, PASSING = passing_tile<C>::SIZE;
    static constexpr int TILES = 2 * OWN + 4 * PASSING, STATES = OF_KEYS ? 2 * C::PASSING : C::OWN;
    static constexpr int BYTES =
        TILES * (int)sizeof(uint16_t) + STATES * (int)sizeof(query_state<float>);
    static_assert(STATES <= C::THREADS, "a thread copies one of them");
    uint16_t *shared;

    __device__ own_tile<C> own(int which) const
    {
        return {shared, which * OWN};
    }
    __device__ passing_tile<C> passing(int turn, int which) const
    {
        return {shared, 2 * OWN + (2 * turn + which) * PASSING};
    }
    __device__ query_state<float> *states(int first) const
    {
        return (query_state<float> *)(shared + TILES) + first;
    }
    /* Begins to copy n states of a head from query `from` on; zeros behind its last. */
    __device__ void copy_states(int first, int n, const query_state<float> *head, int from,
                                int64_t count) const
    {
        int query = from + (int)threadIdx.x;
        if ((int)threadIdx.x < n)
            machine_copy_async<8>(states(first) + threadIdx.x, head + query, query < count);
    }
};

/* Of the query of a lane's score. */
template <bool OF_KEYS>
__device__ static inline query_state<float> state_of(const query_state<float> *states, int band,
                                                     int n, int i)
{
    return states[OF_KEYS ? 8 * n + column_in_eight(i) : 16 * band + row_in_band(i)];
}

/* Powers between own rows from `row` on and passing rows from `other` on: 0 where hidden. A key is
 * hidden from the first queries, from a query the last keys are. */
template <class C, bool OF_KEYS>
__device__ static inline void hide(score_sums<C> &powers, const heads &h, int row, int other)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int mine = row + 16 * band + row_in_band(i);
            int bound = (int)(OF_KEYS ? first_to_see(h, mine) : visible(h, mine)) - other;
#pragma unroll
            for (int n = 0; n < C::PASSING / 8; n++)
                if ((8 * n + column_in_eight(i) < bound) == OF_KEYS)
                    powers[band][n][i] = 0;
        }
}

/* Scores become p. */
template <class C, bool OF_KEYS>
__device__ static inline void to_powers(score_sums<C> &scores, const query_state<float> *states,
                                        float unit)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int n = 0; n < C::PASSING / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                scores[band][n][i] = machine_exp2(
                    fmaf(scores[band][n][i], unit, -state_of<OF_KEYS>(states, band, n, i).shift));
}

/* dp becomes ds. */
template <class C, bool OF_KEYS>
__device__ static inline void to_score_grads(score_sums<C> &dp, const score_sums<C> &powers,
                                             const query_state<float> *states)
{
#pragma unroll
    for (int band = 0; band < C::BANDS; band++)
#pragma unroll
        for (int n = 0; n < C::PASSING / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                dp[band][n][i] = powers[band][n][i] *
                                 (dp[band][n][i] - state_of<OF_KEYS>(states, band, n, i).delta);
}

/* Which passing rows a block works on, and which of them a warp must look at closely. */
struct range {
    int begin, end;           /* of the block */
    int sees_from, sees_to;   /* outside, the warp's own rows see none of them */
    int whole_from, whole_to; /* within, all see all */
};

template <class C, bool OF_KEYS>
__device__ static inline range range_of(const heads &h, int first, int row)
{
    int warp_last = row + C::BANDS * 16 - 1;
    if (OF_KEYS) {
        int begin = (int)first_to_see(h, first) / C::PASSING * C::PASSING, end = (int)h.rows;
        return {begin,  end, (int)first_to_see(h, row), end, (int)first_to_see(h, warp_last),
                INT_MAX};
    }
    int last = first + C::OWN < h.rows ? first + C::OWN - 1 : (int)h.rows - 1;
    int end = (int)visible(h, last);
    return {0, end, 0, (int)visible(h, warp_last), 0, (int)visible(h, row)};
}

/* A block of a pass; what is begun is in one buffer while the other is worked on. */
template <class C, bool OF_KEYS>
__global__ void __launch_bounds__(C::THREADS) attention_grad_tiles(backward b)
{
    SHARED_BYTES(uint16_t, shared);
    backward_tiles<C, OF_KEYS> tiles = {shared};
    block_place place = place_of_block(b.blocks);
    int tile = OF_KEYS ? place.tile : b.blocks.tiles - 1 - place.tile; /* the most work first */
    int first = tile * C::OWN, row = first + (int)threadIdx.x / WARP * C::BANDS * 16;
    int64_t own_rows_here = OF_KEYS ? b.h.columns : b.h.rows;
    int64_t passing_rows = OF_KEYS ? b.h.rows : b.h.columns;
    const query_state<float> *states = b.states + place.head * b.h.rows;
    range r = range_of<C, OF_KEYS>(b.h, first, row);
    using rows_reader = reader<C::THREADS, C::WIDTH>;
    rows_reader passing[] = {{b.passing[0], b.h, place.head, r.begin, passing_rows},
                             {b.passing[1], b.h, place.head, r.begin, passing_rows}};
    auto begin = [&](int other) {
        int turn = other / C::PASSING % 2;
        if (other < r.end) {
            for (int i = 0; i < 2; i++)
                passing[i].fill(tiles.passing(turn, i));
            if (OF_KEYS)
                tiles.copy_states(turn * C::PASSING, C::PASSING, states, other, b.h.rows);
        }
        machine_copies_end();
    };
    for (int i = 0; i < 2; i++)
        rows_reader(b.own[i], b.h, place.head, first, own_rows_here).fill(tiles.own(i));
    if (!OF_KEYS)
        tiles.copy_states(0, C::OWN, states, first, b.h.rows);
    machine_copies_end();
    begin(r.begin);
    machine_copies_wait<1>();
    __syncthreads();
    own_rows<C> own[] = {{tiles.own(0), row - first, {}}, {tiles.own(1), row - first, {}}};
    for (int i = 0; i < 2; i++)
        own[i].start();

    row_sums<C> products = {}, powers = {};
#pragma unroll 1
    for (int other = r.begin; other < r.end; other += C::PASSING) {
        int turn = other / C::PASSING % 2;
        machine_copies_wait<0>();
        __syncthreads(); /* this tile is there, and all are done with the one before */
        begin(other + C::PASSING);
        if (other + C::PASSING <= r.sees_from || other >= r.sees_to)
            continue;
        score_sums<C> p, ds;
        const query_state<float> *seen = tiles.states(OF_KEYS ? turn * C::PASSING : row - first);
        score<C>(p, own[0], tiles.passing(turn, 0));
        to_powers<C, OF_KEYS>(p, seen, b.unit);
        if (other < r.whole_from || other + C::PASSING > r.whole_to)
            hide<C, OF_KEYS>(p, b.h, row, other);
        score<C>(ds, own[1], tiles.passing(turn, 1));
        to_score_grads<C, OF_KEYS>(ds, p, seen);
        if (OF_KEYS)
            add_weighted<C>(powers, p, tiles.passing(turn, 1));
        add_weighted<C>(products, ds, tiles.passing(turn, 0));
    }
    machine_copies_wait<0>();
    give_rows<C>(b.products, b.h, place.head, row, (int)own_rows_here, products, b.scale);
    if (OF_KEYS)
        give_rows<C>(b.powers, b.h, place.head, row, (int)own_rows_here, powers, 1);
}

template <class C, bool OF_KEYS> static void launch(backward &b)
{
    b.blocks = order_of(b.h, OF_KEYS ? b.h.columns : b.h.rows, C::OWN, C::WIDTH, C::PARTS);
    LAUNCH_SHARED((attention_grad_tiles<C, OF_KEYS>), (int64_t)b.blocks.heads * b.blocks.tiles,
                  C::THREADS, (backward_tiles<C, OF_KEYS>::BYTES), b);
}

/* As in attention.cu, none takes more than 99 KiB of shared memory. */
template <class E> static void pass_low(backward &b, bool wide, bool of_keys)
{
    if (of_keys && wide)
        launch<cut<E, 128, 1, 8, 1, 32, false>, true>(b);
    else if (of_keys)
        launch<cut<E, 64, 1, 4, 2, 32, false>, true>(b);
    else if (wide)
        launch<cut<E, 128, 1, 4, 2, 32, false>, false>(b);
    else
        launch<cut<E, 64, 1, 4, 2, 32, true>, false>(b);
}

static void pass_f32(backward &b, bool wide, bool of_keys)
{
    if (of_keys && wide)
        launch<cut<bf16, 128, 3, 2, 1, 16, false>, true>(b);
    else if (of_keys)
        launch<cut<bf16, 64, 3, 4, 1, 32, false>, true>(b);
    else if (wide)
        launch<cut<bf16, 128, 3, 2, 1, 16, false>, false>(b);
    else
        launch<cut<bf16, 64, 3, 4, 1, 32, false>, false>(b);
}

static void pass(backward &b, torc_dtype dtype, bool of_keys)
{
    bool wide = b.h.width > 64;
    if (dtype == TORC_F16)
        pass_low<f16>(b, wide, of_keys);
    else if (dtype == TORC_BF16)
        pass_low<bf16>(b, wide, of_keys);
    else
        pass_f32(b, wide, of_keys);
}

static void grad_of_tiles(sink dq, sink dk, sink dv, const void *states, const tensor *g,
                          const tensor *q, const tensor *k, const tensor *v, const heads &h)
{
    const tensor *of_queries[] = {q, g}, *of_keys[] = {k, v};
    parts queries[2], keys[2];
    for (int i = 0; i < 2; i++) {
        queries[i] = parts_of(of_queries[i], &h);
        keys[i] = parts_of(of_keys[i], &h);
    }
    backward b = {};
    b.h = h;
    b.states = (const query_state<float> *)states;
    b.unit = (float)(h.scale * ATTENTION_LOG2_E);
    b.scale = (float)h.scale;
    memcpy(b.own, queries, sizeof queries);
    memcpy(b.passing, keys, sizeof keys);
    b.products = target_of(dq.t, dq.add);
    if (dq.t)
        pass(b, q->dtype, false);
    memcpy(b.own, keys, sizeof keys);
    memcpy(b.passing, queries, sizeof queries);
    b.products = target_of(dk.t, dk.add);
    b.powers = target_of(dv.t, dv.add);
    if (dk.t || dv.t)
        pass(b, q->dtype, true);
    for (int i = 0; i < 2; i++) {
        parts_drop(&queries[i]);
        parts_drop(&keys[i]);
    }
}

void cuda_attention_grad(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                         const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                         double scale, bool causal)
{
    heads h = heads_of(q, k, scale, causal);
    bool tiles = fits_tiles(h, q->dtype);
    storage *states = states_of(h, g, out, lse, tiles ? ATTENTION_LOG2_E : 1);
    if (tiles)
        grad_of_tiles(dq, dk, dv, states->data, g, q, k, v, h);
    else
        attention_grad_plain(dq, dk, dv, states->data, g, q, k, v, &h);
    storage_release(states);
}
