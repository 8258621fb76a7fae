/*
 * norm -- layer_norm over rows of the last dimension (Ba, Kiros, Hinton 2016).
 *
 *     y = xhat w + b,   xhat = (x - mean) rstd,   rstd = 1 / sqrt(var + eps)
 *     dx = rstd (g w - mean(g w) - xhat mean(g w xhat)),   dw = sum g xhat,   db = sum g
 *
 * Forward, a team of threads (rows.h) has a row: it is read once, stays in their registers while
 * its mean and then its variance around that mean are found, and is written once.
 *
 * Backward, a block has some rows, a few at a time, and a thread the same columns of all of them:
 *
 *     thread       0     1     2
 *     row 0     | g x | g x | g x |  --> sums     over the threads, once for all rows under way
 *     row 1     | g x | g x | g x |  --> sums
 *                dw db dw db dw db                over this block's rows, in registers;
 *                                                 columns_add() adds those of all blocks
 *
 * Of rows longer than the registers of a block the rest is read again, and its share of dw and db
 * is kept in memory.
 */
#include "core/cuda/columns.h"
#include "core/cuda/rows.h"

#define MOST_THREADS 512

/* Threads of a block of which each takes `each` of n packs. */
static int threads_for(int64_t n, int each)
{
    int64_t warps = part_count(n, (int64_t)each * WARP);
    return (int)max_i64(1, min_i64(warps, MOST_THREADS / WARP)) * WARP;
}

/* ---- forward ---- */

template <class E> struct layer {
    E *out, *sum;
    const E *x, *residual;
    compute<E> *mean, *rstd;
    const compute<E> *w, *b;
    int64_t rows, n;
    double over_n, eps; /* 1 / n */
};

/* x + residual, rounded, is written to sum. */
template <class E, int N>
__device__ static inline closed<E, N> add_residual(E *sum, closed<E, N> x, closed<E, N> residual,
                                                   int64_t i)
{
    pack<E, N> a = x.open(), b = residual.open();
    for (int k = 0; k < N; k++)
        a.at[k] = narrow<E>(widen(a.at[k]) + widen(b.at[k]));
    ((pack<E, N> *)sum)[i] = a;
    return closed<E, N>::of(a);
}

/* A thread's share of a row, packs rank, rank + size, ...: the first K in registers. */
template <class TEAM, class E, int N, int K, bool RESIDUAL> struct share {
    closed<E, N> kept[K];
    const closed<E, N> *row; /* where the others are read again */
    int64_t packs;

    __device__ share(const layer<E> &o, int64_t first)
    {
        row = (const closed<E, N> *)(o.x + first);
        packs = o.n / N;
        load(kept, row, 0);
        if (RESIDUAL)
            add(o.sum + first, (const closed<E, N> *)(o.residual + first));
    }
    template <int n> __device__ void load(closed<E, N> (&to)[n], const closed<E, N> *from, int k)
    {
#pragma unroll
        for (int j = 0; j < n; j++)
            if (TEAM::rank() + (k + j) * TEAM::size() < packs)
                to[j] = from[TEAM::rank() + (k + j) * TEAM::size()];
    }
    /* Some are loaded before the first store, which the compiler would let none overtake. */
    __device__ void add(E *sum, const closed<E, N> *residual)
    {
        constexpr int SOME = K < 4 ? K : 4;
#pragma unroll
        for (int k = 0; k < K; k += SOME) {
            closed<E, N> other[SOME];
            load(other, residual, k);
#pragma unroll
            for (int j = 0; j < SOME; j++)
                if (const int i = TEAM::rank() + (k + j) * TEAM::size(); i < packs)
                    kept[k + j] = add_residual(sum, kept[k + j], other[j], i);
        }
        for (int64_t i = beyond(); i < packs; i += TEAM::size())
            add_residual(sum, row[i], residual[i], i);
        row = (const closed<E, N> *)sum;
    }
    __device__ static int64_t beyond()
    {
        return TEAM::rank() + (int64_t)K * TEAM::size();
    }

    /* visit(i, pack i) for each of them */
    template <class F> __device__ void each(F visit)
    {
#pragma unroll
        for (int k = 0; k < K; k++)
            if (TEAM::rank() + k * TEAM::size() < packs)
                visit(TEAM::rank() + k * TEAM::size(), kept[k].open());
        for (int64_t i = beyond(); i < packs; i += TEAM::size())
            visit(i, ((const pack<E, N> *)row)[i]);
    }
};

