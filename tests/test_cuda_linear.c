/*
 * linear and activation_grad of the GPU against the CPU's: with and without an epilogue of cuBLASLt
 * for it, packs of columns and single ones, several parts of rows.
 */
#include "tests/cuda_tensors.h"

static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};

/* ---- linear ---- */

static void compare_linear(torc_dtype in, torc_dtype out, int64_t m, int64_t n, int64_t k,
                           elementwise_op act, int way)
{
    torc_dtype wide = dtype_is_low(in) ? TORC_F32 : in;
    twin x = twin_random(made(in, SHAPE(m, k)), -1, 1, 1),
         w = twin_random(made(in, SHAPE(n, k)), -1, 1, 2);
    twin bias = twin_random(made(way & 4 ? out : wide, SHAPE(n)), -1, 1, 3);
    twin y = twin_of(made(out, SHAPE(m, n))), pre = twin_of(made(out, SHAPE(m, n)));
    double tolerance = out == TORC_F64   ? 1e-13
                       : out == TORC_F32 ? 2e-5
                       : out == TORC_F16 ? 4e-3
                                         : 3e-2;
    cpu_kernels()->linear(y.host, way & 1 ? pre.host : NULL, x.host, w.host,
                          way & 2 ? bias.host : NULL, act);
    cuda_kernels.linear(y.gpu, way & 1 ? pre.gpu : NULL, x.gpu, w.gpu, way & 2 ? bias.gpu : NULL,
                        act);
    check_twins(y, tolerance);
    check_twins(pre, tolerance);
    const twin all[] = {x, w, bias, y, pre};
    for (int i = 0; i < ARRAY_LENGTH(all); i++)
        twin_drop(all[i]);
}

TEST(linear_with_every_activation)
{
    const elementwise_op acts[] = {EW_relu, EW_gelu, EW_gelu_tanh, EW_tanh, EW_silu};
    for (int way = 0; way < 8; way++)
        for (int i = 0; i < ARRAY_LENGTH(acts); i++) {
            for (int type = 0; type < ARRAY_LENGTH(floats); type++)
                for (int64_t n = 16; n < 18; n++) /* rows of whole packs, and others */
                    compare_linear(floats[type], floats[type], 9, n, 12, acts[i], way);
            compare_linear(TORC_BF16, TORC_F32, 9, 16, 12, acts[i], way);
            compare_linear(TORC_F16, TORC_F32, 9, 16, 12, acts[i], way);
        }
}

TEST(linear_of_nothing)
{
    for (int way = 0; way < 8; way++) {
        compare_linear(TORC_F32, TORC_F32, 0, 5, 3, EW_relu, way);
        compare_linear(TORC_BF16, TORC_BF16, 4, 0, 3, EW_gelu_tanh, way);
        compare_linear(TORC_BF16, TORC_BF16, 4, 8, 0, EW_gelu_tanh, way);
        compare_linear(TORC_F16, TORC_F16, 4, 8, 0, EW_gelu_tanh, way);
    }
    compare_linear(TORC_F32, TORC_F32, 4, 5, 3, EW_NONE, 2);
}

/* ---- activation_grad ---- */

/* way: adding, a sum, the gradient in g's own memory. */
static void compare_grad(torc_dtype dtype, int64_t m, int64_t n, elementwise_op act, int way)
{
    torc_dtype wide = dtype_is_low(dtype) ? TORC_F32 : dtype;
    twin kept = twin_random(made(dtype, SHAPE(m, n)), -2, 2, 1),
         g = twin_random(made(dtype, SHAPE(m, n)), -1, 1, 2);
    twin dpre = way & 4 ? g : twin_of(made(dtype, SHAPE(m, n)));
    twin dbias = twin_random(made(wide, SHAPE(n)), -1, 1, 3);
    double rounding = dtype == TORC_F16 ? 0x1p-11 : 0x1p-8; /* of low results */
    double tolerance = dtype == TORC_F64 ? 1e-12 : dtype == TORC_F32 ? 1e-5 : 2.5 * rounding;
    /* Each element of a column may be rounded the other way. */
    double of_sums = dtype_is_low(dtype) ? rounding * sqrt((double)m + 1) : tolerance;
    sink host = {way & 2 ? dbias.host : NULL, way & 1}, gpu = {way & 2 ? dbias.gpu : NULL, way & 1};
    cpu_kernels()->activation_grad(act == EW_NONE ? NULL : dpre.host, host, act, kept.host, g.host);
    cuda_kernels.activation_grad(act == EW_NONE ? NULL : dpre.gpu, gpu, act, kept.gpu, g.gpu);
    check_twins(dpre, tolerance);
    check_twins(dbias, of_sums);
    twin_drop(kept);
    twin_drop(dbias);
    twin_drop(dpre);
    if (!(way & 4))
        twin_drop(g);
}

TEST(gradients_and_their_sums)
{
    const int64_t shape[][2] = {{0, 5}, {5, 0}, {1, 1}, {3, 15}, {7, 16}, {33, 17}, {40, 300}};
    const elementwise_op acts[] = {EW_NONE, EW_relu, EW_gelu, EW_tanh};
    for (int way = 0; way < 8; way++)
        for (int i = 0; i < ARRAY_LENGTH(shape); i++)
            for (int a = 0; a < ARRAY_LENGTH(acts); a++)
                for (int type = 0; type < ARRAY_LENGTH(floats); type++)
                    compare_grad(floats[type], shape[i][0], shape[i][1], acts[a], way);
}

TEST(many_parts_of_rows)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++) {
        compare_grad(floats[type], 3000, 8, EW_relu, 3);
        compare_grad(floats[type], 700, 130, EW_gelu_tanh, 2);
    }
}
