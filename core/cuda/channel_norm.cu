/*
 * channel_norm -- what batch norm needs: statistics of each channel, and y = xhat w + b (Ioffe,
 * Szegedy 2015). The formulas are those of core/cpu/simd/channel_norm.c: two sums of each channel
 * (channel_sums.h), and then
 *
 *     out (+)= g along_g + x along_x + constant        with three numbers a channel
 */
#include "core/cuda/channel_sums.h"

/* ---- the sums, and statistics of them ---- */

struct store_sums {
    double *sums;
    int64_t channels;
    __device__ void operator()(int64_t c, both<double> sum) const
    {
        sums[c] = sum.a;
        sums[channels + c] = sum.b;
    }
};

void cuda_channel_sums(tensor *sums, const tensor *g, const tensor *x, const tensor *mean)
{
    int64_t channels = x->shape[1];
    BY_FLOAT(x->dtype, {
        parts p = sums_about<E>(g, x, mean);
        finish_all(p, channels, store_sums{data_of<double>(sums), channels});
        storage_release(p.room);
    });
}

template <class E> struct store_stats {
    compute<E> *mean, *var;
    const E *first; /* of channel c: first[c * step] */
    int64_t step;
    double count;
    __device__ void operator()(int64_t c, both<double> sum) const
    {
        bool any = count > 0;
        double beyond = any ? sum.a / count : 0;
        mean[c] = (compute<E>)(any ? (double)widen(first[c * step]) + beyond : 0);
        var[c] = (compute<E>)(any ? sum.b / count - beyond * beyond : 0);
    }
};

void cuda_channel_stats(tensor *mean, tensor *var, const tensor *x)
{
    image i = image_of(x);
    double count = (double)(i.images * i.places);
    int64_t step = i.channels_last ? 1 : i.places;
    BY_FLOAT(x->dtype, {
        using T = compute<E>;
        const E *first = data_of<E>(x);
        parts p = sums_of<E>({NULL, first, NULL, true, i.channels}, i);
        finish_all(p, i.channels,
                   store_stats<E>{data_of<T>(mean), data_of<T>(var), first, step, count});
        storage_release(p.room);
    });
}

/* ---- out (+)= g along_g + x along_x + constant ---- */

/* [3][C] */
template <class T> struct factors {
    T *along_g, *along_x, *constant;
};

/* Their memory is the caller's. */
template <class T> static factors<T> factors_in(const storage *room, int64_t channels)
{
    T *first = (T *)room->data;
    return {first, first + channels, first + 2 * channels};
}

static storage *factors_room(int64_t channels)
{
    return storage_new((size_t)(3 * channels) * sizeof(double));
}

template <class E> struct combined {
    E *out;
    bool add;
    const E *g, *x; /* g: may be NULL */
    factors<compute<E>> f;
    int64_t packs, run, channels; /* run: packs of a row of channels, or of a plane */
};

template <class E, int N, bool LAST> __global__ void combine(const combined<E> o)
{
    using T = compute<E>;
    EACH(i, o.packs) {
        T along_g[N] = {}, along_x[N], constant[N];
        int64_t run = quotient(i, o.run), c = LAST ? i - run * o.run : run % o.channels;
        for (int k = 0; k < N && !LAST; k++) {
            along_g[k] = o.g ? o.f.along_g[c] : 0;
            along_x[k] = o.f.along_x[c];
            constant[k] = o.f.constant[c];
        }
        if (LAST) {
            columns_load(along_g, o.g ? o.f.along_g : NULL, c, (T)0);
            columns_load(along_x, o.f.along_x, c, (T)0);
            columns_load(constant, o.f.constant, c, (T)0);
        }
        pack<E, N> g = {}, x = ((const pack<E, N> *)o.x)[i], y = {};
        if (o.g)
            g = ((const pack<E, N> *)o.g)[i];
        if (o.add)
            y = ((const pack<E, N> *)o.out)[i];
        for (int k = 0; k < N; k++)
            y.at[k] = narrow<E>(widen(y.at[k]) + widen(g.at[k]) * along_g[k] +
                                widen(x.at[k]) * along_x[k] + constant[k]);
        ((pack<E, N> *)o.out)[i] = y;
    }
}

template <class E, int N> static void queue_combine(combined<E> &o, const image &i)
{
    o.packs = i.images * i.channels * i.places / N;
    o.run = (i.channels_last ? i.channels : i.places) / N;
    if (i.channels_last)
        LAUNCH((combine<E, N, true>), grid_of(o.packs, THREADS), THREADS, o);
    else
        LAUNCH((combine<E, N, false>), grid_of(o.packs, THREADS), THREADS, o);
}

