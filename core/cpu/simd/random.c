/*
 * random -- uniform, normal and dropout from Philox (core/rng.h).
 *
 *     element     0   1   2   3 | 4   5   6   7 | ...      in row-major order, whatever the strides
 *     counter         c         |     c + 1     | ...
 *     lane        0   1   2   3 | 0   1   2   3 | ...
 *
 * An element's draw depends on its place alone, so the values are the same on any number of threads
 * and, for uniform and dropout, at any level: the file is compiled without fused multiply-adds,
 * which v2 has not (Makefile). What is made of draws is computed in f64: normal's last bit there
 * may differ between levels (vmath.h), but rounded to f32 the values are the same, except for about
 * one in 10^8.
 */
#include "core/cpu/simd/block.h"
#include "core/cpu/simd/number.h"
#include "core/cpu/simd/vmath.h"
#include "core/rng.h"

#include <string.h>

#define COST 128 /* about 1 ns an element: see parallel_worth() */

/* A block's draws, with up to 3 before its first and what pads the last vector. */
typedef uint32_t draws[BLOCK_LENGTH + 4 * BLOCK_LANES];

/* Draws for the elements p, and a few more. */
static const uint32_t *draw(uint64_t key, uint64_t counter, part p, draws buffer)
{
    int64_t before = p.first % 4;
    int64_t counters = part_count(before + p.n, 4 * BLOCK_LANES) * BLOCK_LANES;
    counter += (uint64_t)(p.first / 4);
#pragma omp simd
    for (int64_t i = 0; i < counters; i++)
        philox(key, counter + (uint64_t)i, buffer + 4 * i);
    return buffer + before;
}

/* ---- uniform, normal ---- */

typedef struct law {
    double a, b;  /* low and high; mean and standard deviation */
    double limit; /* of uniform: the largest value below high that the result's dtype has */
    int drop;     /* of uniform: low bits of a draw that an f32 in [0, 1) has no room for */
} law;

/* n is a multiple of BLOCK_LANES. */
typedef void (*law_loop)(const law *l, const uint32_t *bits, double *to, int64_t n);

static void uniform_loop(const law *l, const uint32_t *bits, double *to, int64_t n)
{
    const double low = l->a, limit = l->limit, step = (l->b - l->a) * ldexp(1, l->drop - 32);
    const int drop = l->drop;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        double value = low + (double)(bits[i] >> drop) * step;
        to[i] = value < limit ? value : limit;
    }
}

/* Box and Muller, "A note on the generation of random normal deviates", 1958: draws u in (0, 1] and
 * v in [0, 1) give r cos and r sin, with r = sqrt(-2 ln u) and the angle 2 pi v. sin and cos have a
 * loop each, for the compiler would join them into one call that has no vector variant. */
static void normal_loop(const law *l, const uint32_t *bits, double *to, int64_t n)
{
    double radius[BLOCK_LENGTH / 2], angle[BLOCK_LENGTH / 2];
    const double mean = l->a, std = l->b;
    const int64_t pairs = n / BLOCK_LANES * (BLOCK_LANES / 2);
#pragma omp simd
    for (int64_t i = 0; i < pairs; i++) {
        double u = ((double)bits[2 * i] + 1) * 0x1p-32;
        radius[i] = std * sqrt(-2 * log(u));
        angle[i] = (double)bits[2 * i + 1] * (0x1p-31 * M_PI);
    }
#pragma omp simd
    for (int64_t i = 0; i < pairs; i++)
        to[2 * i] = mean + radius[i] * cos(angle[i]);
#pragma omp simd
    for (int64_t i = 0; i < pairs; i++)
        to[2 * i + 1] = mean + radius[i] * sin(angle[i]);
}

