/*
 * optim -- a pass over all parameters: what a step does to an element is done while its p, g, m and
 * v are in registers, so a step costs the memory's time and no more.
 *
 *     stretches   |======== 0 ========|= 1 =|====== 2 ======|3|     one launch, up to STRETCHES
 *     blocks      |- 0 -|- 1 -|- 2 -| |- 3 -|- 4 -|- 5 -|-6-|7|     a chunk each
 *
 * Where the stretches are travels as an argument of the launch (there is room for 4 KiB): it is
 * copied when the launch is queued, so the host may change its own at once, and the GPU needs
 * neither memory for it nor a copy that goes before. A model of some hundred parameters takes a few
 * launches, each of which fills the GPU.
 *
 * The formulas are those of core/cpu/simd/optim.c. Every element is computed by itself, in fused
 * operations that are written out, for a compiler that chose them could choose differently for
 * packs and for single elements: how elements are dealt out to stretches cannot be seen in them.
 */
#include "core/cuda/squares.h"

#define STRETCHES 80
#define CHUNK 8192 /* elements; whole packs */
#define THREADS 256

typedef struct table {
    stretch s[STRETCHES];
    int first[STRETCHES + 1]; /* of each stretch: the number of its first chunk; then of chunks */
    bool packed[STRETCHES];   /* all that it has begins at a multiple of 16 bytes */
    int n;
} table;
static_assert(sizeof(table) + sizeof(adam_step) + sizeof(void *) <= 4096,
              "what the arguments of a launch may take");

/* As many stretches from *at on as fit. */
static table table_of(const stretch *s, int64_t n, int64_t *at)
{
    table t = {};
    for (; t.n < STRETCHES && *at < n; ++*at, t.n++) {
        const stretch *x = &s[*at];
        t.s[t.n] = *x;
        t.first[t.n + 1] = t.first[t.n] + (int)part_count(x->n, CHUNK);
        t.packed[t.n] =
            is_aligned(x->p) && is_aligned(x->g) && is_aligned(x->m) && is_aligned(x->v);
    }
    return t;
}

/* A block's share: elements first .. first + n - 1 of stretch k. */
struct chunk {
    int k, n;
    int64_t first;
};

__device__ static inline chunk chunk_of(const table &t, int index)
{
    int k = 0, end = t.n; /* t.first[k] <= index < t.first[end] */
    while (end - k > 1) {
        int middle = (k + end) / 2;
        if (t.first[middle] <= index)
            k = middle;
        else
            end = middle;
    }
    int64_t first = (int64_t)(index - t.first[k]) * CHUNK, left = t.s[k].n - first;
    return {k, left < CHUNK ? (int)left : CHUNK, first};
}

/* ---- updates: what is read, what is written, and what happens to an element in between ---- */

enum { P = 1, G = 2, M = 4, V = 8 };

struct scaling {
    static constexpr int reads = G, writes = G;
    float factor;
    __device__ void operator()(float &, float &g, float &, float &) const
    {
        g *= factor;
    }
};

/* p - lr x, and the gradient with the weight's decay. */
__device__ static inline float descend(float p, float lr, float x)
{
    return fmaf(-lr, x, p);
}
__device__ static inline float decayed(float g, float weight_decay, float p)
{
    return fmaf(weight_decay, p, g);
}

struct sgd_plain {
    static constexpr int reads = P | G, writes = P;
    sgd_step c;
    float factor = 1; /* of gradients; their product is rounded before it goes on */
    __device__ void operator()(float &p, float &g, float &, float &) const
    {
        p = descend(p, c.lr, decayed(g * factor, c.weight_decay, p));
    }
};

struct sgd_momentum {
    static constexpr int reads = P | G | M, writes = P | M;
    sgd_step c;
    float take; /* of the gradient */
    float factor = 1;
    __device__ void operator()(float &p, float &gradient, float &m, float &) const
    {
        float g = decayed(gradient * factor, c.weight_decay, p);
        float old = c.first ? 0 : m; /* it may be anything then, and 0 times a NaN is one */
        m = fmaf(take, g, c.momentum * old);
        p = descend(p, c.lr, c.nesterov ? fmaf(c.momentum, m, g) : m);
    }
};

struct adam_update {
    static constexpr int reads = P | G | M | V, writes = P | M | V;
    float shrink, decay, take1, beta2, take2, step_size, root, eps, factor = 1;
    __device__ void operator()(float &p, float &gradient, float &m, float &v) const
    {
        float g = decayed(gradient * factor, decay, p);
        m = fmaf(take1, g - m, m);
        v = fmaf(take2 * g, g, beta2 * v);
        p = fmaf(p, shrink, -(step_size * m / (sqrtf(v) / root + eps)));
    }
};

template <class U, int N>
__device__ static inline void update_pack(const stretch &s, int64_t i, const U &update)
{
    float *const all[4] = {s.p, s.g, s.m, s.v};
    pack<float, N> x[4] = {};
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (U::reads >> k & 1)
            x[k] = ((const pack<float, N> *)all[k])[i];
#pragma unroll
    for (int j = 0; j < N; j++)
        update(x[0].at[j], x[1].at[j], x[2].at[j], x[3].at[j]);
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (U::writes >> k & 1)
            ((pack<float, N> *)all[k])[i] = x[k];
}

