/*
 * The GPU draws what the CPU draws: the same bits, but for the last place of a normal deviate.
 */
#include "tests/cuda_tensors.h"

static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};

TEST(uniform_gives_the_bits_of_the_cpu)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int64_t n = 0; n < 1500; n += n < 10 ? 1 : 497) {
            twin out = twin_of(made(floats[type], SHAPE(n)));
            cpu_kernels()->uniform(out.host, 7, UINT64_MAX - 3, -0.3, 1.7);
            cuda_kernels.uniform(out.gpu, 7, UINT64_MAX - 3, -0.3, 1.7);
            check_twins(out, 0);
        }
}

TEST(normal_gives_the_numbers_of_the_cpu)
{
    const double tolerances[] = {1e-7, 4e-3, 0x1p-10, 1e-14};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int64_t n = 0; n < 1500; n += n < 10 ? 1 : 497) {
            twin out = twin_of(made(floats[type], SHAPE(n)));
            cpu_kernels()->normal(out.host, 7, 1ull << 33, 1, 2);
            cuda_kernels.normal(out.gpu, 7, 1ull << 33, 1, 2);
            check_twins(out, tolerances[type]);
        }
}

static void compare_dropout(twin out, twin x, double p, bool add)
{
    cpu_kernels()->dropout((sink){out.host, add}, x.host, p, 99, 5);
    cuda_kernels.dropout((sink){out.gpu, add}, x.gpu, p, 99, 5);
    check_twins(out, 0);
}

TEST(dropout_of_every_length_around_a_pack)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int64_t n = 0; n < 35; n++)
            for (int add = 0; add < 2; add++) {
                twin x = twin_random(made(floats[type], SHAPE(n)), -2, 2, 1);
                twin out = twin_random(made(floats[type], SHAPE(n)), -1, 1, 2);
                compare_dropout(out, x, 0.5, add);
            }
}

TEST(dropout_of_several_blocks_and_any_probability)
{
    const double p[] = {0, 0.1, 0.9, 1};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int k = 0; k < ARRAY_LENGTH(p); k++) {
            twin x = twin_random(made(floats[type], SHAPE(5003)), -2, 2, 1);
            compare_dropout(twin_of(made(floats[type], SHAPE(5003))), x, p[k], false);
        }
}

TEST(dropout_of_every_layout)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (layout a = CONTIGUOUS; a < REPEATED; a++)
            for (layout b = CONTIGUOUS; b < LAYOUTS; b++) {
                twin x = twin_random(made_as(b, floats[type], SHAPE(3, 4, 5)), -2, 2, 1);
                twin out = twin_random(made_as(a, floats[type], SHAPE(3, 4, 5)), -1, 1, 2);
                compare_dropout(out, x, 0.25, a % 2);
            }
}
