/*
 * matmul of the CPU against three plain loops in f64: every orientation, batches, broadcasts, sizes
 * 0 and 1, accumulation, bias, dtypes, and the cache of plans behind it.
 */
#include "tests/cpu_tensors.h"

#include "core/cpu/onednn.h"
#include "tests/harness.h"

#define MATMUL(...) cpu_kernels()->matmul(__VA_ARGS__)

/* a [.., m, k] b [.., k, n] + bias + before, element by element. */
static void check_product(const tensor *out, const tensor *before, const tensor *a, const tensor *b,
                          const tensor *bias, double tolerance)
{
    int d = out->ndim - 2;
    int64_t m = out->shape[d], n = out->shape[d + 1], k = a->shape[d + 1];
    for (int64_t i = 0; i < tensor_numel(out); i++) {
        int64_t index = i / (m * n), row = i / n % m, column = i % n;
        double sum = (before ? value_at(before, i) : 0) + (bias ? value_at(bias, column) : 0);
        for (int64_t j = 0; j < k; j++)
            sum +=
                value_at(a, (index * m + row) * k + j) * value_at(b, (index * k + j) * n + column);
        CHECK_NEAR(value_at(out, i), sum, tolerance);
    }
}

/* A random [m, n], stored by rows or by columns, with some room between them. */
static tensor *matrix(torc_dtype dtype, int64_t m, int64_t n, bool by_columns, int64_t room,
                      uint64_t seed)
{
    int64_t run = (by_columns ? m : n) + room, runs = by_columns ? n : m;
    tensor *all = made(dtype, SHAPE(runs * run + 1));
    tensor *t = made_view(all, SHAPE(m, n), by_columns ? STRIDES(1, run) : STRIDES(run, 1), 1);
    set_random(t, -1, 1, seed);
    return t;
}

static tensor *copy_of(const tensor *t)
{
    tensor *copy = made(t->dtype, t->ndim, t->shape);
    for (int64_t i = 0; i < tensor_numel(t); i++)
        set_value(copy, i, value_at(t, i));
    return copy;
}

static double tolerance_of(torc_dtype dtype)
{
    return dtype == TORC_F64 ? 1e-13 : dtype == TORC_F32 ? 2e-5 : 3e-2;
}

static void check_orientations(torc_dtype dtype, int64_t m, int64_t n, int64_t k)
{
    for (int way = 0; way < 64; way++) {
        int64_t room = way & 8 ? 3 : 0;
        tensor *a = matrix(dtype, m, k, way & 1, room, 1),
               *b = matrix(dtype, k, n, way & 2, room, 2);
        tensor *out = matrix(dtype, m, n, way & 4, room, 3),
               *bias = matrix(dtype, 1, n, false, 0, 4);
        tensor *before = way & 16 ? copy_of(out) : NULL;
        bias = made_view(bias, SHAPE(n), STRIDES(1), 1);
        MATMUL(out, a, b, way & 32 ? bias : NULL, way & 16);
        check_product(out, before, a, b, way & 32 ? bias : NULL, tolerance_of(dtype));
    }
}

TEST(every_orientation_f32)
{
    check_orientations(TORC_F32, 5, 7, 3);
    check_orientations(TORC_F32, 33, 20, 70);
}

TEST(every_orientation_bf16)
{
    check_orientations(TORC_BF16, 5, 7, 3);
    check_orientations(TORC_BF16, 33, 20, 70);
}

TEST(every_orientation_f64)
{
    check_orientations(TORC_F64, 5, 7, 3);
    check_orientations(TORC_F64, 33, 20, 70);
}

TEST(sizes_of_zero_and_one)
{
    const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    for (int way = 0; way < 27; way++)
        for (int d = 0; d < 3; d++)
            check_orientations(dtypes[d], way % 3, way / 3 % 3, way / 9);
}

