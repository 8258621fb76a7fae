/*
 * elementwise -- the rows of core/ops/elementwise.def as loops over blocks.
 *
 * elementwise.def is read as loops over f32, bf16 and f64 and, for comparisons alone, over i64.
 * What a tensor is in memory (dtype, strides, broadcast) is settled before a loop sees it
 * (block.h), so a loop is as plain as
 *
 *     exp    for i < n:   out[i] = exp(x[i])
 *
 * and the compiler makes it vector code: of floats with the functions of vmath.h, of doubles with
 * those of libmvec that take a whole vector, within 4 ulp. With or without fused multiply-add last
 * bits differ, so they may between levels.
 */
#include "core/cpu/simd/block.h"
#include "core/cpu/simd/number.h"
#include "core/cpu/simd/vmath.h"

/* `expression` for each i, of the inputs that `names` declares. The bound shows the compiler that
 * no remainder is left. */
#define MAP(name, names, expression) \
    static void LOOP(name)(void *out_, const void *const *in, int64_t n, double p_, double q_) \
    { \
        E *out = out_; \
        const T p = (T)p_, q = (T)q_; \
        (void)p, (void)q; \
        const int64_t bound = n / BLOCK_LANES * BLOCK_LANES; \
        _Pragma("omp simd") for (int64_t i = 0; i < bound; i++) \
        { \
            names; \
            out[i] = LOOP(element)(expression); \
        } \
    }
#define INPUT(name, k) \
    T name = LOOP(number)(((const E *)in[k])[i]); \
    (void)name /* not every expression needs all it may name */
#define NAMES_X INPUT(x, 0)
#define NAMES_XYG \
    NAMES_X; \
    INPUT(y, 1); \
    INPUT(g, 2)
#define NAMES_AB \
    INPUT(a, 0); \
    INPUT(b, 1)
#define NAMES_ABYG \
    NAMES_AB; \
    INPUT(y, 2); \
    INPUT(g, 3)

#define T float
#define E float
#define C(k) ((float)(k))
#define M(name) float_##name
#define LOOP(name) name##_f32
#include "core/cpu/simd/elementwise_loops.h"

#define T float
#define E uint16_t
#define C(k) ((float)(k))
#define M(name) float_##name
#define LOOP(name) name##_bf16
#include "core/cpu/simd/elementwise_loops.h"

#define T double
#define E double
#define C(k) ((double)(k))
#define M(name) name
#define LOOP(name) name##_f64
#include "core/cpu/simd/elementwise_loops.h"

#define T int64_t
#define E int64_t
#define LOOP(name) name##_i64
#define UNARY(...)
#define UNARY_P(...)
#define UNARY_PQ(...)
#define BINARY(...)
#define COMPARE(name, value) MAP(name, NAMES_AB, value)
#define PREDICATE(...)
#include "core/ops/elementwise.def"

static const block_loop loops_i64[EW_COUNT] = {
#define UNARY(...)
#define UNARY_P(...)
#define UNARY_PQ(...)
#define BINARY(...)
#define COMPARE(name, value) [EW_##name] = LOOP(name),
#define PREDICATE(...)
#include "core/ops/elementwise.def"
};

static bool all_bf16(int n, const tensor *const *t)
{
    for (int i = 0; i < n; i++)
        if (t[i]->dtype != TORC_BF16)
            return false;
    return true;
}

/* The type of the blocks: the inputs' own, and f64 where they differ. Blocks of bf16 are for bf16
 * alone; other results, and sums, are computed in f32 and rounded where they are stored. */
static torc_dtype common_type(const tensor *out, int inputs, const tensor *const *in, bool add)
{
    if (!add && all_bf16(1, &out) && all_bf16(inputs, in))
        return TORC_BF16;
    torc_dtype type = block_type(in[0]->dtype);
    for (int i = 1; i < inputs; i++)
        if (block_type(in[i]->dtype) != type)
            return TORC_F64;
    return type;
}

void SIMD(cpu_elementwise)(elementwise_op op, tensor *out, int inputs, const tensor *const *in,
                           double p, double q, bool add)
{
    torc_dtype type = common_type((const tensor *)out, inputs, in, add);
    const block_loop *loops = type == TORC_F32    ? loops_f32
                              : type == TORC_BF16 ? loops_bf16
                              : type == TORC_F64  ? loops_f64
                                                  : loops_i64;
    if (!loops[op])
        bug("elementwise op %d of %s", op, torc_dtype_name(in[0]->dtype));
    SIMD(block_map)(loops[op], type, out, inputs, in, p, q, add);
}