template <class E>
static void combine_all(sink out, const tensor *g, const tensor *x, const factors<compute<E>> &f)
{
    image i = image_of(x);
    combined<E> o = {data_of<E>(out.t), out.add, data_of<E>(g), data_of<E>(x), f, 0, 0, i.channels};
    if (fits_packs<E>(i, o.out, o.g, o.x))
        queue_combine<E, width<E>>(o, i);
    else
        queue_combine<E, 1>(o, i);
}

/* ---- forward ---- */

template <class T>
__global__ void norm_factors(factors<T> f, int64_t channels, const T *mean, const T *var,
                             const T *w, const T *b, double eps)
{
    EACH(c, channels) {
        double slope = (w ? w[c] : 1) / sqrt(var[c] + eps);
        f.along_x[c] = (T)slope;
        f.constant[c] = (T)((b ? b[c] : 0) - mean[c] * slope);
    }
}

void cuda_channel_norm(tensor *out, const tensor *x, const tensor *mean, const tensor *var,
                       const tensor *w, const tensor *b, double eps)
{
    int64_t channels = x->shape[1];
    storage *room = factors_room(channels);
    BY_FLOAT(x->dtype, {
        using T = compute<E>;
        factors<T> f = factors_in<T>(room, channels);
        LAUNCH(norm_factors<T>, grid_of(channels, WARP), WARP, f, channels, data_of<T>(mean),
               data_of<T>(var), data_of<T>(w), data_of<T>(b), eps);
        combine_all<E>(sink{out, false}, NULL, x, f);
    });
    storage_release(room);
}

/* ---- backward ---- */

/* Gives dw and db of the sums over this x, and the factors of dx of those over the whole batch. */
template <class T> struct give_gradients {
    T *dw, *db;
    bool add_w, add_b;
    const T *mean, *var, *w;
    double eps, count;
    const double *all; /* [2][C]; NULL: the sums over this x are those */
    bool batch;
    int64_t channels;
    factors<T> f;

    __device__ void operator()(int64_t c, both<double> own) const
    {
        double rstd = 1 / sqrt(var[c] + eps), slope = (w ? w[c] : 1) * rstd;
        both<double> sum = all ? both<double>{all[c], all[channels + c]} : own;
        double tilt = batch ? -slope * rstd * rstd * sum.b / count : 0;
        if (dw)
            dw[c] = (T)((add_w ? dw[c] : 0) + own.b * rstd);
        if (db)
            db[c] = (T)((add_b ? db[c] : 0) + own.a);
        f.along_g[c] = (T)slope;
        f.along_x[c] = (T)tilt;
        f.constant[c] = (T)(batch ? -slope * sum.a / count - tilt * mean[c] : 0);
    }
};

/* What both kernels of the gradient share: `batch` and `all` as above. */
template <class E>
static void gradients_of(const parts &own, sink dx, sink dw, sink db, const tensor *g,
                         const tensor *x, const tensor *mean, const tensor *var, const tensor *w,
                         double eps, bool batch, const double *all, double count)
{
    using T = compute<E>;
    int64_t channels = x->shape[1];
    storage *room = factors_room(channels);
    factors<T> f = factors_in<T>(room, channels);
    finish_all(own, channels,
               give_gradients<T>{data_of<T>(dw.t), data_of<T>(db.t), dw.add, db.add,
                                 data_of<T>(mean), data_of<T>(var), data_of<T>(w), eps, count, all,
                                 batch, channels, f});
    if (dx.t)
        combine_all<E>(dx, g, x, f);
    storage_release(room);
}

void cuda_channel_norm_grad(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                            const tensor *mean, const tensor *var, const tensor *w, double eps,
                            bool batch)
{
    image i = image_of(x);
    double count = (double)max_i64(i.images * i.places, 1);
    BY_FLOAT(x->dtype, {
        parts own = sums_about<E>(g, x, mean);
        gradients_of<E>(own, dx, dw, db, g, x, mean, var, w, eps, batch, NULL, count);
        storage_release(own.room);
    });
}

void cuda_channel_norm_grad_from(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                                 const tensor *mean, const tensor *var, const tensor *w, double eps,
                                 const tensor *own, const tensor *all, double count)
{
    parts given = {NULL, data_of<double>(own), 1};
    BY_FLOAT(x->dtype, gradients_of<E>(given, dx, dw, db, g, x, mean, var, w, eps, true,
                                       data_of<double>(all), count));
}
