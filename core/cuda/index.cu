/*
 * index -- kernels that go where numbers point: embedding, gather, and their gradients, which add.
 *
 * Where several indices name the same place, the additions must have one order. So the indices are
 * sorted, which puts those of a place side by side, in the order they came in, and the sorted ones
 * are cut into chunks. A block adds up what each place gets from its chunk; a place that goes on
 * across a border is noted, and the second pass adds up the notes.
 *
 *     sorted    3 3 7 7 | 7 7 7 7 | 7 9 9 9        chunks of 4
 *               3 is done; 7: first + middle + last; 9 is done
 */
#include "core/cuda/rows.h"
#include "core/cuda/sort.h"

/* ---- numbers for the host, which waits for them unless it has a copy of the index ---- */

/* t in the host's memory; false: it has no such copy. */
static bool on_host(const tensor *t, tensor *copy, storage *store)
{
    const int64_t *values = tensor_mirror(t);
    *store = {};
    store->data = (void *)values;
    *copy = *t;
    copy->store = store;
    copy->offset = 0;
    return values != NULL;
}

/* Starts from all bits set, or none. */
static storage *answer_new(int bits)
{
    storage *answer = storage_new(sizeof(int64_t));
    queue_set(answer->data, bits, sizeof(int64_t));
    return answer;
}

static int64_t answer_take(storage *answer)
{
    int64_t number;
    device_cuda.to_host(&number, answer->data, sizeof number);
    storage_release(answer);
    return number;
}

/* -1, all bits set, is the largest number without a sign. */
__global__ static void find_outside(unsigned long long *first, const int64_t *index, int64_t n,
                                    int64_t limit, int64_t ignore)
{
    EACH(i, n)
        if ((uint64_t)index[i] >= (uint64_t)limit && index[i] != ignore)
            atomicMin(first, (unsigned long long)i);
}

int64_t cuda_check_index(const tensor *index, int64_t limit, int64_t ignore)
{
    int64_t n = tensor_numel(index);
    tensor copy;
    storage store;
    if (n == 0)
        return -1;
    if (on_host(index, &copy, &store))
        return kernels_of_host()->check_index(&copy, limit, ignore);
    storage *first = answer_new(0xff);
    LAUNCH(find_outside, grid_of(n, 256), 256, (unsigned long long *)first->data,
           data_of<int64_t>(index), n, limit, ignore);
    return answer_take(first);
}

__global__ static void count_others(unsigned long long *count, const int64_t *index, int64_t n,
                                    int64_t ignore)
{
    unsigned long long mine = 0;
    EACH(i, n)
        mine += index[i] != ignore;
    mine = block_sum(mine);
    if (threadIdx.x == 0)
        atomicAdd(count, mine);
}

int64_t cuda_count_targets(const tensor *target, int64_t ignore)
{
    int64_t n = tensor_numel(target);
    tensor copy;
    storage store;
    if (n == 0)
        return 0;
    if (on_host(target, &copy, &store))
        return kernels_of_host()->count_targets(&copy, ignore);
    storage *count = answer_new(0);
    LAUNCH(count_others, min_i64(grid_of(n, 256), 1024), 256, (unsigned long long *)count->data,
           data_of<int64_t>(target), n, ignore);
    return answer_take(count);
}

/* ---- embedding: rows of a table, a warp each ---- */

/* N elements at a time. */
template <class O, class E, int N>
__global__ void embedding_rows(O *out, const E *table, const int64_t *index, int64_t n,
                               int64_t width)
{
    using TEAM = team<false>;
    EACH_ROW(TEAM, row, n) {
        const E *from = table + index[row] * width;
        for (int64_t i = TEAM::rank() * N; i < width; i += WARP * N) {
            compute<E> v[N];
            piece_load(v, from + i);
            piece_store(out + row * width + i, v);
        }
    }
}

template <class O, class E>
static void launch_embedding(tensor *out, const tensor *table, const tensor *index)
{
    constexpr int N = pack_width<E>;
    int64_t n = tensor_numel(index), width = table->shape[1], blocks = grid_of(n, 4);
    O *to = data_of<O>(out);
    const E *from = data_of<E>(table);
    if (width % N == 0 && is_aligned(to) && is_aligned(from))
        LAUNCH((embedding_rows<O, E, N>), blocks, 4 * WARP, to, from, data_of<int64_t>(index), n,
               width);
    else
        LAUNCH((embedding_rows<O, E, 1>), blocks, 4 * WARP, to, from, data_of<int64_t>(index), n,
               width);
}

void cuda_embedding(tensor *out, const tensor *table, const tensor *index)
{
    if (table->dtype == TORC_F64)
        launch_embedding<double, double>(out, table, index);
    else
        BY_F32_OR_LOW(out->dtype, launch_embedding<E, float>(out, table, index));
}

/* ---- adding rows to where their keys say ---- */

enum { CHUNK = 32, ADD_THREADS = 128 };

