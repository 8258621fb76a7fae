/*
 * cross_entropy -- the loss of a classifier, straight from its logits.
 *
 *     row    loss = (1 - s) (lse - x[t]) + s (lse - mean x)         s: label smoothing
 *            dx = g / counted (e^(x - lse) - (1 - s) [i = t] - s / C)
 *
 * Each is one pass over the logits: only lse, a number a row, is kept between the two, and the
 * probabilities, as large as the logits, are computed again where they are used. The rows' losses
 * are noted in f64 and then added by one block.
 */
#include "core/cuda/rows.h"

struct losses { /* logits [n, classes] */
    const int64_t *target;
    int64_t n, classes, counted, ignore;
    double smoothing;
};

/* ---- loss ---- */

template <class TEAM, class E> __device__ static inline compute<E> row_mean(const E *x, int64_t n)
{
    using T = compute<E>;
    T sum = 0;
    row_visit<TEAM>(x, n, true, [&](int64_t i, auto size) {
        T v[size.width];
        piece_load(v, x + i);
        for (T u : v)
            sum += u;
    });
    return TEAM::sum(sum) / (T)n;
}

template <class E, bool WIDE>
__global__ void cross_entropy_rows(double *noted, compute<E> *lse, const E *x, losses l)
{
    using T = compute<E>;
    using TEAM = team<WIDE>;
    EACH_ROW(TEAM, row, l.n)
    {
        int64_t target = l.target[row];
        const E *from = x + row * l.classes;
        T kept = 0;
        double loss = 0;
        if (target != l.ignore) { /* all of the team think the same of it */
            kept = log_of(row_powers<TEAM>(from, l.classes));
            loss = (double)kept - widen(from[target]);
            if (l.smoothing != 0) { /* 0 * inf, of a class that is masked out, is a NaN */
                double mean = row_mean<TEAM>(from, l.classes);
                loss = (1 - l.smoothing) * loss + l.smoothing * (kept - mean);
            }
        }
        if (TEAM::rank() == 0) {
            lse[row] = kept;
            noted[row] = loss;
        }
    }
}

/* One block. */
template <class T> __global__ void mean_of(T *mean, const double *noted, int64_t n, int64_t counted)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += noted[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *mean = counted ? (T)(sum / (double)counted) : 0;
}

static losses losses_of(const tensor *logits, const tensor *target, int64_t counted, int64_t ignore,
                        double smoothing)
{
    return {
        data_of<int64_t>(target), logits->shape[0], logits->shape[1], counted, ignore, smoothing};
}

void cuda_cross_entropy(tensor *loss, tensor *lse, const tensor *logits, const tensor *target,
                        int64_t counted, int64_t ignore, double smoothing)
{
    losses l = losses_of(logits, target, counted, ignore, smoothing);
    storage *workspace = storage_new((size_t)l.n * sizeof(double));
    double *noted = (double *)workspace->data;
    BY_FLOAT(logits->dtype, {
        LAUNCH_ROWS(cross_entropy_rows, E, l.n, l.classes, noted, data_of<compute<E>>(lse),
                    data_of<E>(logits), l);
        LAUNCH(mean_of<compute<E>>, 1, 512, data_of<compute<E>>(loss), noted, l.n, counted);
    });
    storage_release(workspace);
}

/* ---- gradient ---- */

template <class E, bool WIDE>
__global__ void cross_entropy_grad_rows(E *dx, bool add, const compute<E> *g, const compute<E> *lse,
                                        const E *x, losses l, bool packed)
{
    using T = compute<E>;
    using TEAM = team<WIDE>;
    T factor = l.counted ? (T)(*g / (double)l.counted) : 0;
    T sure = (T)(1 - l.smoothing), even = (T)(l.smoothing / (double)l.classes);
    EACH_ROW(TEAM, row, l.n)
    {
        int64_t target = l.target[row], first = row * l.classes;
        bool counts = target != l.ignore;
        T shift = lse[row];
        if (!counts && add)
            continue;
        row_visit<TEAM>(x + first, l.classes, packed, [&](int64_t i, auto size) {
            T v[size.width], d[size.width] = {};
            piece_load(v, x + first + i);
            if (add)
                piece_load(d, dx + first + i);
            for (int k = 0; k < size.width; k++) {
                T p = exp(v[k] - shift) - (i + k == target ? sure : 0) - even;
                d[k] = counts ? d[k] + factor * p : 0;
            }
            piece_store(dx + first + i, d);
        });
    }
}

void cuda_cross_entropy_grad(sink dx, const tensor *g, const tensor *lse, const tensor *logits,
                             const tensor *target, int64_t counted, int64_t ignore,
                             double smoothing)
{
    if (!dx.t)
        return;
    losses l = losses_of(logits, target, counted, ignore, smoothing);
    bool packed = same_phase(tensor_data(dx.t), tensor_data(logits));
    BY_FLOAT(logits->dtype, LAUNCH_ROWS(cross_entropy_grad_rows, E, l.n, l.classes,
                                        data_of<E>(dx.t), dx.add, data_of<compute<E>>(g),
                                        data_of<compute<E>>(lse), data_of<E>(logits), l, packed));
}
