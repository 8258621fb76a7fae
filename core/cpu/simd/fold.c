/*
 * fold -- one buffer that is the sum of several, added in a given order, scaled, and stored into
 * several: the arithmetic of an allreduce in shared memory.
 *
 *     in     a b c d          order   a b + c d + +          out   every one of a b c d
 *
 * A block of all inputs is taken at a time: the sums in between stay in L1, and memory is read once
 * and written once. out may be among in, for an element is stored after its last use. Every element
 * is computed by itself, so neither blocks nor threads can be seen in the result.
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
} job;

#define LOOPS(T, name) \
    static void add_##name(T *sum, const T *a, const T *b, int64_t n) \
    { \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] = a[i] + b[i]; \
    } \
    static void add_scaled_##name(T *sum, const T *a, const T *b, int64_t n, T scale) \
    { \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] = (a[i] + b[i]) * scale; \
    } \
    static void scaled_##name(T *out, const T *a, int64_t n, T scale) \
    { \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = a[i] * scale; \
    }
LOOPS(float, f32)
LOOPS(double, f64)

/* One block: elements first .. first + n - 1. The last addition goes straight to the only output,
 * or to a block from which all outputs are copied. */
#define BLOCKS(T, name) \
    static void block_##name(const job *j, int64_t first, int64_t n) \
    { \
        T room[FOLD_DEPTH][BLOCK / sizeof(T)]; \
        const T *stack[FOLD_DEPTH]; \
        int top = 0, last = j->order->length - 1; \
        T *sum = j->outs == 1 ? (T *)j->out[0] + first : room[0]; \
        for (int i = 0; i <= last; i++) { \
            int step = j->order->step[i]; \
            if (step != FOLD_ADD) { \
                stack[top++] = (const T *)j->in[step] + first; \
                continue; \
            } \
            top--; \
            if (i == last) \
                add_scaled_##name(sum, stack[0], stack[1], n, (T)j->scale); \
            else { \
                add_##name(room[top - 1], stack[top - 1], stack[top], n); \
                stack[top - 1] = room[top - 1]; \
            } \
        } \
        if (last == 0) \
            scaled_##name(sum, stack[0], n, (T)j->scale); \
        for (int k = 0; k < j->outs && j->outs > 1; k++) \
            memcpy((T *)j->out[k] + first, sum, (size_t)n * sizeof(T)); \
    }
BLOCKS(float, f32)
BLOCKS(double, f64)

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

void SIMD(cpu_fold)(const fold_order *order, void *const *in, void *const *out, int outs, int64_t n,
                    torc_dtype dtype, double scale)
{
    const job j = {order, in, out, outs, scale};
    int64_t bytes = n * (int64_t)torc_dtype_size(dtype) * (order->length / 2 + 1 + outs);
    PARALLEL(bytes, n, BLOCK / 4, fold_share, &j, dtype);
}