static void draw_blocks(part blocks, tensor *out, uint64_t key, uint64_t counter, law_loop loop,
                        const law *l)
{
    int64_t n = tensor_numel(out), item = (int64_t)tensor_item_size(out);
    char *data = tensor_data(out);
    draws buffer;
    block values;
    for (int64_t index = blocks.first; index < blocks.first + blocks.n; index++) {
        part p = part_of(n, BLOCK_LENGTH, index);
        loop(l, draw(key, counter, p, buffer), values.f64,
             part_count(p.n, BLOCK_LANES) * BLOCK_LANES);
        SIMD(block_store)(TORC_F64, &values, out->dtype, data + p.first * item, 1, p.n);
    }
}

static void draw_all(tensor *out, uint64_t key, uint64_t counter, law_loop loop, const law *l)
{
    int64_t n = tensor_numel(out);
    PARALLEL(COST * n, part_count(n, BLOCK_LENGTH), 1, draw_blocks, out, key, counter, loop, l);
}

void SIMD(cpu_uniform)(tensor *out, uint64_t key, uint64_t counter, double low, double high)
{
    law l = {.a = low, .b = high};
    if (out->dtype == TORC_F64) {
        l.limit = nextafter(high, low);
    } else {
        l.limit = nextafterf((float)high, (float)low);
        l.drop = 8;
    }
    draw_all(out, key, counter, uniform_loop, &l);
}

void SIMD(cpu_normal)(tensor *out, uint64_t key, uint64_t counter, double mean, double std)
{
    law l = {.a = mean, .b = std};
    draw_all(out, key, counter, normal_loop, &l);
}

/* ---- dropout ---- */

/* Kept as uniform() in f32 would decide: the upper 24 bits of the draw, as a fraction, >= p. */
#define DROPOUT_LOOP(T, E, type) \
    static void dropout_##type(E *to, const E *x, const uint32_t *bits, int64_t n, double p, \
                               bool add) \
    { \
        const uint32_t dropped = (uint32_t)ceil(p * 0x1p24); \
        const T scale = (T)(1 / (1 - p)); \
        if (add) \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
            { \
                T kept = bits[i] >> 8 >= dropped ? number_##type(x[i]) * scale : 0; \
                to[i] = element_##type(number_##type(to[i]) + kept); \
            } \
        else \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
            { \
                T kept = bits[i] >> 8 >= dropped ? number_##type(x[i]) * scale : 0; \
                to[i] = element_##type(kept); \
            } \
    }
DROPOUT_LOOP(float, float, f32)
DROPOUT_LOOP(double, double, f64)
DROPOUT_LOOP(float, uint16_t, bf16)

static void dropout_block(const walk *w, part p, torc_dtype type, const uint32_t *bits,
                          double probability, bool add)
{
    block result, buffer;
    bool direct = block_is_direct(w, 0, type);
    void *to = direct ? (void *)walk_at(w, 0, p.first) : &result;
    const void *x = block_at(w, 1, p, type, &buffer);
    if (add && !direct)
        SIMD(block_gather)(w, 0, p, type, &result);
    if (type == TORC_F32)
        dropout_f32(to, x, bits, p.n, probability, add);
    else if (type == TORC_BF16)
        dropout_bf16(to, x, bits, p.n, probability, add);
    else
        dropout_f64(to, x, bits, p.n, probability, add);
    if (!direct)
        SIMD(block_scatter)(w, 0, p, type, &result);
}

static void dropout_blocks(part blocks, const walk *w, double p, uint64_t key, uint64_t counter,
                           bool add)
{
    torc_dtype type = w->operand[1].dtype; /* of both: bf16 is read and written as it is */
    draws buffer;
    for (int64_t index = blocks.first; index < blocks.first + blocks.n; index++) {
        part at = walk_block(w, index);
        dropout_block(w, at, type, draw(key, counter, at, buffer), p, add);
    }
}

void SIMD(cpu_dropout)(sink out, const tensor *x, double p, uint64_t key, uint64_t counter)
{
    walk w = walk_of(WALK_ROW_MAJOR, 2, (const tensor *const[]){out.t, x});
    walk_cut(&w, BLOCK_LENGTH);
    PARALLEL(COST * w.numel, w.blocks, 1, dropout_blocks, &w, p, key, counter, out.add);
}