/* What a vector-matrix product looks like: a dimension of 1 that claims an odd stride. */
TEST(a_dimension_of_one_may_claim_any_stride)
{
    tensor *all = made(TORC_F32, SHAPE(64)), *out = made(TORC_F32, SHAPE(1, 5));
    set_random(all, -1, 1, 1);
    tensor *a = made_view(all, SHAPE(1, 4), STRIDES(7, 1), 0);
    tensor *b = made_view(all, SHAPE(4, 5), STRIDES(5, 1), 0);
    MATMUL(out, a, b, NULL, false);
    check_product(out, NULL, a, b, NULL, 1e-5);
    a = made_view(all, SHAPE(1, 4), STRIDES(0, 3), 0);
    MATMUL(out, a, b, NULL, false);
    check_product(out, NULL, a, b, NULL, 1e-5);
    tensor *column = made_view(all, SHAPE(4, 1), STRIDES(3, 9), 0),
           *one = made(TORC_F32, SHAPE(1, 1));
    MATMUL(one, a, column, NULL, false);
    check_product(one, NULL, a, column, NULL, 1e-5);
}

static void check_batches(torc_dtype dtype)
{
    tensor *x = made(dtype, SHAPE(3, 4, 6, 5)), *y = made(dtype, SHAPE(3, 4, 5, 7));
    tensor *out = made(dtype, SHAPE(3, 4, 6, 7));
    set_random(x, -1, 1, 1);
    set_random(y, -1, 1, 2);
    const int64_t *full_a = STRIDES(120, 30, 5, 1), *full_b = STRIDES(140, 35, 7, 1);
    const int64_t *a_strides[] = {full_a, STRIDES(0, 30, 5, 1), STRIDES(120, 0, 5, 1),
                                  STRIDES(0, 0, 5, 1), STRIDES(30, 90, 5, 1)};
    const int64_t *b_strides[] = {full_b, STRIDES(0, 35, 7, 1), STRIDES(140, 0, 7, 1),
                                  STRIDES(0, 0, 7, 1), STRIDES(140, 35, 1, 5)};
    for (int i = 0; i < 25; i++)
        for (int add = 0; add < 2; add++) {
            tensor *a = made_view(x, SHAPE(3, 4, 6, 5), a_strides[i % 5], 0);
            tensor *b = made_view(y, SHAPE(3, 4, 5, 7), b_strides[i / 5], 0);
            set_random(out, -1, 1, 3);
            tensor *before = copy_of(out);
            MATMUL(out, a, b, NULL, add);
            check_product(out, add ? before : NULL, a, b, NULL, tolerance_of(dtype));
        }
}

TEST(batches_and_broadcasts)
{
    check_batches(TORC_F32);
    check_batches(TORC_F64);
    check_batches(TORC_BF16);
}

/* Many matrices times one, with a bias: a linear layer on [B, T, D]. */
TEST(rows_are_folded)
{
    tensor *x = made(TORC_F32, SHAPE(4, 3, 8)), *w = made(TORC_F32, SHAPE(5, 8));
    tensor *bias = made(TORC_F32, SHAPE(5)), *out = made(TORC_F32, SHAPE(4, 3, 5));
    set_random(x, -1, 1, 1);
    set_random(w, -1, 1, 2);
    set_random(bias, -1, 1, 3);
    tensor *wide = made_view(w, SHAPE(4, 8, 5), STRIDES(0, 1, 8), 0);
    MATMUL(out, x, wide, bias, false);
    check_product(out, NULL, x, wide, bias, 1e-5);
}

/* A processor without bf16 gets the same by way of f32. The choice is made at the first use, hence
 * in this case's own process. */
TEST(bf16_without_instructions)
{
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    check_orientations(TORC_BF16, 9, 8, 17);
    check_batches(TORC_BF16);
}

TEST(threads_do_not_change_small_inner_products)
{
    tensor *a = matrix(TORC_F32, 300, 64, false, 0, 1), *b = matrix(TORC_F32, 64, 200, true, 0, 2);
    tensor *one = made(TORC_F32, SHAPE(300, 200)), *two = made(TORC_F32, SHAPE(300, 200));
    omp_set_num_threads(1);
    MATMUL(one, a, b, NULL, false);
    omp_set_num_threads(2);
    MATMUL(two, a, b, NULL, false);
    CHECK(!memcmp(tensor_data(one), tensor_data(two), 300 * 200 * sizeof(float)));
}

