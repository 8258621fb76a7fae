/* The kernel activation_grad: the gradient and its column sums, against the two one after the
 * other, at every level. */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static tensor *numbers(torc_dtype dtype, int64_t rows, int64_t columns, int salt)
{
    tensor *t = made(dtype, SHAPE(rows, columns));
    for (int64_t i = 0; i < rows * columns; i++)
        set_value(t, i, (double)((i * 7 + salt) % 13 - 6) / 8);
    return t;
}

static double gelu_slope(double x)
{
    return 0.5 * (1 + erf(x / sqrt(2))) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
}

static double bound_of(torc_dtype dtype)
{
    return dtype == TORC_F64 ? 1e-12 : dtype == TORC_F32 ? 2e-6 : 1.0 / 128;
}

static void check(const kernels *k, torc_dtype dtype, int64_t m, int64_t n, elementwise_op act,
                  bool add)
{
    tensor *x = numbers(dtype, m, n, 1), *g = numbers(dtype, m, n, 5);
    tensor *d = act == EW_NONE ? NULL : made(dtype, SHAPE(m, n));
    tensor *sums = made(dtype == TORC_F64 ? TORC_F64 : TORC_F32, SHAPE(n));
    for (int64_t j = 0; j < n; j++)
        set_value(sums, j, 100);
    k->activation_grad(d, (sink){sums, add}, act, x, g);
    for (int64_t j = 0; j < n; j++) {
        double sum = add ? 100 : 0;
        for (int64_t i = 0; i < m; i++) {
            double from = value_at(g, i * n + j), to = from;
            if (act == EW_relu)
                to = value_at(x, i * n + j) > 0 ? from : 0;
            if (act == EW_gelu)
                to = from * gelu_slope(value_at(x, i * n + j));
            if (d)
                CHECK_NEAR(value_at(d, i * n + j), to, bound_of(dtype));
            sum += d ? value_at(d, i * n + j) : to; /* what is summed is what was stored */
        }
        CHECK_NEAR(value_at(sums, j), sum, dtype == TORC_F64 ? 1e-12 : 1e-5);
    }
}

TEST(gradients_and_their_sums)
{
    const int64_t shape[][2] = {{0, 5}, {1, 1}, {3, 15}, {7, 16}, {33, 17}, {40, 130}, {2100, 70}};
    const elementwise_op acts[] = {EW_NONE, EW_relu, EW_gelu};
    const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    EACH_LEVEL(k)
    for (size_t i = 0; i < ARRAY_LENGTH(shape); i++)
        for (size_t a = 0; a < ARRAY_LENGTH(acts); a++)
            for (size_t t = 0; t < ARRAY_LENGTH(dtypes); t++)
                check(k, dtypes[t], shape[i][0], shape[i][1], acts[a], (i + a) % 2);
}

TEST(the_same_bits_on_any_number_of_threads)
{
    tensor *g = numbers(TORC_F32, 4099, 257, 3), *sums[2];
    for (int64_t i = 0; i < 4099 * 257; i++)
        set_value(g, i, sin((double)i));
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        sums[threads - 1] = made(TORC_F32, SHAPE(257));
        cpu_kernels()->activation_grad(NULL, (sink){sums[threads - 1], false}, EW_NONE, g, g);
    }
    CHECK(memcmp(tensor_data(sums[0]), tensor_data(sums[1]), 257 * sizeof(float)) == 0);
}