template <class E, int N, int K, bool WIDE, bool RESIDUAL>
__global__ void __launch_bounds__(MOST_THREADS) norm_rows(const layer<E> o)
{
    using T = compute<E>;
    using TEAM = team<WIDE>;
    EACH_ROW(TEAM, r, o.rows) {
        share<TEAM, E, N, K, RESIDUAL> mine(o, r * o.n);
        T sum = 0, squares = 0;
        mine.each([&](int64_t, const pack<E, N> &x) {
            for (E e : x.at)
                sum += widen(e);
        });
        T mean = (T)(TEAM::sum((double)sum) * o.over_n);
        /* In a second pass: a difference of squares would cancel where the mean is large. */
        mine.each([&](int64_t, const pack<E, N> &x) {
            for (E e : x.at)
                squares += (widen(e) - mean) * (widen(e) - mean);
        });
        T rstd = 1 / sqrt((T)(TEAM::sum((double)squares) * o.over_n + o.eps));
        mine.each([&](int64_t i, const pack<E, N> &x) {
            T w[N], b[N];
            columns_load(w, o.w, i, (T)1);
            columns_load(b, o.b, i, (T)0);
            pack<E, N> y;
            for (int k = 0; k < N; k++)
                y.at[k] = narrow<E>((widen(x.at[k]) - mean) * rstd * w[k] + b[k]);
            ((pack<E, N> *)(o.out + r * o.n))[i] = y;
        });
        if (TEAM::rank() == 0) {
            o.mean[r] = mean;
            o.rstd[r] = rstd;
        }
    }
}

/* Whether rows of n elements that begin at these places are made of packs; NULL fits. */
template <class E> static bool fits_packs(int64_t n, std::initializer_list<const void *> places)
{
    bool fits = n % pack_width<E> == 0;
    for (const void *place : places)
        fits = fits && is_aligned(place);
    return fits;
}

enum { KEPT = 8 /* packs of a thread, at most */ };

template <class E, bool RESIDUAL> static void queue_norm(const layer<E> &o)
{
    constexpr int N = pack_width<E>, teams = ROW_THREADS_SHORT / WARP;
    constexpr bool R = RESIDUAL;
    int64_t packs = o.n / N, wide = grid_of(o.rows, 1), narrow = grid_of(o.rows, teams);
    if (!fits_packs<E>(o.n, {o.out, o.sum, o.x, o.residual, o.w, o.b}))
        LAUNCH((norm_rows<E, 1, KEPT, true, R>), wide, threads_for(o.n, KEPT), o);
    else if (packs <= KEPT / 2 * WARP)
        LAUNCH((norm_rows<E, N, KEPT / 2, false, R>), narrow, ROW_THREADS_SHORT, o);
    else if (packs <= KEPT * WARP)
        LAUNCH((norm_rows<E, N, KEPT, false, R>), narrow, ROW_THREADS_SHORT, o);
    else
        LAUNCH((norm_rows<E, N, KEPT, true, R>), wide, threads_for(packs, KEPT), o);
}

void cuda_layer_norm(tensor *out, tensor *mean, tensor *rstd, tensor *sum, const tensor *x,
                     const tensor *residual, const tensor *w, const tensor *b, double eps)
{
    int64_t rows = row_count(x), n = row_length(x);
    BY_FLOAT(x->dtype, {
        using T = compute<E>;
        const layer<E> o = {data_of<E>(out), data_of<E>(sum), data_of<E>(x), data_of<E>(residual),
                            data_of<T>(mean), data_of<T>(rstd), data_of<T>(w), data_of<T>(b), rows,
                            n, 1 / (double)n, eps};
        if (residual)
            queue_norm<E, true>(o);
        else
            queue_norm<E, false>(o);
    });
}

/* ---- backward ---- */

template <class E> struct layer_grad {
    E *dx; /* may be NULL */
    bool add;
    const E *g, *x;
    const compute<E> *w, *mean, *rstd;
    compute<E> *parts; /* [blocks][2][n]: dw, db */
    int64_t rows, n, part;
    double over_n;
};

/* What is summed over R rows that are under way. */
template <class T, int R> struct row_sums {
    T gw[R], dot[R]; /* g w, g w xhat */
};
template <class T, int R>
__device__ static inline row_sums<T, R> operator+(row_sums<T, R> x, const row_sums<T, R> &y)
{
    for (int r = 0; r < R; r++) {
        x.gw[r] += y.gw[r];
        x.dot[r] += y.dot[r];
    }
    return x;
}

