/*
 * block -- elements of any dtype and stride, to and from blocks: see block.h.
 */
#include "core/cpu/simd/block.h"

#include "core/cpu/bf16.h"
#include "core/cpu/f16.h"

#include <string.h>

/* ---- conversions: a loop for each pair of dtype and block type ---- */

/* X(dtype, item in memory, the value of an item x, the item of a value v) */
#define ITEMS(X) \
    X(TORC_F32, float, x, (float)v) \
    X(TORC_F64, double, x, (double)v) \
    X(TORC_BF16, uint16_t, bf16_to_f32(x), bf16_from_f32((float)v)) \
    X(TORC_F16, uint16_t, f16_to_f32(x), f16_from_f32((float)v)) \
    X(TORC_I64, int64_t, x, (int64_t)v) \
    X(TORC_I32, int32_t, x, (int32_t)(int64_t)v) \
    X(TORC_U8, uint8_t, x, (uint8_t)(int64_t)v) \
    X(TORC_BOOL, uint8_t, x, v != 0)

/* The usual stride has a loop of its own: only there the compiler loads whole vectors. */
#define EACH(statement) \
    if (stride == 1) { \
        const int64_t s = 1; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) statement \
    } else { \
        const int64_t s = stride; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) statement \
    }

/* The cases of a switch over dtypes: `T` is the block's type. */
#define LOAD_CASE(dtype, item, value, back) \
    case dtype: { \
        const item *from = from_; \
        EACH({ \
            item x = from[i * s]; \
            to[i] = (T)(value); \
        }) \
        return; \
    }

#define STORE_CASE(dtype, item, value, back) \
    case dtype: { \
        item *to = to_; \
        EACH({ \
            T v = from[i]; \
            to[i * s] = (item)(back); \
        }) \
        return; \
    }

#define CONVERSIONS(name) \
    static void load_##name(T *to, torc_dtype dtype, const void *from_, int64_t stride, int64_t n) \
    { \
        switch (dtype) { \
            ITEMS(LOAD_CASE) \
        default: \
            bug("dtype %d", dtype); \
        } \
    } \
    static void store_##name(const T *from, torc_dtype dtype, void *to_, int64_t stride, \
                             int64_t n) \
    { \
        switch (dtype) { \
            ITEMS(STORE_CASE) \
        default: \
            bug("dtype %d", dtype); \
        } \
    }

#define T float
CONVERSIONS(f32)
#undef T
#define T double
CONVERSIONS(f64)
#undef T
#define T int64_t
CONVERSIONS(i64)
#undef T

static void move_bf16(uint16_t *to, int64_t to_stride, const uint16_t *from, int64_t from_stride,
                      int64_t n)
{
    if (to_stride == 1 && from_stride == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        for (int64_t i = 0; i < n; i++)
            to[i * to_stride] = from[i * from_stride];
}

void SIMD(block_load)(torc_dtype type, void *to, torc_dtype dtype, const void *from, int64_t stride,
                      int64_t n)
{
    if (type == TORC_F32)
        load_f32(to, dtype, from, stride, n);
    else if (type == TORC_F64)
        load_f64(to, dtype, from, stride, n);
    else if (type == TORC_BF16)
        move_bf16(to, 1, from, stride, n);
    else
        load_i64(to, dtype, from, stride, n);
}

void SIMD(block_store)(torc_dtype type, const void *from, torc_dtype dtype, void *to,
                       int64_t stride, int64_t n)
{
    if (type == TORC_F32)
        store_f32(from, dtype, to, stride, n);
    else if (type == TORC_F64)
        store_f64(from, dtype, to, stride, n);
    else if (type == TORC_BF16)
        move_bf16(to, stride, from, 1, n);
    else
        store_i64(from, dtype, to, stride, n);
}

/* ---- positions of a walk ---- */

/* Where an operand's positions are: pieces of runs, one after the other. It counts like an odometer
 * instead of dividing, for runs may be as short as two elements. */
typedef struct cursor {
    const walk *w;
    const operand *o;
    int64_t index[TORC_MAX_DIMS]; /* of the next position, in each dimension */
    char *data;
    int64_t left, piece; /* positions, and those of the next run among them */
} cursor;

static cursor cursor_at(const walk *w, int k, part p)
{
    cursor c = {.w = w, .o = &w->operand[k], .data = walk_at(w, k, p.first), .left = p.n};
    int64_t i = p.first;
    for (int d = w->ndim - 1; d > 0; d--) {
        c.index[d] = i % w->shape[d];
        i /= w->shape[d];
    }
    c.index[0] = i;
    c.piece = min_i64(p.n, w->run - c.index[w->ndim - 1]);
    return c;
}

/* From the piece, which ends its run, to the start of the next run. */
static void cursor_next(cursor *c)
{
    const int64_t *shape = c->w->shape, *stride = c->o->stride;
    c->left -= c->piece;
    if (c->left == 0)
        return;
    int d = c->w->ndim - 1;
    int64_t moved = -c->index[d] * stride[d];
    c->index[d--] = 0;
    for (; c->index[d] == shape[d] - 1; d--) { /* the carry */
        moved -= c->index[d] * stride[d];
        c->index[d] = 0;
    }
    c->index[d]++;
    c->data += (moved + stride[d]) * (int64_t)c->o->item;
    c->piece = min_i64(c->left, c->w->run);
}

void SIMD(block_gather)(const walk *w, int k, part p, torc_dtype type, void *to)
{
    char *next = to;
    for (cursor c = cursor_at(w, k, p); c.left; cursor_next(&c)) {
        SIMD(block_load)(type, next, c.o->dtype, c.data, c.o->stride[w->ndim - 1], c.piece);
        next += (size_t)c.piece * block_item(type);
    }
}

void SIMD(block_scatter)(const walk *w, int k, part p, torc_dtype type, const void *from)
{
    const char *next = from;
    for (cursor c = cursor_at(w, k, p); c.left; cursor_next(&c)) {
        SIMD(block_store)(type, next, c.o->dtype, c.data, c.o->stride[w->ndim - 1], c.piece);
        next += (size_t)c.piece * block_item(type);
    }
}
