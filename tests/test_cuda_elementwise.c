/*
 * What only the GPU's elementwise kernels have: packs and the rest behind them, sums, and tensors
 * that start in the middle of a pack.
 */
#include "tests/cuda_tensors.h"

static void compare(elementwise_op op, twin out, int inputs, const twin *in, bool add,
                    double tolerance)
{
    const tensor *host[4], *gpu[4];
    for (int i = 0; i < inputs; i++) {
        host[i] = in[i].host;
        gpu[i] = in[i].gpu;
    }
    cpu_kernels()->elementwise(op, out.host, inputs, host, 0.3, 0.7, add);
    cuda_kernels.elementwise(op, out.gpu, inputs, gpu, 0.3, 0.7, add);
    check_twins(out, tolerance);
}

static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};
/* bf16, f16: a place of their 8 and 11 bits */
static const double tolerances[] = {1e-6, 1e-2, 0x1p-10, 1e-12};

TEST(every_length_around_a_pack)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int64_t n = 0; n < 40; n++)
            for (int add = 0; add < 2; add++) {
                twin in[] = {twin_random(made(floats[type], SHAPE(n)), 0.3, 3, 1),
                             twin_random(made(floats[type], SHAPE(n)), 0.3, 3, 2)};
                twin out = twin_random(made(floats[type], SHAPE(n)), -1, 1, 3);
                compare(EW_mul, out, 2, in, add, tolerances[type]);
                compare(EW_gelu, out, 1, in, add, tolerances[type]);
            }
}

TEST(every_layout)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (layout a = CONTIGUOUS; a < LAYOUTS; a++)
            for (layout b = CONTIGUOUS; b < LAYOUTS; b++) {
                twin in[] = {twin_random(made_as(a, floats[type], SHAPE(3, 4, 5)), 0.3, 3, 1),
                             twin_random(made_as(b, floats[type], SHAPE(3, 4, 5)), 0.3, 3, 2)};
                twin out = twin_random(
                    made_as(a < REPEATED ? a : CONTIGUOUS, floats[type], SHAPE(3, 4, 5)), -1, 1, 3);
                compare(EW_div, out, 2, in, b % 2, tolerances[type]);
            }
}

TEST(from_the_middle_of_a_pack)
{
    for (int64_t offset = 0; offset < 5; offset++) {
        tensor *x = made(TORC_F32, SHAPE(64)), *y = made(TORC_F32, SHAPE(64));
        set_random(x, -1, 1, 1);
        twin in = twin_of(made_view(x, 1, STRIDES(50), STRIDES(1), offset));
        twin out = twin_of(made_view(y, 1, STRIDES(50), STRIDES(1), 3));
        compare(EW_exp, out, 1, &in, false, 1e-6);
    }
}
