/*
 * The GPU's lookups beside the CPU's. Gradients add in the order of the index, whatever the chunks:
 * with whole numbers every sum is exact, so the two must agree to the bit.
 */
#include "tests/cuda_tensors.h"

static twin index_of(int ndim, const int64_t *shape, double limit, uint64_t seed)
{
    return twin_random(made(TORC_I64, ndim, shape), 0, limit, seed);
}

/* Small whole numbers. */
static twin whole_of(torc_dtype dtype, int ndim, const int64_t *shape, uint64_t seed)
{
    tensor *t = made(dtype, ndim, shape);
    set_random(t, -8, 8, seed);
    for (int64_t i = 0; i < tensor_numel(t); i++)
        set_value(t, i, floor(value_at(t, i)));
    return twin_of(t);
}

/* ---- numbers for the host ---- */

TEST(check_index_finds_the_first)
{
    tensor *index = made(TORC_I64, SHAPE(1000));
    CHECK_INT(cuda_kernels.check_index(twin_of(index).gpu, 5, INT64_MIN), -1);
    CHECK_INT(cuda_kernels.check_index(twin_of(index).gpu, 0, 0), -1);
    set_value(index, 999, 5);
    set_value(index, 700, -1);
    CHECK_INT(cuda_kernels.check_index(twin_of(index).gpu, 5, INT64_MIN), 700);
    CHECK_INT(cuda_kernels.check_index(twin_of(index).gpu, 5, -1), 999);
    CHECK_INT(cuda_kernels.check_index(twin_of(made(TORC_I64, SHAPE(0))).gpu, 5, 0), -1);
}

TEST(count_targets_counts)
{
    tensor *target = made(TORC_I64, SHAPE(1000));
    CHECK_INT(cuda_kernels.count_targets(twin_of(target).gpu, -100), 1000);
    for (int64_t i = 0; i < 1000; i += 3)
        set_value(target, i, -100);
    CHECK_INT(cuda_kernels.count_targets(twin_of(target).gpu, -100), 666);
    CHECK_INT(cuda_kernels.count_targets(twin_of(made(TORC_I64, SHAPE(0))).gpu, 0), 0);
}

/* The device is not asked, whose values are others here. */
TEST(the_host_s_own_copy_is_enough)
{
    twin index = twin_of(made(TORC_I64, SHAPE(10)));
    set_value(index.host, 7, 5);
    CHECK_INT(cuda_kernels.check_index(index.gpu, 5, -100), -1);
    CHECK_INT(cuda_kernels.count_targets(index.gpu, 5), 10);
    index.gpu->store->mirror = index.host->store->data;
    index.gpu->store->mirrored = index.host->store->bytes;
    CHECK_INT(cuda_kernels.check_index(index.gpu, 5, -100), 7);
    CHECK_INT(cuda_kernels.count_targets(index.gpu, 5), 9);
}

/* ---- embedding ---- */

static void compare_embedding(torc_dtype dtype, torc_dtype rows, int64_t n, int64_t limit,
                              int64_t width)
{
    twin table = whole_of(dtype, SHAPE(limit, width), 1), index = index_of(SHAPE(n), limit, 2);
    twin out = twin_of(made(rows, SHAPE(n, width))), g = whole_of(rows, SHAPE(n, width), 3);
    cpu_kernels()->embedding(out.host, table.host, index.host);
    cuda_kernels.embedding(out.gpu, table.gpu, index.gpu);
    check_twins(out, 0);
    for (int add = 0; add < 2; add++) {
        twin sums = whole_of(dtype, SHAPE(limit, width), 4);
        cpu_kernels()->embedding_grad((sink){sums.host, add}, g.host, index.host);
        cuda_kernels.embedding_grad((sink){sums.gpu, add}, g.gpu, index.gpu);
        check_twins(sums, 0);
    }
}

TEST(embedding_of_every_width)
{
    const int64_t widths[] = {0, 1, 3, 4, 8, 40, 129, 520};
    for (int i = 0; i < ARRAY_LENGTH(widths); i++) {
        compare_embedding(TORC_F32, TORC_F32, 70, 9, widths[i]);
        compare_embedding(TORC_F32, TORC_BF16, 70, 9, widths[i]);
        compare_embedding(TORC_F32, TORC_F16, 70, 9, widths[i]);
        compare_embedding(TORC_F64, TORC_F64, 70, 9, widths[i]);
    }
}