/* More shapes than the cache holds: the first is made anew, and right. */
TEST(cache_is_bounded)
{
    for (int64_t n = 1; n <= 700; n++) {
        int64_t size = n <= 699 ? n : 1;
        tensor *a = matrix(TORC_F32, 2, size, false, 0, 1),
               *b = matrix(TORC_F32, size, 3, true, 0, 2);
        tensor *out = made(TORC_F32, SHAPE(2, 3));
        MATMUL(out, a, b, NULL, false);
        if (size % 100 == 1)
            check_product(out, NULL, a, b, NULL, 1e-4);
        free(a->store->data);
        free(b->store->data);
    }
}

TEST(nan_and_infinity_pass_through)
{
    tensor *a = made(TORC_F32, SHAPE(2, 2)), *b = made(TORC_F32, SHAPE(2, 2));
    tensor *out = made(TORC_F32, SHAPE(2, 2));
    set_value(a, 0, NAN);
    set_value(a, 2, INFINITY);
    set_value(b, 0, 1);
    MATMUL(out, a, b, NULL, false);
    CHECK(isnan(value_at(out, 0)));
    CHECK(value_at(out, 2) == INFINITY);
    CHECK(isnan(value_at(out, 3)));
}

/* ---- with virtual ranks ---- */

static void with_virtual_ranks(void)
{
    base_set_world((world){.size = 1, .local_size = 1, .virtual_ranks = 2});
}

TEST(in_blocks_it_is_the_same_product)
{
    with_virtual_ranks();
    check_orientations(TORC_F32, 9, 8, 17);
    check_orientations(TORC_F32, 130, 7, 5);
    check_orientations(TORC_F32, 1, 200, 33);
    check_batches(TORC_F32);
}

static void check_threads(int64_t m, int64_t n, int64_t k, bool a_turned, bool b_turned)
{
    tensor *a = matrix(TORC_F32, m, k, a_turned, 0, 1), *b = matrix(TORC_F32, k, n, b_turned, 0, 2);
    tensor *one = made(TORC_F32, SHAPE(m, n)), *many = made(TORC_F32, SHAPE(m, n));
    omp_set_num_threads(1);
    MATMUL(one, a, b, NULL, false);
    for (int threads = 2; threads <= 8; threads *= 2) {
        omp_set_num_threads(threads);
        MATMUL(many, a, b, NULL, false);
        CHECK(!memcmp(tensor_data(one), tensor_data(many), (size_t)(m * n) * sizeof(float)));
    }
}

/* Shapes of which oneDNN cuts K over two, four or eight threads. */
TEST(threads_change_no_bits_of_blocks)
{
    static const int64_t shapes[][3] = {{1, 64, 784},    {10, 10, 9216},   {64, 64, 2048},
                                        {128, 64, 4096}, {1024, 10, 2048}, {64, 384, 1024}};
    with_virtual_ranks();
    for (int i = 0; i < ARRAY_LENGTH(shapes); i++)
        for (int turned = 0; turned < 4; turned++)
            check_threads(shapes[i][0], shapes[i][1], shapes[i][2], turned & 1, turned & 2);
}

/* ---- long products ---- */

static int breaths;

static void breathe(void)
{
    breaths++;
}

TEST(a_long_product_lets_others_breathe)
{
    tensor *a = matrix(TORC_F32, 2000, 1500, false, 0, 1),
           *b = matrix(TORC_F32, 1500, 800, false, 0, 2);
    tensor *out = made(TORC_F32, SHAPE(2000, 800)), *first = made(TORC_F32, SHAPE(1, 800));
    tensor *row = made_view(a, SHAPE(1, 1500), STRIDES(1500, 1), 1 + 1999 * 1500);
    omp_set_num_threads(1);
    base_on_breath(breathe);
    MATMUL(out, a, b, NULL, false);
    CHECK_INT(breaths, 2); /* 4.8 GF in three parts */
    MATMUL(first, row, b, NULL, false);
    CHECK_INT(breaths, 2);
    for (int j = 0; j < 800; j++)
        CHECK_NEAR(value_at(out, 1999 * 800 + j), value_at(first, j), 1e-4);
}
