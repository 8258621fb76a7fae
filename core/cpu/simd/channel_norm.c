/*
 * channel_norm -- what batch norm needs: statistics of each channel, and y = xhat w + b (Ioffe,
 * Szegedy 2015).
 *
 *     xhat = (x - mean) rstd      rstd = 1 / sqrt(var + eps)      dw = sum g xhat     db = sum g
 *     dx = w rstd (g - mean(g) - xhat mean(g xhat))     where mean and var came from x itself
 *     dx = w rstd g                                     where they were given
 *
 * Three sums over all of a channel are needed, and all are one: with shifts s and t
 *
 *     plain = sum (a - s)      crossed = sum (a - s) (b - t)
 *
 *     a, s = x, 0              plain: M mean
 *     a, s = b, t = x, mean    crossed: M var (plain is what rounding left, and corrects it)
 *     a, s, b, t = g, 0, x, mean    plain: db    crossed: dw / rstd
 *
 *     channels last   rows of C numbers: [N H W, C], also [N, C]; rows are cut into parts that are
 *                     summed apart and added in order
 *     channels first  planes of H W numbers, N for each channel; one channel is one thread's
 *
 * Either way the same bits come out on any number of threads. Sums leave this file, and come back
 * added up over processes, as [2, C] doubles: plain, then crossed. T, E and F are those of
 * vector.h.
 */
#ifndef T
#include "core/cpu/scratch.h"
#include "core/cpu/simd/number.h"
#include "core/cpu/simd/rows.h"

#define PARTS 64 /* at most */
#define PART_ROWS \
    64               /* at least; also how many numbers are added in T, before they go to double \
                      */
#define CHANNELS 256 /* at a time */

typedef struct image { /* element (n, c, p) at n * step + c * channel + p * place */
    int64_t images, channels, places;
    int64_t step, channel, place;
    bool channels_last;
} image;

static image image_of(const tensor *x)
{
    image i = {.images = x->shape[0], .channels = x->shape[1], .places = 1, .place = 1};
    for (int d = 2; d < x->ndim; d++)
        i.places *= x->shape[d];
    i.step = i.channels * i.places;
    i.channels_last = x->ndim == 2 || i.places == 1 || (x->stride[1] == 1 && i.channels > 1);
    i.channel = i.channels_last ? 1 : i.places;
    i.place = i.channels_last ? i.channels : 1;
    return i;
}

/* The number of rows in a part; depends on the shape alone. */
static int64_t part_rows(const image *i)
{
    return max_i64(PART_ROWS, part_count(i->images * i->places, PARTS));
}

/* Room for [2, C] sums and for those of the parts behind them. */
static double *sums_for(const image *i)
{
    int64_t count = i->channels_last ? part_count(i->images * i->places, part_rows(i)) : 0;
    return scratch(SCRATCH_PARTS, (size_t)((count + 1) * 2 * i->channels) * sizeof(double));
}

#define EACH "core/cpu/simd/channel_norm.c"
#include "core/cpu/simd/each.h"

/* The function for the dtype of x. */
#define OF_DTYPE(function, x, ...) \
    ((x)->dtype == TORC_F64    ? function##_f64(__VA_ARGS__) \
     : (x)->dtype == TORC_BF16 ? function##_bf16(__VA_ARGS__) \
                               : function##_f32(__VA_ARGS__))

void SIMD(cpu_channel_stats)(tensor *mean, tensor *var, const tensor *x)
{
    OF_DTYPE(channel_stats, x, mean, var, x);
}

void SIMD(cpu_channel_norm)(tensor *out, const tensor *x, const tensor *mean, const tensor *var,
                            const tensor *w, const tensor *b, double eps)
{
    OF_DTYPE(channel_norm, x, out, x, mean, var, w, b, eps);
}

void SIMD(cpu_channel_norm_grad)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                                 const tensor *mean, const tensor *var, const tensor *w, double eps,
                                 bool batch)
{
    image i = image_of(x);
    double count = (double)max_i64(i.images * i.places, 1);
    const double *sums = OF_DTYPE(sums_about, x, g, x, mean);
    OF_DTYPE(grad_from, x, dx, dw, db, g, x, mean, var, w, eps, sums, batch ? sums : NULL, count);
}

void SIMD(cpu_channel_sums)(tensor *sums, const tensor *g, const tensor *x, const tensor *mean)
{
    memcpy(tensor_data(sums), OF_DTYPE(sums_about, x, g, x, mean),
           (size_t)(2 * x->shape[1]) * sizeof(double));
}

void SIMD(cpu_channel_norm_grad_from)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                                      const tensor *mean, const tensor *var, const tensor *w,
                                      double eps, const tensor *own, const tensor *all,
                                      double count)
{
    OF_DTYPE(grad_from, x, dx, dw, db, g, x, mean, var, w, eps, tensor_data(own), tensor_data(all),
             count);
}

