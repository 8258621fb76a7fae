/*
 * reduce -- sum, max and min over any dimensions.
 *
 * After coalescing (core/walk.h) the innermost dimension is reduced or kept, and that decides who
 * takes what:
 *
 *     each      few elements behind a result: one thread
 *     rows      x x x x -> r        a warp, or a block
 *     columns   x x x x             a block: threads side by side along the columns, and so many
 *               x x x x             rows of them as the block has room for
 *               | | | |
 *               r r r r
 *
 * Where results are few, the elements behind each are cut into parts, whose results make a matrix
 * [results, parts] that is reduced over its rows in turn. Bounds depend on the shape alone.
 */
#include "core/cuda/place.h"
#include "core/cuda/rows.h"

enum {
    EACH_MOST = 32, /* elements for one thread */
    BLOCKS_ENOUGH = 1024,
    ROW_PART = 4096, /* elements behind a result: cut into no smaller parts */
    COLUMN_PART = 64,
    TILE = 32, /* threads side by side along columns, at most */
    COLUMN_THREADS = 256
};

/* ---- how two become one ---- */

struct reduce_sum {
    template <class T> __device__ static T identity()
    {
        return 0;
    }
    template <class T> __device__ T operator()(T a, T x) const
    {
        return a + x;
    }
};
struct reduce_max { /* once NaN, always NaN */
    template <class T> __device__ static T identity()
    {
        return (T)-INFINITY;
    }
    template <class T> __device__ T operator()(T a, T x) const
    {
        return x > a || x != x ? x : a;
    }
};
struct reduce_min {
    template <class T> __device__ static T identity()
    {
        return (T)INFINITY;
    }
    template <class T> __device__ T operator()(T a, T x) const
    {
        return x < a || x != x ? x : a;
    }
};

/* ---- a plan, and where its results go ---- */

typedef struct plan {
    walk results; /* operand 0: the first element behind a result, 1: out */
    walk reduced; /* a result's elements; operand 0 is x */
    int64_t part, parts;
    void *partial; /* T [results, parts]; NULL: out gets scale * result */
    double scale;
    bool add;
    bool packed;             /* rows: elements side by side */
    int64_t columns, stride; /* columns: in the last dimension of `results`, and x's step there */
    int64_t packs, tiles, rows_at_once;
} plan;

template <class T>
__device__ static inline void put(const plan &p, int64_t result, int64_t part, T value)
{
    if (p.partial) {
        ((T *)p.partial)[result * p.parts + part] = value;
        return;
    }
    const operand &out = p.results.operand[1];
    int64_t at = place_in(p.results, 1, result);
    double scaled = p.scale * (double)value;
    place_write(out, at, p.add ? place_read<double>(out, at) + scaled : scaled);
}

/* ---- each ---- */

template <class E, class R> __global__ void reduce_each(plan p)
{
    using T = compute<E>;
    EACH(i, p.results.numel) {
        const E *x = (const E *)p.results.operand[0].data + place_in(p.results, 0, i);
        T value = R::template identity<T>();
        for (int64_t k = 0; k < p.reduced.numel; k++)
            value = R()(value, widen(x[place_in(p.reduced, 0, k)]));
        put(p, i, 0, value);
    }
}

/* ---- rows ---- */

/* Elements first .. first + n - 1 behind a result, by a team; its thread 0 has the value. */
template <class R, class TEAM, class E>
__device__ static inline compute<E> reduce_row(const plan &p, const E *x, int64_t first, int64_t n)
{
    using T = compute<E>;
    T value = R::template identity<T>();
    if (p.packed)
        row_visit<TEAM>(x + first, n, true, [&](int64_t i, auto size) {
            T v[size.width];
            piece_load(v, x + first + i);
            for (T u : v)
                value = R()(value, u);
        });
    else
        for (int64_t i = first + TEAM::rank(); i < first + n; i += TEAM::size())
            value = R()(value, widen(x[place_in(p.reduced, 0, i)]));
    return TEAM::fold(value, R());
}

