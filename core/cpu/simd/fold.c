/*
 * fold -- one buffer that is the sum of several, added in a given order, scaled, and stored into
 * several: the arithmetic of an allreduce in shared memory.
 *
 *     in     a b c d          order   a b + c d + +          out   every one of a b c d
 *
 * A block of all inputs is taken at a time: the sums in between stay in L1, and memory is read once
 * and written once. out may be among in, for an element is stored after its last use. Every element
 * is computed by itself, so neither blocks nor threads can be seen in the result; squares are added
 * in parts of some blocks each, cut by n alone, and the parts in their order.
 */
#include "core/cpu/simd.h"
#include "core/cpu/parallel.h"

#include <string.h>

#define BLOCK 4096 /* bytes */

typedef struct job {
    const fold_order *order;
    void *const *in, *const *out;
    int outs;
    double scale;
    int64_t part;    /* elements, whole blocks */
    double *squares; /* of each part; NULL: not wanted */
} job;

#define PARTS 256 /* at most: few enough for the stack, enough for the threads of a rank */

#define LANES 16 /* fixed, so that the bits are the same at every level */

#define T float
#define NAME(f) f##_f32
#include "core/cpu/simd/fold_loops.h"
#define T double
#define NAME(f) f##_f64
#include "core/cpu/simd/fold_loops.h"

static void fold_share(part mine, const job *j, torc_dtype dtype)
{
    int64_t most = BLOCK / (int64_t)torc_dtype_size(dtype), end = mine.first + mine.n;
    for (int64_t at = mine.first; at < end; at += most) {
        int64_t n = min_i64(most, end - at);
        if (dtype == TORC_F64)
            block_f64(j, at, n);
        else
            block_f32(j, at, n);
    }
}

static double sum_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

void SIMD(cpu_fold)(const fold_order *order, void *const *in, void *const *out, int outs, int64_t n,
                    torc_dtype dtype, double scale, double *squares)
{
    int64_t item = (int64_t)torc_dtype_size(dtype), block = BLOCK / item;
    int64_t size = max_i64(1, part_count(part_count(n, block), PARTS)) * block;
    double sums[PARTS] = {0};
    const job j = {order, in, out, outs, scale, size, squares ? sums : NULL};
    int64_t bytes = n * item * (order->length / 2 + 1 + outs);
    PARALLEL(bytes, n, size, fold_share, &j, dtype);
    if (squares)
        *squares = sum_of(sums, part_count(n, size));
}