#else

typedef struct F(operands) {
    const E *a, *b;
    const double *a_shift, *b_shift; /* a number a channel */
} F(operands);

/* Some rows of n <= CHANNELS neighbouring channels from `channel` on, added to the sums. */
static void F(sum_rows)(const F(operands) * o, const image *i, part rows, int64_t channel,
                        int64_t n, double *plain, double *crossed)
{
    T s[CHANNELS], t[CHANNELS], sum[CHANNELS], dot[CHANNELS];
    for (int64_t c = 0; c < n; c++) {
        s[c] = (T)o->a_shift[channel + c];
        t[c] = (T)o->b_shift[channel + c];
    }
    for (int64_t done = 0; done < rows.n; done += PART_ROWS) {
        memset(sum, 0, sizeof sum);
        memset(dot, 0, sizeof dot);
        for (int64_t row = done; row < min_i64(rows.n, done + PART_ROWS); row++) {
            int64_t at = (rows.first + row) * i->channels + channel;
#pragma omp simd
            for (int64_t c = 0; c < n; c++) {
                T a = F(number)(o->a[at + c]) - s[c];
                sum[c] += a;
                dot[c] += a * (F(number)(o->b[at + c]) - t[c]);
            }
        }
        for (int64_t c = 0; c < n; c++) {
            plain[c] += sum[c];
            crossed[c] += dot[c];
        }
    }
}

/* sums [2, C]: plain, then crossed. */
static void F(sum_channels_last)(const F(operands) * o, const image *i, double *sums)
{
    int64_t rows = i->images * i->places, size = part_rows(i), count = part_count(rows, size);
    int64_t channels = i->channels;
    double *parts = sums + 2 * channels;
    memset(sums, 0, (size_t)((count + 1) * 2 * channels) * sizeof *sums);
#pragma omp parallel for schedule(static) if (parallel_worth(rows * channels * (int64_t)sizeof(E)))
    for (int64_t index = 0; index < count; index++) {
        double *mine = parts + index * 2 * channels;
        for (int64_t c = 0; c < channels; c += CHANNELS)
            F(sum_rows)
        (o, i, part_of(rows, size, index), c, min_i64(CHANNELS, channels - c), mine + c,
         mine + channels + c);
    }
    for (int64_t index = 0; index < count; index++)
        for (int64_t c = 0; c < 2 * channels; c++)
            sums[c] += parts[index * 2 * channels + c];
}

static void F(sum_plane)(const F(operands) * o, int64_t at, int64_t n, int64_t channel,
                         double *plain, double *crossed)
{
    T s = (T)o->a_shift[channel], t = (T)o->b_shift[channel];
    const E *a = o->a + at, *b = o->b + at;
    for (int64_t first = 0; first < n; first += ROW_STRETCH) {
        F(vec) sum = {0}, dot = {0};
        for (int64_t p = first; p < min_i64(n, first + ROW_STRETCH); p += LANES(T)) {
            F(vec) left = F(read_some)(a + p, n - p, s) - s;
            sum += left;
            dot += left * (F(read_some)(b + p, n - p, t) - t);
        }
        *plain += F(sum_lanes)(sum);
        *crossed += F(sum_lanes)(dot);
    }
}

static void F(sum_channels_first)(const F(operands) * o, const image *i, double *sums)
{
    int64_t channels = i->channels;
    memset(sums, 0, (size_t)(2 * channels) * sizeof *sums);
#pragma omp parallel for schedule( \
    static) if (parallel_worth(i->images * i->step * (int64_t)sizeof(E)))
    for (int64_t c = 0; c < channels; c++)
        for (int64_t n = 0; n < i->images; n++)
            F(sum_plane)
    (o, n * i->step + c * i->channel, i->places, c, &sums[c], &sums[channels + c]);
}

/* sum(g) and sum(g (x - mean)), in the scratch; x - mean for g where that is NULL, 0 for mean. */
static const double *F(sums_about)(const tensor *g, const tensor *x, const tensor *mean)
{
    image i = image_of(x);
    size_t bytes = (size_t)(2 * i.channels) * sizeof(double);
    double *sums = sums_for(&i), *zero = scratch(SCRATCH_OTHER, bytes), *about = zero + i.channels;
    const E *from = tensor_data(x);
    const T *means = data_or_null(mean);
    memset(zero, 0, bytes);
    for (int64_t c = 0; means && c < i.channels; c++)
        about[c] = means[c];
    const F(operands) o = {g ? tensor_data(g) : from, from, g ? zero : about, about};
    (i.channels_last ? F(sum_channels_last) : F(sum_channels_first))(&o, &i, sums);
    return sums;
}

