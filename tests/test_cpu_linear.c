/* The kernel linear: its parts against the product and the activation one after the other. */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static tensor *numbers(torc_dtype dtype, int64_t rows, int64_t columns, int salt)
{
    tensor *t = made(dtype, SHAPE(rows, columns));
    for (int64_t i = 0; i < rows * columns; i++)
        set_value(t, i, (double)((i * 7 + salt) % 13 - 6) / 8);
    return t;
}

static tensor *row(torc_dtype dtype, int64_t n)
{
    tensor *t = made(dtype, SHAPE(n));
    for (int64_t i = 0; i < n; i++)
        set_value(t, i, (double)(i % 5 - 2) / 4);
    return t;
}

/* Sums of such numbers are exact in f32; the activation is checked where it was applied. */
static void check(torc_dtype in, torc_dtype out, int64_t m, int64_t n, int64_t k, bool keep)
{
    tensor *x = numbers(in, m, k, 1), *w = numbers(in, n, k, 2), *b = row(TORC_F32, n);
    tensor *y = made(out, SHAPE(m, n)), *pre = keep ? made(out, SHAPE(m, n)) : NULL;
    cpu_kernels()->linear(y, pre, x, w, b, EW_relu);
    double bound = out == TORC_BF16 ? 1.0 / 256 : 0; /* is rounded once */
    for (int64_t i = 0; i<m; i += m> 50 ? 37 : 1)
        for (int64_t j = 0; j < n; j++) {
            double sum = value_at(b, j);
            for (int64_t l = 0; l < k; l++)
                sum += value_at(x, i * k + l) * value_at(w, j * k + l);
            if (pre)
                CHECK_NEAR(value_at(pre, i * n + j), sum, bound);
            CHECK_NEAR(value_at(y, i * n + j), sum > 0 ? sum : 0, bound);
        }
}

TEST(parts_give_what_the_whole_gives)
{
    const int64_t rows[] = {0, 1, 3, 127, 128, 129, 1029};
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
            for (int keep = 0; keep < 2; keep++) {
                check(TORC_F32, TORC_F32, rows[i], 17, 9, keep);
                check(TORC_BF16, TORC_BF16, rows[i], 17, 9, keep);
                check(TORC_BF16, TORC_F32, rows[i], 17, 9, keep);
            }
        check(TORC_F32, TORC_F32, 700, 1500, 3, true); /* 4 MB: several parts */
        check(TORC_F32, TORC_F32, 5, 3, 0, true);
    }
}