/* One place that goes through many chunks, some that end at a border, and many places of one. */
TEST(embedding_grad_over_chunks_and_tiles)
{
    const int64_t limits[] = {1, 2, 5, 300, 70000};
    for (int i = 0; i < ARRAY_LENGTH(limits); i++)
        compare_embedding(TORC_F32, TORC_F32, 2500, limits[i], 4);
    for (int64_t n = 0; n < 5; n++)
        compare_embedding(TORC_F32, TORC_F32, 32 * n, 4, 4);
}

TEST(embedding_grad_of_runs_that_end_at_borders)
{
    for (int64_t run = 1; run < 100; run += run < 30 ? 15 : 1) {
        tensor *index = made(TORC_I64, SHAPE(200));
        for (int64_t i = 0; i < 200; i++)
            set_value(index, i, (double)(i / run));
        twin at = twin_of(index), g = whole_of(TORC_F32, SHAPE(200, 4), 1);
        twin sums = whole_of(TORC_F32, SHAPE(200, 4), 2);
        cpu_kernels()->embedding_grad((sink){sums.host, true}, g.host, at.host);
        cuda_kernels.embedding_grad((sink){sums.gpu, true}, g.gpu, at.gpu);
        check_twins(sums, 0);
    }
}

/* Equal keys keep their order: this sum has other bits in any other. */
TEST(embedding_grad_adds_in_the_order_of_the_index)
{
    twin index = twin_of(made(TORC_I64, SHAPE(32))), g = twin_of(made(TORC_F32, SHAPE(32, 1)));
    for (int64_t i = 0; i < 32; i++)
        set_value(g.host, i, i == 0 ? 0x1p24 : 1);
    g = twin_of(g.host);
    twin sums = twin_of(made(TORC_F32, SHAPE(1, 1)));
    cpu_kernels()->embedding_grad((sink){sums.host, false}, g.host, index.host);
    cuda_kernels.embedding_grad((sink){sums.gpu, false}, g.gpu, index.gpu);
    check_twins(sums, 0);
}

TEST(embedding_grad_into_a_table_across)
{
    tensor *across = made_view(made(TORC_F32, SHAPE(9 * 8)), 2, STRIDES(9, 8), STRIDES(1, 9), 0);
    twin sums = twin_random(across, -1, 1, 1), index = index_of(SHAPE(50), 9, 2);
    twin g = twin_random(made(TORC_F32, SHAPE(50, 8)), -1, 1, 3);
    cpu_kernels()->embedding_grad((sink){sums.host, true}, g.host, index.host);
    cuda_kernels.embedding_grad((sink){sums.gpu, true}, g.gpu, index.gpu);
    check_twins(sums, 1e-5);
}

/* ---- gather ---- */

static void compare_gather(torc_dtype dtype, int dim, const int64_t *x_shape,
                           const int64_t *index_shape)
{
    twin x = whole_of(dtype, 3, x_shape, 1), g = whole_of(dtype, 3, index_shape, 2);
    twin index = index_of(3, index_shape, (double)x_shape[dim], 3);
    twin out = twin_of(made(dtype, 3, index_shape));
    cpu_kernels()->gather(out.host, x.host, dim, index.host);
    cuda_kernels.gather(out.gpu, x.gpu, dim, index.gpu);
    check_twins(out, 0);
    for (int add = 0; add < 2; add++) {
        twin dx = whole_of(dtype, 3, x_shape, 4);
        cpu_kernels()->gather_grad((sink){dx.host, add}, g.host, dim, index.host);
        cuda_kernels.gather_grad((sink){dx.gpu, add}, g.gpu, dim, index.gpu);
        check_twins(dx, 0);
    }
}

TEST(gather_along_every_dimension)
{
    for (int dim = 0; dim < 3; dim++)
        for (int64_t n = 0; n < 90; n = n * 4 + 1) {
            int64_t x_shape[] = {4, 5, 6}, index_shape[] = {3, 5, 4};
            index_shape[dim] = n;
            compare_gather(TORC_F32, dim, x_shape, index_shape);
            compare_gather(TORC_F64, dim, x_shape, index_shape);
        }
}
