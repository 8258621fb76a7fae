/*
 * copy -- filling, converting and choosing, element by element.
 *
 *     copy   contiguous and of one dtype: a copy of bytes; else element by element
 *     where  out = condition ? a : b
 */
#include "core/cuda/place.h"

/* ---- fill ---- */

template <class T> __global__ void fill_any(walk w, T value)
{
    EACH(i, w.numel) {
        int64_t at[WALK_OPERANDS];
        place_of(w, i, at);
        place_write(w.operand[0], at[0], value);
    }
}

void cuda_fill(tensor *out, double value)
{
    const tensor *all[] = {out};
    walk w = walk_of(WALK_FASTEST, 1, all);
    tensor_forget_mirror(out);
    if (w.numel == 0)
        return;
    if (w.operand[0].dense && value == 0 && !signbit(value))
        queue_set(w.operand[0].data, 0, w.numel * w.operand[0].item);
    else
        LAUNCH(fill_any<double>, grid_of(w.numel, 256), 256, w, value);
}

/* ---- copy ---- */

/* T: what every value of x fits in. */
template <class T> __global__ void copy_any(walk w)
{
    EACH(i, w.numel) {
        int64_t at[WALK_OPERANDS];
        place_of(w, i, at);
        place_write(w.operand[0], at[0], place_read<T>(w.operand[1], at[1]));
    }
}

void cuda_copy(tensor *out, const tensor *x)
{
    const tensor *both[] = {out, x};
    walk w = walk_of(WALK_FASTEST, 2, both);
    const operand *to = &w.operand[0], *from = &w.operand[1];
    int64_t blocks = grid_of(w.numel, 256);
    tensor_forget_mirror(out);
    if (w.numel == 0)
        return;
    if (to->dense && from->dense && to->dtype == from->dtype)
        queue_copy(to->data, from->data, w.numel * to->item);
    else if (!tensor_is_float(x))
        LAUNCH(copy_any<int64_t>, blocks, 256, w);
    else if (x->dtype == TORC_F64)
        LAUNCH(copy_any<double>, blocks, 256, w);
    else
        LAUNCH(copy_any<float>, blocks, 256, w);
}

/* ---- where ---- */

/* Operands: out, condition, a, b; of the last two one may be absent, and is 0 then. */
template <class T> __global__ void where_any(walk w, bool has_a, bool has_b)
{
    EACH(i, w.numel) {
        int64_t at[WALK_OPERANDS];
        place_of(w, i, at);
        bool yes = ((const uint8_t *)w.operand[1].data)[at[1]] != 0;
        int k = yes ? 2 : 3;
        bool there = yes ? has_a : has_b;
        place_write(w.operand[0], at[0], there ? place_read<T>(w.operand[k], at[k]) : (T)0);
    }
}

void cuda_where(tensor *out, const tensor *condition, const tensor *a, const tensor *b)
{
    const tensor *all[] = {out, condition, a ? a : out, b ? b : out};
    walk w = walk_of(WALK_FASTEST, 4, all);
    int64_t blocks = grid_of(w.numel, 256);
    if (!tensor_is_float(out))
        LAUNCH(where_any<int64_t>, blocks, 256, w, a != NULL, b != NULL);
    else if (out->dtype == TORC_F64)
        LAUNCH(where_any<double>, blocks, 256, w, a != NULL, b != NULL);
    else
        LAUNCH(where_any<float>, blocks, 256, w, a != NULL, b != NULL);
}
