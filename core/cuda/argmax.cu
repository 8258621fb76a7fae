/*
 * argmax -- the place of the largest value along one dimension; and whether all values are finite.
 *
 *     x [2, 3, 4], dim 1       8 lines of 3 elements, 4 apart -> out [2, 1, 4]
 *
 * A line is a thread's where its neighbours lie beside it in memory, else a warp's or a block's.
 */
#include "core/cuda/place.h"
#include "core/cuda/rows.h"

/* ---- argmax ---- */

enum { FEW_ELEMENTS = 32, FEW_LINES = 1024 };

/* NaN is the largest; of equals the first. */
template <class T> struct best {
    T value;
    int64_t place; /* -1: none yet */
};
struct better {
    template <class T> __device__ best<T> operator()(best<T> a, best<T> b) const
    {
        if (a.place < 0 || b.place < 0)
            return a.place < 0 ? b : a;
        bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        bool same = a.value == b.value || (a_nan && b_nan);
        if (same)
            return a.place < b.place ? a : b;
        return b_nan || (!a_nan && b.value > a.value) ? b : a;
    }
};

/* A thread, a warp or a block takes a line of elements, operand 0 of both walks; 1 of `lines` is
 * out. */
template <class T, class TEAM>
__device__ static inline best<T> best_of(const walk &lines, const walk &elements, int64_t line)
{
    int64_t start = place_in(lines, 0, line);
    best<T> found = {0, -1};
    for (int64_t i = TEAM::rank(); i < elements.numel; i += TEAM::size()) {
        int64_t at = start + place_in(elements, 0, i);
        found = better()(found, {place_read<T>(lines.operand[0], at), i});
    }
    return TEAM::fold(found, better());
}

template <class T, class TEAM> __global__ void argmax_lines(walk lines, walk elements)
{
    EACH_ROW(TEAM, line, lines.numel) {
        best<T> found = best_of<T, TEAM>(lines, elements, line);
        if (TEAM::rank() == 0)
            ((int64_t *)lines.operand[1].data)[place_in(lines, 1, line)] = found.place;
    }
}

template <class T> static void launch_argmax(const walk &lines, const walk &elements)
{
    bool beside =
        elements.operand[0].stride[elements.ndim - 1] == 1 && elements.numel >= FEW_ELEMENTS;
    if (elements.numel > ROW_SHORT && (beside || lines.numel < FEW_LINES))
        LAUNCH((argmax_lines<T, team<true>>), grid_of(lines.numel, 1), 256, lines, elements);
    else if (beside)
        LAUNCH((argmax_lines<T, team<false>>), grid_of(lines.numel, 4), 4 * WARP, lines, elements);
    else
        LAUNCH((argmax_lines<T, alone>), grid_of(lines.numel, 128), 128, lines, elements);
}

void cuda_argmax(tensor *out, const tensor *x, int dim)
{
    (void)dim; /* it is where x has more than one element and out has one */
    if (tensor_numel(x) == 0)
        return;
    const tensor *both[] = {x, out};
    walk w = walk_of(WALK_ROW_MAJOR, 2, both);
    bool along[TORC_MAX_DIMS], across[TORC_MAX_DIMS];
    for (int d = 0; d < w.ndim; d++) {
        across[d] = w.operand[1].stride[d] != 0;
        along[d] = !across[d];
    }
    walk lines = walk_select(&w, across), elements = walk_select(&w, along);
    tensor_forget_mirror(out);
    if (!tensor_is_float(x))
        launch_argmax<int64_t>(lines, elements);
    else if (x->dtype == TORC_F64)
        launch_argmax<double>(lines, elements);
    else
        launch_argmax<float>(lines, elements);
}

/* ---- all_finite ---- */

template <class T> __global__ void find_infinite(walk w, int *found)
{
    bool finite = true;
    EACH(i, w.numel) {
        T x = place_read<T>(w.operand[0], w.operand[0].dense ? i : place_in(w, 0, i));
        finite = finite && isfinite(x);
    }
    if (!finite)
        atomicOr(found, 1);
}

bool cuda_all_finite(const tensor *x)
{
    const tensor *all[] = {x};
    walk w = walk_of(WALK_FASTEST, 1, all);
    int found = 0;
    storage *answer = storage_new(sizeof found);
    int64_t blocks = min_i64(grid_of(w.numel, 256), 2048);
    queue_set(answer->data, 0, sizeof found);
    if (x->dtype == TORC_F64)
        LAUNCH(find_infinite<double>, blocks, 256, w, (int *)answer->data);
    else
        LAUNCH(find_infinite<float>, blocks, 256, w, (int *)answer->data);
    device_cuda.to_host(&found, answer->data, sizeof found);
    storage_release(answer);
    return !found;
}