typedef struct adding {
    const entry *sorted; /* place p's row goes to row `key` of to */
    int64_t n, chunks, width;
    const void *rows; /* E [n, width] */
    void *to;         /* T, rows `down` apart, their elements `across` */
    int64_t down, across;
    void *notes; /* T [chunks, 2, width]: of a chunk's first place, and of its last */
    bool add;
} adding;

template <class T, int N>
__device__ static inline void add_to(const adding &a, int64_t key, int64_t column,
                                     const T (&sum)[N])
{
    T *to = (T *)a.to + key * a.down + column * a.across;
    for (int k = 0; k < N; k++)
        to[k * a.across] = a.add ? to[k * a.across] + sum[k] : sum[k];
}

/* Where the sum of a place in a chunk goes: into a note if the place has more beyond a border. */
template <class T, int N>
__device__ static inline void finish_place(const adding &a, int64_t chunk, int64_t first,
                                           int64_t end, int64_t column, const T (&sum)[N])
{
    int64_t key = a.sorted[first].key, start = chunk * CHUNK;
    bool from_before = first == start && start > 0 && a.sorted[start - 1].key == key;
    bool goes_on = end == start + CHUNK && end < a.n && a.sorted[end].key == key;
    if (!from_before && !goes_on)
        add_to(a, key, column, sum);
    else /* a chunk of one place that goes on both ways has only the first note */
        piece_store((T *)a.notes + (2 * chunk + !from_before) * a.width + column, sum);
}

/* A block for a chunk and ADD_THREADS packs of columns. */
template <class E, int N> __global__ void add_chunks(adding a, int64_t tiles)
{
    using T = compute<E>;
    int64_t chunk = blockIdx.x / tiles, start = chunk * CHUNK;
    int64_t column = (blockIdx.x % tiles * ADD_THREADS + threadIdx.x) * N;
    int64_t end = start + CHUNK < a.n ? start + CHUNK : a.n;
    if (column >= a.width)
        return;
    int64_t first = start; /* of this place's entries */
    T sum[N] = {}, next[N];
    for (int64_t i = start; i < end; i++) {
        piece_load(next, (const E *)a.rows + a.sorted[i].place * a.width + column);
        for (int k = 0; k < N; k++)
            sum[k] += next[k];
        if (i + 1 < end && a.sorted[i + 1].key == a.sorted[first].key)
            continue;
        finish_place(a, chunk, first, i + 1, column, sum);
        first = i + 1;
        for (T &s : sum)
            s = 0;
    }
}

/* A block for each chunk whose last place goes on; it follows the place to its end. */
template <class T> __global__ void add_notes(adding a)
{
    for (int64_t chunk = blockIdx.x; chunk < a.chunks - 1; chunk += gridDim.x) {
        int64_t border = (chunk + 1) * CHUNK, start = border - CHUNK;
        int64_t key = a.sorted[border - 1].key;
        bool from_before = start > 0 && a.sorted[start - 1].key == key;
        if (a.sorted[border].key != key || from_before)
            continue;
        for (int64_t column = threadIdx.x; column < a.width; column += blockDim.x) {
            const T *notes = (const T *)a.notes + column;
            T sum[1] = {notes[(2 * chunk + 1) * a.width]};
            for (int64_t c = chunk + 1; c < a.chunks && a.sorted[c * CHUNK].key == key; c++)
                sum[0] += notes[2 * c * a.width];
            add_to(a, key, column, sum);
        }
    }
}

template <class E> static void launch_adding(const adding &a)
{
    using T = compute<E>;
    constexpr int N = pack_width<T>;
    bool packs = a.width % N == 0 && (uintptr_t)a.rows % (N * sizeof(E)) == 0;
    int64_t tiles = part_count(a.width, ADD_THREADS * (packs ? N : 1));
    if (packs)
        LAUNCH((add_chunks<E, N>), a.chunks * tiles, ADD_THREADS, a, tiles);
    else
        LAUNCH((add_chunks<E, 1>), a.chunks * tiles, a.width < WARP ? WARP : ADD_THREADS, a, tiles);
    LAUNCH(add_notes<T>, grid_of(a.chunks - 1, 1), a.width < WARP ? WARP : 256, a);
}

/* Row i of `rows` to row key[i] of `to`; n, width > 0. What `fill` queues writes the entries, not
 * yet sorted. */
template <class F> static void add_rows(adding a, torc_dtype dtype, int64_t limit, F fill)
{
    a.chunks = part_count(a.n, CHUNK);
    size_t item = dtype == TORC_F64 ? sizeof(double) : sizeof(float), list = a.n * sizeof(entry);
    size_t counts = sort_workspace(a.n), notes = (size_t)(2 * a.chunks * a.width) * item;
    storage *workspace = storage_new(2 * list + counts + notes);
    entry *entries = (entry *)workspace->data, *other = entries + a.n;
    int64_t *sums = (int64_t *)(other + a.n);
    a.notes = (char *)sums + counts;
    fill(entries);
    a.sorted = sort_entries(entries, other, a.n, limit, sums);
    BY_FLOAT(dtype, launch_adding<E>(a));
    storage_release(workspace);
}

