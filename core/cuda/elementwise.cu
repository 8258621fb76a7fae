/*
 * elementwise -- the rows of core/ops/elementwise.def on the GPU.
 *
 *     map_dense    one function a row and type: f32, bf16 or f16 side by side in every tensor, in
 *                  packs of 16 bytes; as fast as memory
 *     map_any      one function a type for all rows: any dtypes, strides and broadcasts, element by
 *                  element
 */
#include "core/cuda/function.h"
#include "core/cuda/place.h"

/* ---- dense ---- */

typedef struct dense {
    void *out;
    const void *in[4];
    int inputs;
    int64_t n;
    float p, q;
    bool add;
} dense;

template <class E, int N>
__device__ static inline void load(float to[N], const void *from, int64_t i)
{
    pack<E, N> p = ((const pack<E, N> *)from)[i];
    for (int k = 0; k < N; k++)
        to[k] = widen(p.at[k]);
}

/* Elements i N .. i N + N - 1. */
template <class R, class E, int N> __device__ static inline void map_pack(const dense &d, int64_t i)
{
    float in[4][N] = {}, sum[N] = {};
    for (int k = 0; k < 4; k++)
        if (k < d.inputs)
            load<E, N>(in[k], d.in[k], i);
    if (d.add)
        load<E, N>(sum, d.out, i);
    pack<E, N> result;
    for (int k = 0; k < N; k++) {
        const float x[4] = {in[0][k], in[1][k], in[2][k], in[3][k]};
        float value = R::template of<float>(x, d.p, d.q);
        result.at[k] = narrow<E>(d.add ? sum[k] + value : value);
    }
    ((pack<E, N> *)d.out)[i] = result;
}

template <class R, class E> __global__ void map_dense(dense d)
{
    constexpr int N = pack_width<E>;
    EACH(i, d.n / N)
        map_pack<R, E, N>(d, i);
    int64_t rest = d.n / N * N + (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (rest < d.n)
        map_pack<R, E, 1>(d, rest);
}

template <class E> static void launch_dense(elementwise_op op, const dense &d)
{
    int64_t blocks = grid_of(part_count(d.n, pack_width<E>), 256);
    switch (op) {
#define ROW_CASE(name) \
    case EW_##name: \
        LAUNCH((map_dense<row_##name, E>), blocks, 256, d); \
        break;
#define UNARY(name, ...) ROW_CASE(name) ROW_CASE(name##_dx)
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, ...) ROW_CASE(name) ROW_CASE(name##_da) ROW_CASE(name##_db)
#define COMPARE(...)
#define PREDICATE(...)
#include "core/ops/elementwise.def"
    default:
        bug("elementwise op %d is none of floats", op);
    }
}

/* ---- any ---- */

template <class T> __device__ static inline T row_of(int op, const T in[4], T p, T q)
{
    switch (op) {
#define UNARY(name, ...) \
    case EW_##name: \
        return row_##name::of(in, p, q); \
    case EW_##name##_dx: \
        return row_##name##_dx::of(in, p, q);
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, ...) \
    case EW_##name: \
        return row_##name::of(in, p, q); \
    case EW_##name##_da: \
        return row_##name##_da::of(in, p, q); \
    case EW_##name##_db: \
        return row_##name##_db::of(in, p, q);
#define COMPARE(name, ...) \
    case EW_##name: \
        return row_##name::of(in, p, q);
#define PREDICATE(name, ...) \
    case EW_##name: \
        return row_##name::of(in, p, q);
#include "core/ops/elementwise.def"
    }
    return 0;
}

/* Integers are only compared. */
template <> __device__ inline int64_t row_of(int op, const int64_t in[4], int64_t p, int64_t q)
{
    switch (op) {
#define UNARY(...)
#define UNARY_P(...)
#define UNARY_PQ(...)
#define BINARY(...)
#define PREDICATE(...)
#define COMPARE(name, ...) \
    case EW_##name: \
        return row_##name::of(in, p, q);
#include "core/ops/elementwise.def"
    }
    return 0;
}

template <class T> __global__ void map_any(walk w, int op, T p, T q, bool add)
{
    EACH(i, w.numel) {
        int64_t at[WALK_OPERANDS];
        place_of(w, i, at);
        T in[4] = {};
        for (int k = 1; k < WALK_OPERANDS; k++)
            if (k < w.operands)
                in[k - 1] = place_read<T>(w.operand[k], at[k]);
        T value = row_of(op, in, p, q);
        if (add)
            value += place_read<T>(w.operand[0], at[0]);
        place_write(w.operand[0], at[0], value);
    }
}

/* ---- which ---- */

static torc_dtype type_of(torc_dtype d)
{
    return dtype_is_low(d) ? TORC_F32 : d == TORC_F32 || d == TORC_F64 ? d : TORC_I64;
}

/* The type computed in: the inputs' own, f32 for bf16 and f16, f64 where they differ, i64 for what
 * is compared and no float. */
static torc_dtype common_type(int inputs, const tensor *const *in)
{
    torc_dtype type = type_of(in[0]->dtype);
    for (int i = 1; i < inputs; i++)
        if (type_of(in[i]->dtype) != type)
            return TORC_F64;
    return type;
}

static bool fits_dense(const walk &w)
{
    torc_dtype type = w.operand[0].dtype;
    bool fits = type == TORC_F32 || dtype_is_low(type);
    for (int k = 0; k < w.operands; k++)
        fits = fits && w.operand[k].dtype == type && w.operand[k].dense &&
               is_aligned(w.operand[k].data);
    return fits;
}

static dense dense_of(const walk &w, double p, double q, bool add)
{
    dense d = {w.operand[0].data, {}, w.operands - 1, w.numel, (float)p, (float)q, add};
    for (int k = 1; k < w.operands; k++)
        d.in[k - 1] = w.operand[k].data;
    return d;
}

void cuda_elementwise(elementwise_op op, tensor *out, int inputs, const tensor *const *in, double p,
                      double q, bool add)
{
    const tensor *all[WALK_OPERANDS] = {out};
    for (int i = 0; i < inputs; i++)
        all[i + 1] = in[i];
    walk w = walk_of(WALK_FASTEST, inputs + 1, all);
    torc_dtype type = common_type(inputs, in);
    int64_t blocks = grid_of(w.numel, 256);
    if (fits_dense(w)) {
        BY_F32_OR_LOW(w.operand[0].dtype, launch_dense<E>(op, dense_of(w, p, q, add)));
        return;
    }
    if (type == TORC_F32)
        LAUNCH(map_any<float>, blocks, 256, w, op, (float)p, (float)q, add);
    else if (type == TORC_F64)
        LAUNCH(map_any<double>, blocks, 256, w, op, p, q, add);
    else
        LAUNCH(map_any<int64_t>, blocks, 256, w, op, (int64_t)p, (int64_t)q, add);
}
