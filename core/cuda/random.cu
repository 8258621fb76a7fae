/*
 * random -- uniform, normal and dropout from Philox (core/rng.h).
 *
 *     element     0   1   2   3 | 4   5   6   7 | ...      in row-major order, whatever the strides
 *     counter         c         |     c + 1     | ...
 *     lane        0   1   2   3 | 0   1   2   3 | ...
 *
 * An element's draw depends on its place alone. Uniform and dropout give the CPU's bits; normal,
 * computed in f64 there and here, rounds to the same f32 except for about one in 10^8.
 */
#include "core/cuda/place.h"

extern "C" {
#include "core/rng.h"
}

/* Never fused with the sum that follows: the CPU does not. */
__device__ inline float product(float a, float b)
{
    return __fmul_rn(a, b);
}
__device__ inline double product(double a, double b)
{
    return __dmul_rn(a, b);
}

/* ---- uniform, normal: a thread for the four elements of a counter ---- */

template <class E, class LAW>
__global__ void draw_all(E *out, int64_t n, uint64_t key, uint64_t counter, LAW law)
{
    EACH(i, (n + 3) / 4) {
        uint32_t bits[4];
        double value[4];
        philox(key, counter + (uint64_t)i, bits);
        law(bits, value);
        for (int k = 0; k < 4; k++)
            if (4 * i + k < n)
                out[4 * i + k] = narrow<E>(value[k]);
    }
}

template <class LAW>
static void launch_draws(tensor *out, uint64_t key, uint64_t counter, const LAW &law)
{
    int64_t n = tensor_numel(out);
    BY_FLOAT(out->dtype, LAUNCH((draw_all<E, LAW>), grid_of(part_count(n, 4), 256), 256,
                                data_of<E>(out), n, key, counter, law));
}

struct uniform_law {
    double low, step;
    double limit; /* the largest value below high that the result's dtype has */
    int drop;     /* low bits of a draw that an f32 in [0, 1) has no room for */

    __device__ void operator()(const uint32_t bits[4], double value[4]) const
    {
        for (int k = 0; k < 4; k++) {
            value[k] = low + product((double)(bits[k] >> drop), step);
            value[k] = value[k] < limit ? value[k] : limit;
        }
    }
};

void cuda_uniform(tensor *out, uint64_t key, uint64_t counter, double low, double high)
{
    bool wide = out->dtype == TORC_F64;
    uniform_law law;
    law.low = low;
    law.drop = wide ? 0 : 8;
    law.step = (high - low) * ldexp(1, law.drop - 32);
    law.limit = wide ? nextafter(high, low) : nextafterf((float)high, (float)low);
    launch_draws(out, key, counter, law);
}

/* Box and Muller, "A note on the generation of random normal deviates", 1958: draws u in (0, 1] and
 * v in [0, 1) give r cos and r sin, with r = sqrt(-2 ln u) and the angle 2 pi v. */
struct normal_law {
    double mean, std;

    __device__ void operator()(const uint32_t bits[4], double value[4]) const
    {
        for (int k = 0; k < 4; k += 2) {
            double u = ((double)bits[k] + 1) * 0x1p-32;
            double angle = (double)bits[k + 1] * (0x1p-31 * M_PI), radius = std * sqrt(-2 * log(u));
            value[k] = mean + radius * cos(angle);
            value[k + 1] = mean + radius * sin(angle);
        }
    }
};

void cuda_normal(tensor *out, uint64_t key, uint64_t counter, double mean, double std)
{
    launch_draws(out, key, counter, normal_law{mean, std});
}

/* ---- dropout ---- */

/* Kept as uniform() in f32 would decide: the upper 24 bits of the draw, as a fraction, >= p. */
struct dropping {
    uint64_t key, counter;
    uint32_t dropped;
    double scale;
    bool add;

    template <class T> __device__ T kept(uint32_t bits, T x) const
    {
        return bits >> 8 >= dropped ? product(x, (T)scale) : 0;
    }
};

/* Element by element. Operands: out, x. */
template <class T> __global__ void dropout_any(walk w, dropping d)
{
    EACH(i, w.numel) {
        int64_t at[WALK_OPERANDS];
        uint32_t bits[4];
        place_of(w, i, at);
        philox(d.key, d.counter + (uint64_t)i / 4, bits);
        T y = d.kept(bits[i % 4], place_read<T>(w.operand[1], at[1]));
        if (d.add)
            y += place_read<T>(w.operand[0], at[0]);
        place_write(w.operand[0], at[0], y);
    }
}

/* Pack by pack, which is one counter of f32 and two of bf16 or f16; the rest is left to
 * dropout_any. */
template <class E> __global__ void dropout_dense(E *out, const E *x, int64_t packs, dropping d)
{
    constexpr int N = pack_width<E>;
    EACH(i, packs) {
        pack<E, N> v = ((const pack<E, N> *)x)[i], sum = {};
        uint32_t bits[N];
        for (int k = 0; k < N; k += 4)
            philox(d.key, d.counter + (uint64_t)(i * N + k) / 4, bits + k);
        if (d.add)
            sum = ((const pack<E, N> *)out)[i];
        for (int k = 0; k < N; k++) {
            float y = d.kept(bits[k], widen(v.at[k]));
            v.at[k] = narrow<E>(d.add ? widen(sum.at[k]) + y : y);
        }
        ((pack<E, N> *)out)[i] = v;
    }
}

/* The walk without its first n positions, all operands of which are dense. */
static walk rest_of(walk w, int64_t n)
{
    for (int k = 0; k < w.operands; k++)
        w.operand[k].data += n * (int64_t)w.operand[k].item;
    w.numel -= n;
    w.shape[w.ndim - 1] -= n;
    return w;
}

template <class E> static void launch_dense(walk w, dropping d)
{
    int64_t packs = w.numel / pack_width<E>, done = packs * pack_width<E>;
    LAUNCH(dropout_dense<E>, grid_of(packs, 256), 256, (E *)w.operand[0].data,
           (const E *)w.operand[1].data, packs, d);
    d.counter += (uint64_t)done / 4;
    LAUNCH(dropout_any<float>, w.numel > done, pack_width<E>, rest_of(w, done), d);
}

void cuda_dropout(sink out, const tensor *x, double p, uint64_t key, uint64_t counter)
{
    const tensor *both[] = {out.t, x};
    walk w = walk_of(WALK_ROW_MAJOR, 2, both);
    dropping d = {key, counter, (uint32_t)ceil(p * 0x1p24), 1 / (1 - p), out.add};
    bool dense = w.ndim == 1;
    for (int k = 0; k < 2; k++)
        dense = dense && w.operand[k].dense && is_aligned(w.operand[k].data);
    int64_t blocks = grid_of(w.numel, 256);
    if (x->dtype == TORC_F64)
        LAUNCH(dropout_any<double>, blocks, 256, w, d);
    else if (!dense)
        LAUNCH(dropout_any<float>, blocks, 256, w, d);
    else
        BY_F32_OR_LOW(x->dtype, launch_dense<E>(w, d));
}
