/*
 * The GPU's softmax, its gradients and logsumexp beside the CPU's: short rows for a warp, long ones
 * for a block, and rows that begin anywhere in a pack.
 */
#include "tests/cuda_tensors.h"

static const torc_dtype types[] = {TORC_F32, TORC_F64};
static const double tolerances[] = {2e-6, 1e-13};
static const int64_t lengths[] = {0, 1, 3, 4, 5, 33, 130, 1024, 1025, 2051, 5003};

static void compare(twin x, bool log, double tolerance)
{
    torc_dtype type = x.host->dtype;
    int ndim = x.host->ndim;
    twin y = twin_of(made(type, ndim, x.host->shape));
    cpu_kernels()->softmax(y.host, x.host, log);
    cuda_kernels.softmax(y.gpu, x.gpu, log);
    check_twins(y, tolerance);
    twin g = twin_random(made(type, ndim, x.host->shape), -1, 1, 5);
    for (int add = 0; add < 2; add++) {
        twin dx = twin_random(made(type, ndim, x.host->shape), -1, 1, 6);
        cpu_kernels()->softmax_grad((sink){dx.host, add}, y.host, g.host, log);
        cuda_kernels.softmax_grad((sink){dx.gpu, add}, y.gpu, g.gpu, log);
        check_twins(dx, 20 * tolerance);
    }
}

TEST(rows_of_every_length)
{
    for (int type = 0; type < 2; type++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++)
            for (int log = 0; log < 2; log++)
                compare(twin_random(made(types[type], SHAPE(5, lengths[i])), -9, 9, 1), log,
                        tolerances[type]);
}

TEST(no_rows_and_no_dimensions)
{
    for (int log = 0; log < 2; log++) {
        compare(twin_of(made(TORC_F32, SHAPE(0, 7))), log, 0);
        compare(twin_random(made(TORC_F32, 0, NULL), -1, 1, 1), log, 1e-6);
        cuda_kernels.softmax_grad((sink){NULL, false}, NULL, NULL, log);
    }
}

TEST(results_that_begin_elsewhere_in_a_pack)
{
    tensor *wide = made(TORC_F32, SHAPE(64));
    twin x = twin_random(made_view(wide, 2, STRIDES(3, 13), STRIDES(13, 1), 1), -3, 3, 1);
    twin y = twin_of(made_view(made(TORC_F32, SHAPE(64)), 2, STRIDES(3, 13), STRIDES(13, 1), 4));
    cpu_kernels()->softmax(y.host, x.host, false);
    cuda_kernels.softmax(y.gpu, x.gpu, false);
    check_twins(y, 1e-6);
}

TEST(logsumexp_of_every_length)
{
    for (int type = 0; type < 2; type++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++) {
            twin x = twin_random(made(types[type], SHAPE(3, lengths[i])), -9, 9, 2);
            twin out = twin_of(made(types[type], SHAPE(3, 1)));
            cpu_kernels()->logsumexp(out.host, x.host);
            cuda_kernels.logsumexp(out.gpu, x.gpu);
            check_twins(out, tolerances[type]);
        }
}

/* Rows with -inf, inf and NaN here and there, or nothing but. */
static tensor *special(int64_t n)
{
    const double values[] = {-INFINITY, INFINITY, NAN};
    tensor *x = made(TORC_F32, SHAPE(9, n));
    set_random(x, -3, 3, 4);
    for (int64_t row = 0; row < 6; row++)
        for (int64_t i = 0; i < n; i++)
            if (row < 3 || i == n / 2 || i == n - 1)
                set_value(x, row * n + i, values[row % 3]);
    for (int64_t i = 0; i < n; i++)
        set_value(x, 8 * n + i, 80 + (double)i / 8);
    return x;
}

TEST(infinities_and_nan)
{
    for (int64_t n = 5; n < 3000; n += 1399) {
        twin x = twin_of(special(n)), lse = twin_of(made(TORC_F32, SHAPE(9, 1)));
        cpu_kernels()->logsumexp(lse.host, x.host);
        cuda_kernels.logsumexp(lse.gpu, x.gpu);
        check_twins(lse, 1e-6);
        for (int log = 0; log < 2; log++) {
            twin y = twin_of(made(TORC_F32, SHAPE(9, n)));
            cpu_kernels()->softmax(y.host, x.host, log);
            cuda_kernels.softmax(y.gpu, x.gpu, log);
            check_twins(y, 2e-6);
        }
    }
}