/* ---- the gradient of embedding ---- */

__global__ static void entries_of_index(entry *entries, const int64_t *index, int64_t n)
{
    EACH(i, n)
        entries[i] = {index[i], i};
}

void cuda_embedding_grad(sink dtable, const tensor *g, const tensor *index)
{
    tensor *to = dtable.t;
    if (!dtable.add)
        cuda_fill(to, 0);
    adding a = {};
    a.n = tensor_numel(index);
    a.width = to->shape[1];
    if (a.n == 0 || a.width == 0)
        return;
    a.rows = tensor_data(g);
    a.to = tensor_data(to);
    a.down = to->stride[0];
    a.across = to->stride[1];
    a.add = dtable.add;
    add_rows(a, g->dtype, to->shape[0], [&](entry *entries) {
        LAUNCH(entries_of_index, grid_of(a.n, 256), 256, entries, data_of<int64_t>(index), a.n);
    });
}

/* ---- gather: out[.., i, .., k] = x[.., index[.., i, .., k], .., k] ---- */

/* x's other sizes may be larger than the index's, so places are found by x's own strides. */
typedef struct lookup {
    const int64_t *index;
    int ndim, dim;
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS]; /* of the index; of x */
    int64_t n;
} lookup;

static lookup lookup_of(const tensor *index, const tensor *x, int dim)
{
    lookup l = {data_of<int64_t>(index), index->ndim, dim, {}, {}, tensor_numel(index)};
    for (int d = 0; d < l.ndim; d++) {
        l.shape[d] = index->shape[d];
        l.stride[d] = x->stride[d];
    }
    return l;
}

/* Of what index element i points to, in x. */
__device__ static inline int64_t looked_up(const lookup &l, int64_t i)
{
    int64_t offset = l.index[i] * l.stride[l.dim];
    for (int d = l.ndim - 1; d >= 0; d--) {
        offset += d == l.dim ? 0 : i % l.shape[d] * l.stride[d];
        i /= l.shape[d];
    }
    return offset;
}

template <class E> __global__ void gather_each(E *out, const E *x, lookup l)
{
    EACH(i, l.n)
        out[i] = x[looked_up(l, i)];
}

void cuda_gather(tensor *out, const tensor *x, int dim, const tensor *index)
{
    lookup l = lookup_of(index, x, dim);
    int64_t blocks = grid_of(l.n, 256);
    size_t item = tensor_item_size(x); /* moved as numbers of its size, whatever they mean */
    if (item == 8)
        LAUNCH(gather_each<uint64_t>, blocks, 256, data_of<uint64_t>(out), data_of<uint64_t>(x), l);
    else if (item == 4)
        LAUNCH(gather_each<uint32_t>, blocks, 256, data_of<uint32_t>(out), data_of<uint32_t>(x), l);
    else if (item == 2)
        LAUNCH(gather_each<uint16_t>, blocks, 256, data_of<uint16_t>(out), data_of<uint16_t>(x), l);
    else
        LAUNCH(gather_each<uint8_t>, blocks, 256, data_of<uint8_t>(out), data_of<uint8_t>(x), l);
}

/* ---- its gradient ---- */

/* Elements that differ in dim alone are a line; only those of one line can meet. Where a line has
 * one element none meet. */
template <class E> __global__ void scatter_each(E *dx, const E *g, lookup l)
{
    EACH(i, l.n)
        dx[looked_up(l, i)] += g[i];
}

__global__ static void entries_of_lookup(entry *entries, lookup l)
{
    EACH(i, l.n)
        entries[i] = {looked_up(l, i), i};
}

/* dx as rows of one element. */
static void scatter_sorted(sink dx, const tensor *g, const lookup &l)
{
    adding a = {};
    a.n = l.n;
    a.width = a.down = a.across = 1;
    a.rows = tensor_data(g);
    a.to = tensor_data(dx.t);
    a.add = dx.add;
    add_rows(a, g->dtype, tensor_numel(dx.t), [&](entry *entries) {
        LAUNCH(entries_of_lookup, grid_of(l.n, 256), 256, entries, l);
    });
}

void cuda_gather_grad(sink dx, const tensor *g, int dim, const tensor *index)
{
    if (!dx.add)
        cuda_fill(dx.t, 0);
    lookup l = lookup_of(index, dx.t, dim);
    if (l.n == 0)
        return;
    if (l.shape[dim] > 1)
        scatter_sorted(dx, g, l);
    else if (g->dtype == TORC_F64)
        LAUNCH(scatter_each<double>, grid_of(l.n, 256), 256, data_of<double>(dx.t),
               data_of<double>(g), l);
    else
        LAUNCH(scatter_each<float>, grid_of(l.n, 256), 256, data_of<float>(dx.t), data_of<float>(g),
               l);
}