/* R rows from `first` on, of which those from `end` on are all 0. */
template <class E, int R> struct rows_under_way {
    int64_t first, end;
    compute<E> mean[R], rstd[R];

    __device__ rows_under_way(const layer_grad<E> &o, int64_t first, int64_t end)
        : first(first), end(end)
    {
#pragma unroll
        for (int r = 0; r < R; r++) {
            mean[r] = first + r < end ? o.mean[first + r] : 0;
            rstd[r] = first + r < end ? o.rstd[first + r] : 0;
        }
    }
};

/* Pack i of each of them. */
template <class E, int N, int R> struct tile {
    using T = compute<E>;
    closed<E, N> g[R], x[R];

    __device__ void load(const layer_grad<E> &o, const rows_under_way<E, R> &rows, int64_t i)
    {
#pragma unroll
        for (int r = 0; r < R; r++) {
            g[r] = x[r] = {};
            if (rows.first + r < rows.end) {
                g[r] = ((const closed<E, N> *)(o.g + (rows.first + r) * o.n))[i];
                x[r] = ((const closed<E, N> *)(o.x + (rows.first + r) * o.n))[i];
            }
        }
    }

    __device__ void add(T (&dw)[N], T (&db)[N], row_sums<T, R> &sums, const layer_grad<E> &o,
                        const rows_under_way<E, R> &rows, int64_t i)
    {
        T w[N];
        columns_load(w, o.w, i, (T)1);
#pragma unroll
        for (int r = 0; r < R; r++) {
            pack<E, N> from = g[r].open(), at = x[r].open();
            for (int k = 0; k < N; k++) {
                T grad = widen(from.at[k]), gw = grad * w[k];
                T xhat = (widen(at.at[k]) - rows.mean[r]) * rows.rstd[r];
                dw[k] += grad * xhat;
                db[k] += grad;
                sums.gw[r] += gw;
                sums.dot[r] += gw * xhat;
            }
        }
    }

    /* dx; means: of g w and of g w xhat */
    __device__ void store(const layer_grad<E> &o, const rows_under_way<E, R> &rows, int64_t i,
                          const row_sums<T, R> &means)
    {
        T w[N];
        closed<E, N> before[R], *to = (closed<E, N> *)(o.dx + rows.first * o.n) + i;
        columns_load(w, o.w, i, (T)1);
#pragma unroll
        for (int r = 0; r < R; r++) { /* all before the first store, which none would overtake */
            before[r] = {};
            if (o.add && rows.first + r < rows.end)
                before[r] = to[r * (o.n / N)];
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            if (rows.first + r >= rows.end)
                continue;
            pack<E, N> from = g[r].open(), at = x[r].open(), d = before[r].open();
            for (int k = 0; k < N; k++) {
                T xhat = (widen(at.at[k]) - rows.mean[r]) * rows.rstd[r];
                T u = rows.rstd[r] * (widen(from.at[k]) * w[k] - means.gw[r] - xhat * means.dot[r]);
                d.at[k] = narrow<E>(o.add ? widen(d.at[k]) + u : u);
            }
            to[r * (o.n / N)] = closed<E, N>::of(d);
        }
    }
};

/* What add() adds to dw and db of a pack of columns that are not in registers; `again`: they have
 * been written before. */
template <class E, int N, int R>
__device__ static inline void add_beyond(const layer_grad<E> &o, const rows_under_way<E, R> &rows,
                                         int64_t i, bool again, row_sums<compute<E>, R> &sums)
{
    using T = compute<E>;
    T *to_w = o.parts + 2 * blockIdx.x * o.n, *to_b = to_w + o.n;
    T dw[N] = {}, db[N] = {};
    if (again) {
        columns_load(dw, to_w, i, (T)0);
        columns_load(db, to_b, i, (T)0);
    }
    tile<E, N, R> t;
    t.load(o, rows, i);
    t.add(dw, db, sums, o, rows, i);
    columns_store(to_w, i, dw);
    columns_store(to_b, i, db);
}

/* The packs of a thread: those whose columns are in registers, k of K, and those beyond. */
#define EACH_KEPT(k, i) \
    _Pragma("unroll") for (int k = 0; k < K; k++) \
        if (const int64_t i = (int)(threadIdx.x + k * blockDim.x); i < packs)
#define EACH_BEYOND(i) \
    for (int64_t i = (int)(threadIdx.x + K * blockDim.x); i < packs; i += blockDim.x)