template <class E, bool WIDE, class R> __global__ void reduce_rows(plan p)
{
    using TEAM = team<WIDE>;
    EACH_ROW(TEAM, unit, p.results.numel * p.parts) {
        int64_t result = unit / p.parts, part = unit % p.parts, first = part * p.part;
        int64_t n = p.reduced.numel - first < p.part ? p.reduced.numel - first : p.part;
        const E *x = (const E *)p.results.operand[0].data + place_in(p.results, 0, result);
        compute<E> value = reduce_row<R, TEAM>(p, x, first, n);
        if (TEAM::rank() == 0)
            put(p, result, part, value);
    }
}

/* ---- columns ---- */

/* The threads of a block as rows_at_once x TILE packs of N columns. Each walks down its columns;
 * then the first row of threads adds up what the others found. */
template <class E, int N, class R> __global__ void reduce_columns(plan p)
{
    using T = compute<E>;
    __shared__ T found[COLUMN_THREADS][N];
    int64_t part = blockIdx.x % p.parts, tile = blockIdx.x / p.parts % p.tiles;
    int64_t group = blockIdx.x / p.parts / p.tiles;
    int64_t first_pack = tile * TILE, width = p.packs - first_pack;
    if (width > TILE)
        width = TILE;
    int64_t across = threadIdx.x % width, down = threadIdx.x / width;
    int64_t result = group * p.columns + (first_pack + across) * N;
    int64_t end = (part + 1) * p.part < p.reduced.numel ? (part + 1) * p.part : p.reduced.numel;
    const E *x = (const E *)p.results.operand[0].data + place_in(p.results, 0, result);
    T value[N], next[N];
    for (T &v : value)
        v = R::template identity<T>();
    if (down < p.rows_at_once)
        for (int64_t i = part * p.part + down; i < end; i += p.rows_at_once) {
            piece_load(next, x + place_in(p.reduced, 0, i));
            for (int k = 0; k < N; k++)
                value[k] = R()(value[k], next[k]);
        }
    for (int k = 0; k < N; k++)
        found[threadIdx.x][k] = value[k];
    __syncthreads();
    if (down > 0)
        return;
    for (int64_t row = 1; row < p.rows_at_once; row++)
        for (int k = 0; k < N; k++)
            value[k] = R()(value[k], found[row * width + across][k]);
    for (int k = 0; k < N; k++)
        put(p, result + k, part, value[k]);
}

/* ---- planning ---- */

static plan plan_of(const tensor *out, const tensor *x, double scale, bool add)
{
    const tensor *both[] = {x, out};
    walk w = walk_of(WALK_FASTEST, 2, both);
    bool kept[TORC_MAX_DIMS], reduced[TORC_MAX_DIMS];
    for (int d = 0; d < w.ndim; d++) {
        kept[d] = w.operand[1].stride[d] != 0;
        reduced[d] = !kept[d];
    }
    plan p = {};
    p.results = walk_select(&w, kept);
    p.reduced = walk_select(&w, reduced);
    p.part = p.reduced.numel;
    p.parts = 1;
    p.scale = scale;
    p.add = add;
    if (kept[w.ndim - 1]) {
        p.columns = p.results.shape[p.results.ndim - 1];
        p.stride = p.results.operand[0].stride[p.results.ndim - 1];
    }
    return p;
}

/* Cuts so that there are blocks enough, `units` in each of which is the whole of a part. */
static void cut(plan *p, int64_t units, int64_t smallest, int64_t largest)
{
    int64_t n = p->reduced.numel, parts = min_i64(BLOCKS_ENOUGH / max_i64(units, 1), n / smallest);
    p->part = min_i64(largest, part_count(n, max_i64(1, parts)));
    p->part = part_count(p->part, 64) * 64; /* whole packs */
    p->parts = part_count(n, p->part);
}

