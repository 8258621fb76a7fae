/*
 * The GPU's reductions beside the CPU's: results of a thread, a warp, a block, many blocks, and of
 * columns in packs or one by one; argmax, and whether all is finite.
 */
#include "tests/cuda_tensors.h"

static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};
static const double tolerances[] = {1e-5, 1e-5, 1e-5, 1e-12};

/* x with 1 where bit d of `gone` is set; bf16 and f16 are summed into f32. */
static twin result_of(const tensor *x, unsigned gone, torc_dtype dtype)
{
    int64_t shape[TORC_MAX_DIMS];
    for (int d = 0; d < x->ndim; d++)
        shape[d] = gone >> d & 1 ? 1 : x->shape[d];
    return twin_random(made(dtype_is_low(dtype) ? TORC_F32 : dtype, x->ndim, shape), -1, 1, 9);
}

static void compare(twin x, unsigned gone, double tolerance)
{
    for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++)
        for (int add = 0; add < 2; add++) {
            twin out = result_of(x.host, gone, x.host->dtype);
            cpu_kernels()->reduce((reduce_op)op, out.host, x.host, 0.5, add);
            cuda_kernels.reduce((reduce_op)op, out.gpu, x.gpu, 0.5, add);
            check_twins(out, tolerance);
        }
}

TEST(every_layout_and_dimensions)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (layout how = CONTIGUOUS; how < LAYOUTS; how++)
            for (unsigned gone = 0; gone < 8; gone++)
                compare(twin_random(made_as(how, floats[type], SHAPE(3, 5, 4)), -1, 1, 1), gone,
                        tolerances[type]);
}

TEST(rows_of_a_warp_of_a_block_and_of_many_blocks)
{
    const int64_t lengths[] = {31, 32, 130, 1023, 1025, 4097, 20001};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++)
            compare(twin_random(made(floats[type], SHAPE(3, lengths[i])), -1, 1, 1), 2,
                    tolerances[type]);
}

TEST(columns_in_packs_and_one_by_one)
{
    const int64_t columns[] = {1, 2, 3, 8, 33, 64, 136, 301};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int i = 0; i < ARRAY_LENGTH(columns); i++) {
            compare(twin_random(made(floats[type], SHAPE(301, columns[i])), -1, 1, 1), 1,
                    tolerances[type]);
            compare(twin_random(made(floats[type], SHAPE(2, 3, 40, columns[i])), -1, 1, 1), 5,
                    tolerances[type]);
        }
}

TEST(long_rows_that_are_not_side_by_side)
{
    for (layout how = TRANSPOSED; how < LAYOUTS; how++)
        for (unsigned gone = 1; gone < 4; gone++)
            compare(twin_random(made_as(how, TORC_F32, SHAPE(50, 130)), -1, 1, 1), gone, 1e-5);
}

TEST(rows_that_begin_in_the_middle_of_a_pack)
{
    tensor *x = made(TORC_F32, SHAPE(5000));
    compare(twin_random(made_view(x, 2, STRIDES(7, 701), STRIDES(701, 1), 3), -1, 1, 1), 2, 1e-5);
    compare(twin_random(made_view(x, 2, STRIDES(70, 40), STRIDES(40, 1), 2), -1, 1, 1), 1, 1e-5);
}

TEST(low_results_are_rounded_once)
{
    const torc_dtype low[] = {TORC_BF16, TORC_F16};
    for (int i = 0; i < ARRAY_LENGTH(low); i++) {
        twin x = twin_random(made(low[i], SHAPE(3, 501)), -1, 1, 1);
        twin out = twin_of(made(low[i], SHAPE(3, 1)));
        cpu_kernels()->reduce(REDUCE_SUM, out.host, x.host, 1, false);
        cuda_kernels.reduce(REDUCE_SUM, out.gpu, x.gpu, 1, false);
        check_twins(out, 1e-5);
    }
}

TEST(nan_wins)
{
    for (int64_t n = 5; n < 10000; n *= 19) {
        twin x = twin_random(made(TORC_F32, SHAPE(2, n)), -1, 1, 1);
        set_value(x.host, n / 2, NAN);
        set_value(x.host, n + n - 1, -INFINITY);
        x = twin_of(x.host);
        compare(x, 2, 1e-5);
        compare(x, 3, 1e-5);
    }
}

TEST(nothing_to_reduce)
{
    compare(twin_of(made(TORC_F32, SHAPE(0, 5))), 1, 0);
    compare(twin_of(made(TORC_F32, SHAPE(0, 5))), 2, 0);
    compare(twin_random(made(TORC_F32, 0, NULL), 1, 2, 1), 0, 0);
}

/* ---- argmax ---- */

static void compare_argmax(twin x, int dim)
{
    twin out = result_of(x.host, 1u << dim, TORC_I64);
    cpu_kernels()->argmax(out.host, x.host, dim);
    cuda_kernels.argmax(out.gpu, x.gpu, dim);
    check_twins(out, 0);
}

TEST(argmax_of_every_dtype_and_layout)
{
    const torc_dtype all[] = {TORC_F32, TORC_F64, TORC_BF16, TORC_F16, TORC_I64, TORC_I32, TORC_U8};
    for (int type = 0; type < ARRAY_LENGTH(all); type++)
        for (layout how = CONTIGUOUS; how < LAYOUTS; how++)
            for (int dim = 0; dim < 3; dim++) /* few values: of equals the first */
                compare_argmax(twin_random(made_as(how, all[type], SHAPE(3, 4, 5)), 0, 3, 1), dim);
}

TEST(argmax_of_long_lines)
{
    const int64_t lengths[] = {31, 33, 500, 1500};
    for (int i = 0; i < ARRAY_LENGTH(lengths); i++) {
        twin x = twin_random(made(TORC_F32, SHAPE(3, lengths[i])), -1, 1, 1);
        compare_argmax(x, 1);
        compare_argmax(twin_random(made(TORC_I64, SHAPE(lengths[i], 3)), -9, 9, 2), 0);
        set_value(x.host, lengths[i] - 2, NAN);
        set_value(x.host, lengths[i] - 1, NAN);
        set_value(x.host, 0, INFINITY);
        compare_argmax(twin_of(x.host), 1);
    }
}

TEST(argmax_where_all_are_the_same)
{
    twin x = twin_random(made(TORC_F32, SHAPE(2, 1200)), -INFINITY, -INFINITY, 1);
    for (int64_t i = 0; i < 2400; i++)
        set_value(x.host, i, i < 1200 ? -INFINITY : NAN);
    compare_argmax(twin_of(x.host), 1);
    compare_argmax(twin_of(made(TORC_F32, SHAPE(0, 5))), 1);
}

/* ---- all_finite ---- */

TEST(finite_but_for_one)
{
    const double bad[] = {1, INFINITY, -INFINITY, NAN};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (layout how = CONTIGUOUS; how < LAYOUTS; how++)
            for (int i = 0; i < ARRAY_LENGTH(bad); i++) {
                tensor *x = made_as(how, floats[type], SHAPE(7, 100));
                set_random(x, -1, 1, 1);
                set_value(x, 699, bad[i]);
                CHECK(cuda_kernels.all_finite(twin_of(x).gpu) == (i == 0));
            }
    CHECK(cuda_kernels.all_finite(twin_of(made(TORC_F32, SHAPE(0))).gpu));
}