/* A block has rows part * index .., R of them at a time. ANY: of any length. */
template <class E, int N, int K, int R, bool ANY>
__global__ void __launch_bounds__(MOST_THREADS) norm_grad_rows(const layer_grad<E> o)
{
    using T = compute<E>;
    const int64_t packs = o.n / N, start = blockIdx.x * o.part;
    const int64_t end = start + o.part < o.rows ? start + o.part : o.rows;
    T dw[K][N] = {}, db[K][N] = {};
    for (int64_t row = start; row < end; row += R) {
        const rows_under_way<E, R> rows(o, row, end);
        row_sums<T, R> sums = {};
        tile<E, N, R> t[K], beyond;
        EACH_KEPT(k, i) t[k].load(o, rows, i);
        EACH_KEPT(k, i) t[k].add(dw[k], db[k], sums, o, rows, i);
        if constexpr (ANY)
            EACH_BEYOND(i) add_beyond<E, N, R>(o, rows, i, row > start, sums);
        if (!o.dx)
            continue;
        sums = block_sum(sums);
        for (int r = 0; r < R; r++) {
            sums.gw[r] *= (T)o.over_n;
            sums.dot[r] *= (T)o.over_n;
        }
        EACH_KEPT(k, i) t[k].store(o, rows, i, sums);
        if constexpr (ANY)
            EACH_BEYOND(i) {
                beyond.load(o, rows, i);
                beyond.store(o, rows, i, sums);
            }
    }
    T *to_w = o.parts + 2 * blockIdx.x * o.n, *to_b = to_w + o.n;
    EACH_KEPT(k, i) {
        columns_store(to_w, i, dw[k]);
        columns_store(to_b, i, db[k]);
    }
}

template <class T>
__global__ void add_parts(T *dw, bool add_w, T *db, bool add_b, const T *parts, int64_t count,
                          int64_t n)
{
    columns_add(parts, count, n, [=](int64_t c, both<T> sum) {
        if (dw)
            dw[c] = add_w ? dw[c] + sum.a : sum.a;
        if (db)
            db[c] = add_b ? db[c] + sum.b : sum.b;
    });
}

/* Long rows fill a processor with fewer blocks, and have larger parts to write. */
enum { SHORT = 2048, LONG = 16 * MOST_THREADS, PARTS_SHORT = 768, PARTS_LONG = 256, PART_ROWS = 4 };

/* Of a short row a thread has 8 elements, of a long one 16, and of both as many rows as make 32
 * registers. Others, rare, go element by element. */
template <class E> static void queue_grad(const layer_grad<E> &o, int64_t blocks, bool packed)
{
    constexpr int N = pack_width<E>, S = 8 / N, L = 16 / N, R = 8 / (int)sizeof(E);
    if (packed && o.n <= SHORT)
        LAUNCH((norm_grad_rows<E, N, S, R, false>), blocks, threads_for(o.n / N, S), o);
    else if (packed && o.n <= LONG)
        LAUNCH((norm_grad_rows<E, N, L, R / 2, false>), blocks, threads_for(o.n / N, L), o);
    else
        LAUNCH((norm_grad_rows<E, 1, 4, 2, true>), blocks, threads_for(o.n, 4), o);
}
template <> void queue_grad(const layer_grad<double> &o, int64_t blocks, bool)
{
    LAUNCH((norm_grad_rows<double, 1, 4, 2, true>), blocks, threads_for(o.n, 4), o);
}

template <class E>
static void norm_gradients(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                           const tensor *w, const tensor *mean, const tensor *rstd)
{
    using T = compute<E>;
    int64_t rows = row_count(x), n = row_length(x), most = n <= SHORT ? PARTS_SHORT : PARTS_LONG;
    int64_t part = part_count(max_i64(part_count(rows, most), 1), PART_ROWS) * PART_ROWS;
    int64_t count = part_count(rows, part);
    storage *workspace = storage_new((size_t)(count * 2 * n) * sizeof(T));
    T *parts = (T *)workspace->data;
    const layer_grad<E> o = {data_of<E>(dx.t),   dx.add,
                             data_of<E>(g),      data_of<E>(x),
                             data_of<T>(w),      data_of<T>(mean),
                             data_of<T>(rstd),   parts,
                             rows,               n,
                             part,               1 / (double)n};
    queue_grad(o, n ? count : 0, fits_packs<E>(n, {o.dx, o.g, o.x, o.w}));
    if (dw.t || db.t)
        LAUNCH(add_parts<T>, part_count(n, COLUMNS_OF_BLOCK), COLUMNS_THREADS, data_of<T>(dw.t),
               dw.add, data_of<T>(db.t), db.add, parts, count, n);
    storage_release(workspace);
}

void cuda_layer_norm_grad(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                          const tensor *w, const tensor *mean, const tensor *rstd)
{
    BY_FLOAT(x->dtype, norm_gradients<E>(dx, dw, db, g, x, w, mean, rstd));
}