template <class U> __device__ static inline void update_chunk(const table &t, const U &update)
{
    constexpr int N = pack_width<float>;
    const chunk c = chunk_of(t, (int)blockIdx.x);
    const stretch s = t.s[c.k];
    int packs = t.packed[c.k] ? c.n / N : 0;
    for (int i = (int)threadIdx.x; i < packs; i += THREADS)
        update_pack<U, N>(s, c.first / N + i, update);
    for (int i = packs * N + (int)threadIdx.x; i < c.n; i += THREADS)
        update_pack<U, 1>(s, c.first + i, update);
}

/* A step: of gradients times a factor, where there is one, unless it is to be skipped. */
template <class U> __global__ void update_chunks(const table t, U update, const clipping *c)
{
    if (c) {
        if (c->skip)
            return;
        update.factor = c->factor;
    }
    update_chunk(t, update);
}

/* The factor is known only here; where it is 1, memory is left alone. */
__global__ static void scale_chunks(const table t, const clipping *c)
{
    const float factor = c->factor;
    if (factor != 1)
        update_chunk(t, scaling{factor});
}

template <class U>
static void update_all(const stretch *s, int64_t n, const U &update, const clipping *c)
{
    for (int64_t at = 0; at < n;) {
        const table t = table_of(s, n, &at);
        LAUNCH(update_chunks<U>, t.first[t.n], THREADS, t, update, c);
    }
}

void cuda_scale(const stretch *s, int64_t n, const clipping *c)
{
    for (int64_t at = 0; at < n;) {
        const table t = table_of(s, n, &at);
        LAUNCH(scale_chunks, t.first[t.n], THREADS, t, c);
    }
}

void cuda_sgd(const stretch *s, int64_t n, sgd_step step, const clipping *c)
{
    if (step.momentum != 0)
        update_all(s, n, sgd_momentum{step, step.first ? 1 : 1 - step.dampening}, c);
    else
        update_all(s, n, sgd_plain{step}, c);
}

void cuda_adam(const stretch *s, int64_t n, adam_step step, const clipping *c)
{
    adam_update u;
    u.shrink = step.decoupled ? (float)(1 - (double)step.lr * step.weight_decay) : 1;
    u.decay = step.decoupled ? 0 : step.weight_decay;
    u.take1 = (float)(1 - (double)step.beta1);
    u.beta2 = step.beta2;
    u.take2 = (float)(1 - (double)step.beta2);
    u.step_size = (float)(step.lr / step.bias1);
    u.root = (float)sqrt(step.bias2);
    u.eps = step.eps;
    update_all(s, n, u, c);
}

/* ---- the norm ---- */

/* Squares of f32 are exact in f64. Packs or not, a thread takes the same elements in the same
 * order: where a gradient begins in memory, which may differ between ranks, cannot be seen. */
__global__ static void square_chunks(const table t, double *part)
{
    constexpr int N = pack_width<float>;
    const chunk c = chunk_of(t, (int)blockIdx.x);
    const float *g = t.s[c.k].g + c.first;
    bool packed = t.packed[c.k];
    double sum = 0;
    for (int i = (int)threadIdx.x * N; i < c.n; i += THREADS * N) {
        pack<float, N> x = {};
        if (packed && i + N <= c.n)
            x = *(const pack<float, N> *)(g + i);
        else
            for (int k = 0; k < N; k++)
                x.at[k] = i + k < c.n ? g[i + k] : 0;
        for (float y : x.at)
            sum = fma((double)y, (double)y, sum);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

void cuda_sum_squares(double *sum, const stretch *s, int64_t n)
{
    int64_t parts = 0, done = 0;
    for (int64_t i = 0; i < n; i++)
        parts += part_count(s[i].n, CHUNK);
    storage *room = squares_room(parts);
    for (int64_t at = 0; at < n;) {
        const table t = table_of(s, n, &at);
        LAUNCH(square_chunks, t.first[t.n], THREADS, t, squares_parts(room) + done);
        done += t.first[t.n];
    }
    squares_add(sum, room, parts);
    storage_release(room);
}

/* ---- core/clipping.h, a thread each ---- */

__global__ static void find_factor(clipping *c, double max_norm, const loss_scale *scale)
{
    clipping_find(c, max_norm, scale);
}

void cuda_clip(clipping *c, double max_norm, const loss_scale *scale)
{
    LAUNCH(find_factor, 1, 1, c, max_norm, scale);
}

__global__ static void take_out_scale(clipping *c, loss_scale *scale)
{
    clipping_unscale(c, scale);
}

void cuda_unscale(clipping *c, loss_scale *scale)
{
    LAUNCH(take_out_scale, 1, 1, c, scale);
}

__global__ static void change_scale(loss_scale *scale, scale_rule rule)
{
    loss_scale_next(scale, rule);
}

void cuda_rescale(loss_scale *scale, scale_rule rule)
{
    LAUNCH(change_scale, 1, 1, scale, rule);
}