/* Whether N columns can be moved at once wherever a row of them begins. */
static bool fits_packs(const plan *p, int64_t N)
{
    bool fits = p->stride == 1 && p->columns % N == 0 && is_aligned(p->results.operand[0].data);
    for (int d = 0; d < p->results.ndim - 1; d++)
        fits = fits && p->results.operand[0].stride[d] % N == 0;
    for (int d = 0; d < p->reduced.ndim; d++)
        fits = fits && p->reduced.operand[0].stride[d] % N == 0;
    return fits;
}

template <class E, class R> static void launch_columns(plan *p)
{
    constexpr int N = pack_width<E>;
    bool packs = fits_packs(p, N);
    p->packs = p->columns / (packs ? N : 1);
    p->tiles = part_count(p->packs, TILE);
    p->rows_at_once = COLUMN_THREADS / min_i64(TILE, p->packs);
    int64_t blocks = p->results.numel / p->columns * p->tiles * p->parts;
    if (packs)
        LAUNCH((reduce_columns<E, N, R>), blocks, COLUMN_THREADS, *p);
    else
        LAUNCH((reduce_columns<E, 1, R>), blocks, COLUMN_THREADS, *p);
}

/* The results of the parts, as rows of a matrix. */
static plan plan_of_partial(const plan *p, torc_dtype dtype)
{
    plan next = *p;
    operand *from = &next.results.operand[0];
    from->data = (char *)p->partial;
    int64_t stride = p->parts;
    for (int d = next.results.ndim - 1; d >= 0; d--) {
        from->stride[d] = stride;
        stride *= next.results.shape[d];
    }
    next.reduced.ndim = 1;
    next.reduced.numel = next.reduced.shape[0] = p->parts;
    next.reduced.operand[0].stride[0] = 1;
    from->dtype = dtype;
    next.columns = 0;
    next.partial = NULL;
    return next;
}

template <class E, class R> static void launch_rows(plan *p)
{
    int64_t units = p->results.numel * p->parts, n = p->part;
    p->packed = p->reduced.ndim == 1 && p->reduced.operand[0].stride[0] == 1;
    if (n <= ROW_SHORT)
        LAUNCH((reduce_rows<E, false, R>), grid_of(units, ROW_THREADS_SHORT / WARP),
               ROW_THREADS_SHORT, *p);
    else
        LAUNCH((reduce_rows<E, true, R>), grid_of(units, 1), 256, *p);
}

template <class E, class R> static void reduce_as(plan p)
{
    using T = compute<E>;
    int64_t n = p.reduced.numel, results = p.results.numel;
    if (n < EACH_MOST) {
        LAUNCH((reduce_each<E, R>), grid_of(results, 256), 256, p);
        return;
    }
    int64_t groups = p.columns ? results / p.columns : results;
    if (p.columns)
        cut(&p, groups * part_count(p.columns, TILE), COLUMN_PART, 8192);
    else
        cut(&p, groups, ROW_PART, 65536);
    storage *workspace = NULL;
    if (p.parts > 1) {
        workspace = storage_new((size_t)(results * p.parts) * sizeof(T));
        p.partial = workspace->data;
    }
    if (p.columns)
        launch_columns<E, R>(&p);
    else
        launch_rows<E, R>(&p);
    if (workspace) {
        reduce_as<T, R>(plan_of_partial(&p, sizeof(T) == 8 ? TORC_F64 : TORC_F32));
        storage_release(workspace);
    }
}

void cuda_reduce(reduce_op op, tensor *out, const tensor *x, double scale, bool add)
{
    if (tensor_numel(x) == 0) {
        double nothing = op == REDUCE_SUM ? 0 : op == REDUCE_MAX ? -INFINITY : INFINITY;
        if (!add)
            cuda_fill(out, scale * nothing);
        return;
    }
    plan p = plan_of(out, x, scale, add);
    if (op == REDUCE_SUM)
        BY_FLOAT(x->dtype, reduce_as<E, reduce_sum>(p))
    else if (op == REDUCE_MAX)
        BY_FLOAT(x->dtype, reduce_as<E, reduce_max>(p))
    else
        BY_FLOAT(x->dtype, reduce_as<E, reduce_min>(p))
}
