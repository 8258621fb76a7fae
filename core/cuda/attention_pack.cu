/*
 * attention_pack -- operands of attention as tiles are read from: rows of whole packs of 8 bf16 or
 * f16, each at a multiple of 16 bytes.
 *
 *     bf16, f16, aligned    the tensor itself
 *     bf16, f16, else       | row 0 .. 0 | row 1 .. 0 |            a copy, padded with zeros
 *     f32                   | high parts of all rows | middle parts | low parts |     of bf16
 *
 * An f32 has 24 bits and a bf16 8: high is x rounded, middle the rest rounded, and low what is left
 * then, which fits: x = high + middle + low, exactly (as long as low is no smaller than the
 * smallest bf16, 2^-133). What is not finite stays so in its high part, and is NaN in the others.
 */
#include "core/cuda/attention.h"

enum { PACK = 8 };

typedef struct packing {
    heads h;
    const void *from;
    row_strides stride;
    bool aligned;
    int64_t rows, packs;
    uint16_t *to;
} packing;

/* A thread: a pack of every part; E is cut into parts of type P. */
template <class E, class P, int PARTS> __global__ void pack_rows(packing p)
{
    int64_t n = p.h.count * p.rows * p.packs;
    EACH(i, n) {
        int64_t row = i / p.packs, column = i % p.packs * PACK;
        const E *from = (const E *)p.from + head_place(p.stride, p.h, (int)(row / p.rows)) +
                        row % p.rows * p.stride.row + column;
        float x[PACK];
        read_columns<E, PACK>(x, from, p.h.width - column, p.aligned);
        for (int part = 0; part < PARTS; part++) {
            pack<P, PACK> to;
            for (int k = 0; k < PACK; k++) {
                to.at[k] = narrow<P>(x[k]);
                x[k] -= widen(to.at[k]);
            }
            ((pack<P, PACK> *)p.to)[part * n + i] = to;
        }
    }
}

parts parts_of(const tensor *t, const heads *h)
{
    bool low = dtype_is_low(t->dtype);
    row_strides stride = row_strides_of(t);
    if (low && rows_aligned(t) && h->width % PACK == 0)
        return {(const uint16_t *)tensor_data(t), stride, 0, (int)h->width, NULL};
    int64_t rows = t->shape[2], packs = part_count(h->width, PACK), width = packs * PACK;
    int64_t elements = h->count * rows * width;
    storage *room = storage_new((size_t)((low ? 1 : 3) * elements) * sizeof(uint16_t));
    packing p = {*h, tensor_data(t), stride, rows_aligned(t), rows, packs, (uint16_t *)room->data};
    int64_t blocks = grid_of(h->count * rows * packs, 256);
    if (t->dtype == TORC_BF16)
        LAUNCH((pack_rows<bf16, bf16, 1>), blocks, 256, p);
    else if (t->dtype == TORC_F16)
        LAUNCH((pack_rows<f16, f16, 1>), blocks, 256, p);
    else
        LAUNCH((pack_rows<float, bf16, 3>), blocks, 256, p);
    return {p.to, {h->per_batch * rows * width, rows * width, width}, elements, (int)width, room};
}

void parts_drop(parts *p)
{
    if (p->room)
        storage_release(p->room);
}
