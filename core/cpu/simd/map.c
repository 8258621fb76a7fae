/*
 * map -- one driver for everything that computes element by element: see block.h.
 */
#include "core/cpu/simd/block.h"

#include <string.h>

typedef struct map {
    walk w; /* operand 0 is the result */
    block_loop loop;
    torc_dtype type;
    double p, q;
    bool add;
} map;

/* What one thread needs: a block for each operand and one for results. */
typedef struct buffers {
    block of[WALK_OPERANDS], result;
    bool filled[WALK_OPERANDS]; /* a constant is loaded once, for all blocks */
} buffers;

static int64_t padded(int64_t n)
{
    return (n + BLOCK_LANES - 1) / BLOCK_LANES * BLOCK_LANES;
}

/* Repeats the first element behind the n of a buffer: a value as harmless as that one. */
static void pad(block *b, torc_dtype type, int64_t n)
{
    for (int64_t i = n; i < padded(n); i++)
        if (type == TORC_F32)
            b->f32[i] = b->f32[0];
        else if (type == TORC_BF16)
            b->bf16[i] = b->bf16[0];
        else
            b->i64[i] = b->i64[0]; /* the bits of an f64 too */
}

static const void *constant_at(const map *m, int k, buffers *b)
{
    const operand *o = &m->w.operand[k];
    int64_t n = min_i64(BLOCK_LENGTH, padded(m->w.numel));
    if (!b->filled[k])
        SIMD(block_load)(m->type, &b->of[k], o->dtype, o->data, 0, n);
    b->filled[k] = true;
    return &b->of[k];
}

static const void *input_at(const map *m, int k, part p, buffers *b)
{
    if (m->w.operand[k].constant)
        return constant_at(m, k, b);
    if (p.n % BLOCK_LANES == 0)
        return block_at(&m->w, k, p, m->type, &b->of[k]);
    SIMD(block_gather)(&m->w, k, p, m->type, &b->of[k]);
    pad(&b->of[k], m->type, p.n);
    return &b->of[k];
}

/* i64 never comes here: nothing adds to integers or bools. Nor does bf16: what is added to it is
 * rounded once, with the sum (block_map). */
#define ACCUMULATE(T) \
    do { \
        T *sum = to; \
        const T *value = from; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] += value[i]; \
    } while (0)

static void accumulate(torc_dtype type, void *to, const void *from, int64_t n)
{
    if (type == TORC_F32)
        ACCUMULATE(float);
    else
        ACCUMULATE(double);
}

/* The result goes where it belongs if nothing is to be added there and it can be written in place,
 * and through a buffer else: an accumulating twin of every loop would double the code to save one
 * pass over L1. */
static void map_block(const map *m, part p, buffers *b)
{
    const walk *w = &m->w;
    const void *in[WALK_OPERANDS];
    for (int k = 1; k < w->operands; k++)
        in[k - 1] = input_at(m, k, p, b);
    bool direct = p.n % BLOCK_LANES == 0 && block_is_direct(w, 0, m->type);
    if (direct && !m->add) {
        m->loop(walk_at(w, 0, p.first), in, p.n, m->p, m->q);
        return;
    }
    m->loop(&b->result, in, padded(p.n), m->p, m->q);
    if (direct) {
        accumulate(m->type, walk_at(w, 0, p.first), &b->result, p.n);
        return;
    }
    if (m->add) {
        SIMD(block_gather)(w, 0, p, m->type, &b->of[0]);
        accumulate(m->type, &b->result, &b->of[0], p.n);
    }
    SIMD(block_scatter)(w, 0, p, m->type, &b->result);
}

/* A thread's share of the blocks; of each block first what fills all lanes, then the rest. */
static void map_share(part mine, const map *m)
{
    buffers b;
    memset(b.filled, 0, sizeof b.filled);
    for (int64_t index = mine.first; index < mine.first + mine.n; index++) {
        part p = walk_block(&m->w, index);
        int64_t rest = p.n % BLOCK_LANES;
        if (p.n > rest)
            map_block(m, (part){p.first, p.n - rest}, &b);
        if (rest)
            map_block(m, (part){p.first + p.n - rest, rest}, &b);
    }
}

/* Buffers are short; where none is needed, longer blocks save the overhead of many. Whether blocks
 * stay within their runs, on which being direct depends, is the same for both lengths. */
static void cut(map *m)
{
    walk_cut(&m->w, BLOCK_LENGTH);
    if (m->add)
        return;
    for (int k = 0; k < m->w.operands; k++)
        if (!block_is_direct(&m->w, k, m->type))
            return;
    walk_cut(&m->w, BLOCK_DIRECT);
}

void SIMD(block_map)(block_loop loop, torc_dtype type, tensor *out, int inputs,
                     const tensor *const *in, double p, double q, bool add)
{
    const tensor *all[WALK_OPERANDS] = {out};
    for (int i = 0; i < inputs; i++)
        all[i + 1] = in[i];
    if (add && type == TORC_BF16)
        bug("a sum through blocks of bf16 would be rounded twice");
    map m = {walk_of(WALK_FASTEST, inputs + 1, all), loop, type, p, q, add};
    cut(&m);
    int64_t bytes = m.w.numel * (int64_t)block_item(type) * m.w.operands;
    PARALLEL(bytes, m.w.blocks, 1, map_share, &m);
}
