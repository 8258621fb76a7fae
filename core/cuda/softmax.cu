/*
 * softmax -- rows of the last dimension: softmax, log_softmax, logsumexp and their gradients.
 *
 *     softmax      y = e^(x - m) / sum e^(x - m)       dx = y (g - sum y g)
 *     log_softmax  y = x - lse                         dx = g - e^y sum g
 *
 * A row is read twice, for its sum and for its result; the second time it comes from a cache.
 */
#include "core/cuda/rows.h"

/* ---- softmax ---- */

/* The maximum is taken off before the small rest: x - lse at once would round lse to x's size. */
template <class E, bool WIDE>
__global__ void softmax_rows(E *out, const E *x, int64_t rows, int64_t n, bool logarithm)
{
    using T = compute<E>;
    using TEAM = team<WIDE>;
    bool packed = (uintptr_t)out % 16 == (uintptr_t)x % 16;
    EACH_ROW(TEAM, row, rows)
    {
        const E *from = x + row * n;
        E *to = out + row * n;
        powers<T> p = row_powers<TEAM>(from, n);
        T total = isinf(p.max) ? (T)NAN : p.sum, factor = 1 / total, rest = log(total);
        row_visit<TEAM>(from, n, packed, [&](int64_t i, auto size) {
            T v[size.width];
            piece_load(v, from + i);
            for (T &u : v)
                u = logarithm ? (u - p.max) - rest : exp(u - p.max) * factor;
            piece_store(to + i, v);
        });
    }
}

void cuda_softmax(tensor *out, const tensor *x, bool log)
{
    int64_t rows = row_count(x), n = row_length(x);
    BY_FLOAT(x->dtype,
             LAUNCH_ROWS(softmax_rows, E, rows, n, data_of<E>(out), data_of<E>(x), rows, n, log));
}

/* ---- gradients ---- */

template <class TEAM, class E>
__device__ static inline compute<E> row_dot(const E *y, const E *g, int64_t n, bool packed,
                                            bool logarithm)
{
    using T = compute<E>;
    T sum = 0;
    row_visit<TEAM>(y, n, packed, [&](int64_t i, auto size) {
        T a[size.width], b[size.width];
        piece_load(a, y + i);
        piece_load(b, g + i);
        for (int k = 0; k < size.width; k++)
            sum += logarithm ? b[k] : a[k] * b[k];
    });
    return TEAM::sum(sum);
}

template <class E, bool WIDE>
__global__ void softmax_grad_rows(E *dx, bool add, const E *y, const E *g, int64_t rows, int64_t n,
                                  bool logarithm, bool packed)
{
    using T = compute<E>;
    using TEAM = team<WIDE>;
    EACH_ROW(TEAM, row, rows)
    {
        int64_t first = row * n;
        T sum = row_dot<TEAM>(y + first, g + first, n, packed, logarithm);
        row_visit<TEAM>(y + first, n, packed, [&](int64_t i, auto size) {
            T a[size.width], b[size.width], d[size.width] = {};
            piece_load(a, y + first + i);
            piece_load(b, g + first + i);
            if (add)
                piece_load(d, dx + first + i);
            for (int k = 0; k < size.width; k++)
                d[k] += logarithm ? b[k] - exp(a[k]) * sum : a[k] * (b[k] - sum);
            piece_store(dx + first + i, d);
        });
    }
}

void cuda_softmax_grad(sink dx, const tensor *y, const tensor *g, bool log)
{
    if (!dx.t)
        return;
    int64_t rows = row_count(y), n = row_length(y);
    bool packed =
        same_phase(tensor_data(dx.t), tensor_data(y)) && same_phase(tensor_data(g), tensor_data(y));
    BY_FLOAT(y->dtype, LAUNCH_ROWS(softmax_grad_rows, E, rows, n, data_of<E>(dx.t), dx.add,
                                   data_of<E>(y), data_of<E>(g), rows, n, log, packed));
}

/* ---- logsumexp ---- */

template <class E, bool WIDE>
__global__ void logsumexp_rows(E *out, const E *x, int64_t rows, int64_t n)
{
    using TEAM = team<WIDE>;
    EACH_ROW(TEAM, row, rows)
    {
        powers<compute<E>> p = row_powers<TEAM>(x + row * n, n);
        if (TEAM::rank() == 0)
            out[row] = narrow<E>(log_of(p));
    }
}

void cuda_logsumexp(tensor *out, const tensor *x)
{
    int64_t rows = row_count(x), n = row_length(x);
    BY_FLOAT(x->dtype,
             LAUNCH_ROWS(logsumexp_rows, E, rows, n, data_of<E>(out), data_of<E>(x), rows, n));
}