static void F(channel_stats)(tensor *mean, tensor *var, const tensor *x)
{
    int64_t channels = x->shape[1];
    double count = (double)max_i64(channels ? tensor_numel(x) / channels : 0, 1);
    T *means = tensor_data(mean), *vars = tensor_data(var);
    const double *sums = F(sums_about)(NULL, x, NULL);
    for (int64_t c = 0; c < channels; c++)
        means[c] = (T)(sums[c] / count);
    sums = F(sums_about)(NULL, x, mean);
    for (int64_t c = 0; c < channels; c++) {
        double left = sums[c] / count;
        vars[c] = (T)(sums[channels + c] / count - left * left);
    }
}

/* out (+)= g * along_g[c] + x * along_x[c] + constant[c]; without a g along_g is 0. */
static void F(combine)(sink out, const tensor *g, const tensor *x, const T *along_g,
                       const T *along_x, const T *constant)
{
    const image i = image_of(x);
    int64_t runs = i.channels_last ? i.images * i.places : i.images * i.channels;
    int64_t run = i.channels_last ? i.channels : i.places;
    E *all_to = tensor_data(out.t);
    const E *all_from = tensor_data(x), *all_grad = g ? tensor_data(g) : all_from;
    T keep = out.add;
#pragma omp parallel for schedule(static) if (parallel_worth(runs * run * 2 * (int64_t)sizeof(E)))
    for (int64_t r = 0; r < runs; r++) {
        E *to = all_to + r * run;
        const E *from = all_from + r * run, *grad = all_grad + r * run;
        int64_t c = r % i.channels;
        if (i.channels_last)
#pragma omp simd
            for (int64_t k = 0; k < run; k++)
                to[k] = F(element)((keep != 0 ? F(number)(to[k]) : 0) +
                                   F(number)(grad[k]) * along_g[k] +
                                   F(number)(from[k]) * along_x[k] + constant[k]);
        else
#pragma omp simd
            for (int64_t k = 0; k < run; k++)
                to[k] = F(element)((keep != 0 ? F(number)(to[k]) : 0) +
                                   F(number)(grad[k]) * along_g[c] +
                                   F(number)(from[k]) * along_x[c] + constant[c]);
    }
}

/* Three rows of C factors for combine(). */
static T *F(factors)(int64_t channels)
{
    return scratch(SCRATCH_WEIGHTS, (size_t)(3 * channels) * sizeof(T));
}

static void F(channel_norm)(tensor *out, const tensor *x, const tensor *mean, const tensor *var,
                            const tensor *weight, const tensor *bias, double eps)
{
    int64_t channels = x->shape[1];
    const T *m = tensor_data(mean), *v = tensor_data(var);
    const T *w = data_or_null(weight), *b = data_or_null(bias);
    T *none = F(factors)(channels), *slope = none + channels, *constant = slope + channels;
    for (int64_t c = 0; c < channels; c++) {
        double factor = (w ? w[c] : 1) / sqrt(v[c] + eps);
        none[c] = 0;
        slope[c] = (T)factor;
        constant[c] = (T)((b ? b[c] : 0) - m[c] * factor);
    }
    F(combine)((sink){out, false}, NULL, x, none, slope, constant);
}

static void F(give)(sink out, const double *sums, const T *var, double eps, int64_t channels)
{
    T *to = data_or_null(out.t);
    for (int64_t c = 0; to && c < channels; c++)
        to[c] = (T)((out.add ? to[c] : 0) + sums[c] * (var ? 1 / sqrt(var[c] + eps) : 1));
}

/* own: the sums behind dw and db. all: those behind mean and var, of `count` elements a channel;
 * NULL where mean and var were given. */
static void F(grad_from)(sink dx, sink dw, sink db, const tensor *g, const tensor *x,
                         const tensor *mean, const tensor *var, const tensor *weight, double eps,
                         const double *own, const double *all, double count)
{
    int64_t channels = x->shape[1];
    const T *m = tensor_data(mean), *v = tensor_data(var), *w = data_or_null(weight);
    T *along_g = F(factors)(channels), *along_x = along_g + channels;
    T *constant = along_x + channels;
    F(give)(dw, own + channels, v, eps, channels);
    F(give)(db, own, NULL, eps, channels);
    for (int64_t c = 0; c < channels; c++) {
        double rstd = 1 / sqrt(v[c] + eps), slope = (w ? w[c] : 1) * rstd;
        double tilt = all ? -slope * rstd * rstd * all[channels + c] / count : 0;
        along_g[c] = (T)slope;
        along_x[c] = (T)tilt;
        constant[c] = (T)(all ? -slope * all[c] / count - tilt * m[c] : 0);
    }
    if (dx.t)
        F(combine)(dx, g, x, along_g, along_x, constant);
}

#undef T
#undef E
#undef F
#endif
