/*
 * matmul of the GPU against the CPU's: every orientation, batches, broadcasts, sizes 0 and 1,
 * accumulation, bias, dtypes, alignments, and the cache of plans behind it.
 */
#include "tests/cuda_tensors.h"

/* out (+)= a b + bias on both sides. */
static void compare(twin out, twin a, twin b, const twin *bias, bool add, double tolerance)
{
    cpu_kernels()->matmul(out.host, a.host, b.host, bias ? bias->host : NULL, add);
    cuda_kernels.matmul(out.gpu, a.gpu, b.gpu, bias ? bias->gpu : NULL, add);
    check_twins(out, tolerance);
    twin_drop(out);
    twin_drop(a);
    twin_drop(b);
    if (bias)
        twin_drop(*bias);
}

/* A random [m, n], stored by rows or by columns, with some room between them. */
static twin matrix(torc_dtype dtype, int64_t m, int64_t n, bool by_columns, int64_t room,
                   uint64_t seed)
{
    int64_t run = (by_columns ? m : n) + room, runs = by_columns ? n : m;
    tensor *all = made(dtype, SHAPE(runs * run + 8));
    return twin_random(
        made_view(all, SHAPE(m, n), by_columns ? STRIDES(1, run) : STRIDES(run, 1), room ? 1 : 8),
        -1, 1, seed);
}

typedef struct types {
    torc_dtype operand, result, bias;
    double tolerance;
} types;

static const types all_types[] = {
    {TORC_F32, TORC_F32, TORC_F32, 2e-5},    {TORC_F64, TORC_F64, TORC_F64, 1e-13},
    {TORC_BF16, TORC_BF16, TORC_BF16, 2e-2}, {TORC_BF16, TORC_BF16, TORC_F32, 2e-2},
    {TORC_BF16, TORC_F32, TORC_F32, 2e-5},   {TORC_F16, TORC_F16, TORC_F32, 2e-3},
    {TORC_F16, TORC_F32, TORC_F32, 2e-5},
};

/* way: a, b, out by columns, room between rows, adding, a bias; every `step`th. */
static void check_orientations(types t, int64_t m, int64_t n, int64_t k, int first, int step)
{
    for (int way = first; way < 64; way += step) {
        int64_t room = way & 8 ? 3 : 0;
        twin a = matrix(t.operand, m, k, way & 1, room, 1),
             b = matrix(t.operand, k, n, way & 2, room, 2);
        twin out = matrix(t.result, m, n, way & 4, room, 3);
        twin bias = twin_random(made(t.bias, SHAPE(n)), -1, 1, 4);
        compare(out, a, b, way & 32 ? &bias : NULL, way & 16, t.tolerance);
    }
}

TEST(every_orientation)
{
    for (int i = 0; i < ARRAY_LENGTH(all_types); i++) {
        check_orientations(all_types[i], 5, 7, 3, 0, 1);
        check_orientations(all_types[i], 16, 24, 70, i % 3, 3);
    }
}

TEST(sizes_of_zero_and_one)
{
    for (int way = 0; way < 27; way++)
        for (int i = 0; i < ARRAY_LENGTH(all_types); i++)
            check_orientations(all_types[i], way % 3, way / 3 % 3, way / 9, (way + i) % 7, 7);
}

TEST(batches_and_broadcasts)
{
    const int64_t *a_strides[] = {STRIDES(120, 30, 5, 1), STRIDES(0, 30, 5, 1),
                                  STRIDES(120, 0, 5, 1), STRIDES(0, 0, 5, 1),
                                  STRIDES(30, 90, 5, 1)};
    const int64_t *b_strides[] = {STRIDES(140, 35, 7, 1), STRIDES(0, 35, 7, 1),
                                  STRIDES(140, 0, 7, 1), STRIDES(0, 0, 7, 1),
                                  STRIDES(140, 35, 1, 5)};
    for (int i = 0; i < ARRAY_LENGTH(all_types); i++) {
        types t = all_types[i];
        tensor *x = made(t.operand, SHAPE(360)), *y = made(t.operand, SHAPE(420));
        set_random(x, -1, 1, 1);
        set_random(y, -1, 1, 2);
        for (int way = i; way < 50; way += 2) {
            twin a = twin_of(made_view(x, SHAPE(3, 4, 6, 5), a_strides[way % 5], 0));
            twin b = twin_of(made_view(y, SHAPE(3, 4, 5, 7), b_strides[way / 5 % 5], 0));
            twin out = twin_random(made(t.result, SHAPE(3, 4, 6, 7)), -1, 1, 3);
            twin bias = twin_random(made(t.bias, SHAPE(7)), -1, 1, 4);
            compare(out, a, b, way % 3 ? &bias : NULL, way / 25, t.tolerance);
        }
    }
}

/* Heads of an attention: [B, T, H, D] read as [B, H, T, D]. */
TEST(matrices_between_those_of_others)
{
    tensor *x = made(TORC_F32, SHAPE(2 * 5 * 3 * 4));
    set_random(x, -1, 1, 1);
    const int64_t *rows = STRIDES(60, 4, 12, 1), *columns = STRIDES(60, 4, 1, 12);
    twin a = twin_of(made_view(x, SHAPE(2, 3, 5, 4), rows, 0));
    twin b = twin_of(made_view(x, SHAPE(2, 3, 4, 5), columns, 0));
    compare(twin_of(made(TORC_F32, SHAPE(2, 3, 5, 5))), a, b, NULL, false, 1e-5);
    twin product = twin_of(made_view(made(TORC_F32, SHAPE(120)), SHAPE(2, 3, 5, 4), rows, 0));
    twin square = twin_random(made(TORC_F32, SHAPE(2, 3, 5, 5)), -1, 1, 2);
    a = twin_of(a.host); /* the first one's memory has been given back */
    compare(product, square, a, NULL, false, 1e-5);
}

TEST(more_matrices_than_a_call_takes)
{
    twin a = twin_random(made(TORC_F32, SHAPE(65537, 1, 1)), -1, 1, 1);
    twin b = twin_random(made(TORC_F32, SHAPE(65537, 1, 1)), -1, 1, 2);
    compare(twin_of(made(TORC_F32, SHAPE(65537, 1, 1))), a, b, NULL, false, 1e-6);
}

/* More shapes than the cache holds: the first is made anew, and right. */
TEST(cache_is_bounded)
{
    for (int64_t n = 1; n <= 600; n++) {
        int64_t size = n <= 599 ? n : 1;
        twin a = matrix(TORC_F32, 2, size, false, 0, 1), b = matrix(TORC_F32, size, 3, true, 0, 2);
        compare(twin_of(made(TORC_F32, SHAPE(2, 3))), a, b, NULL, false, 1e-5);
    }
}

TEST(nan_and_infinity_pass_through)
{
    tensor *x = made(TORC_F32, SHAPE(2, 2)), *y = made(TORC_F32, SHAPE(2, 2));
    set_value(x, 0, NAN);
    set_value(x, 2, INFINITY);
    set_value(y, 0, 1);
    compare(twin_of(made(TORC_F32, SHAPE(2, 2))), twin_of(x), twin_of(y), NULL, false, 0);
}
