/*
 * check_index, count_targets, embedding and gather with their gradients, against plain loops.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static tensor *indices(int ndim, const int64_t *shape, int64_t limit, uint64_t seed)
{
    tensor *t = made(TORC_I64, ndim, shape);
    set_random(t, 0, (double)limit, seed);
    return t;
}

TEST(check_index_finds_the_first)
{
    EACH_LEVEL(k)
    for (int64_t at = 0; at < 1000; at += 111) {
        tensor *t = indices(SHAPE(1000), 50, 1);
        CHECK_INT(k->check_index(t, 50, -100), -1);
        set_value(t, at, -100);
        CHECK_INT(k->check_index(t, 50, -100), -1);
        CHECK_INT(k->check_index(t, 50, -1), at);
        set_value(t, at, 50);
        set_value(t, 999, INT32_MIN);
        CHECK_INT(k->check_index(t, 50, -100), at);
    }
    EACH_LEVEL(k) CHECK_INT(k->check_index(made(TORC_I64, SHAPE(0)), 0, -1), -1);
}

TEST(count_targets_counts)
{
    EACH_LEVEL(k)
    {
        tensor *t = indices(SHAPE(1001), 10, 2);
        CHECK_INT(k->count_targets(t, -100), 1001);
        for (int64_t i = 0; i < 1001; i += 100)
            set_value(t, i, -100);
        CHECK_INT(k->count_targets(t, -100), 990);
    }
}

TEST(embedding_takes_rows)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    EACH_LEVEL(k)
    for (int d = 0; d < 3; d++) {
        tensor *table = made(dtypes[d], SHAPE(13, 37)), *index = indices(SHAPE(5, 40), 13, 3);
        tensor *out = made(dtypes[d], SHAPE(5, 40, 37));
        set_random(table, -1, 1, 4);
        k->embedding(out, table, index);
        for (int64_t i = 0; i < tensor_numel(out); i++)
            CHECK(value_at(out, i) ==
                  value_at(table, (int64_t)value_at(index, i / 37) * 37 + i % 37));
    }
}

/* Rows of an f32 table in bf16, and their gradients back into f32: what is exact in f32 stays so.
 */
TEST(embedding_from_f32_to_bf16)
{
    static const int64_t widths[] = {1, 7, 15, 16, 17, 33, 1003};
    EACH_LEVEL(k)
    for (int w = 0; w < ARRAY_LENGTH(widths); w++) {
        int64_t n = widths[w];
        tensor *table = made(TORC_F32, SHAPE(13, n)), *index = indices(SHAPE(400), 13, 3);
        tensor *out = made(TORC_BF16, SHAPE(400, n)), *sums = made(TORC_F32, SHAPE(13, n));
        double *expected = base_alloc((size_t)(13 * n), sizeof *expected);
        set_random(table, -1, 1, 4);
        k->embedding(out, table, index);
        k->embedding_grad((sink){sums, false}, out, index);
        for (int64_t i = 0; i < 400 * n; i++) {
            int64_t at = (int64_t)value_at(index, i / n) * n + i % n;
            CHECK(value_at(out, i) == bf16_to_f32(bf16_from_f32((float)value_at(table, at))));
            expected[at] += value_at(out, i);
        }
        for (int64_t i = 0; i < 13 * n; i++)
            CHECK_NEAR(value_at(sums, i), expected[i], 1e-6);
        free(expected);
    }
}

TEST(embedding_grad_adds_rows)
{
    EACH_LEVEL(k)
    for (int n = 0; n < 8; n++) {
        torc_dtype dtype = n % 2 ? TORC_F64 : TORC_F32;
        bool add = n / 2 % 2;
        layout how = n / 4 ? TRANSPOSED : CONTIGUOUS;
        tensor *g = made(dtype, SHAPE(300, 37)), *index = indices(SHAPE(300), 13, 5);
        tensor *table = made_as(how, dtype, SHAPE(14, 37));
        double expected[14 * 37];
        set_random(g, -1, 1, 6);
        for (int i = 0; i < 14 * 37; i++) {
            set_value(table, i, 2);
            expected[i] = add ? 2 : 0;
        }
        k->embedding_grad((sink){table, add}, g, index);
        for (int64_t i = 0; i < 300 * 37; i++)
            expected[(int64_t)value_at(index, i / 37) * 37 + i % 37] += value_at(g, i);
        for (int i = 0; i < 14 * 37; i++)
            CHECK_NEAR(value_at(table, i), expected[i], dtype == TORC_F64 ? 1e-14 : 3e-6);
    }
}

TEST(embedding_grad_same_bits_on_any_threads)
{
    EACH_LEVEL(k)
    {
        tensor *g = made(TORC_F32, SHAPE(4000, 100)), *index = indices(SHAPE(4000), 7, 8);
        tensor *one = made(TORC_F32, SHAPE(7, 100)), *many = made(TORC_F32, SHAPE(7, 100));
        set_random(g, -1, 1, 9);
        omp_set_num_threads(1);
        k->embedding_grad((sink){one, false}, g, index);
        for (int threads = 2; threads < 10; threads += 3) {
            omp_set_num_threads(threads);
            k->embedding_grad((sink){many, false}, g, index);
            CHECK(!memcmp(tensor_data(one), tensor_data(many), 2800));
        }
    }
}

/* ---- gather ---- */

/* Where element i of the index points, in x. */
static int64_t pointed_at(const tensor *x, const tensor *index, int dim, int64_t i)
{
    int64_t place = 0, step = 1, to = (int64_t)value_at(index, i);
    for (int d = x->ndim - 1; d >= 0; d--) {
        place += (d == dim ? to : i % index->shape[d]) * step;
        step *= x->shape[d];
        i /= index->shape[d];
    }
    return place;
}

/* The index may be smaller than x in the other dimensions. */
TEST(gather_and_its_gradient)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64};
    EACH_LEVEL(k)
    for (int n = 0; n < 3 * 2 * 2 * 2; n++) {
        int dim = n % 3;
        bool add = n / 3 % 2;
        layout how = n / 6 % 2 ? TRANSPOSED : CONTIGUOUS;
        torc_dtype dtype = dtypes[n / 12];
        tensor *x = made(dtype, SHAPE(4, 5, 60)), *dx = made_as(how, dtype, SHAPE(4, 5, 60));
        tensor *index = indices(SHAPE(3, 5, 50), x->shape[dim], (uint64_t)n);
        tensor *out = made(dtype, SHAPE(3, 5, 50));
        double expected[4 * 5 * 60];
        set_random(x, -1, 1, 1);
        k->gather(out, x, dim, index);
        for (int64_t i = 0; i < 1200; i++) {
            set_value(dx, i, 3);
            expected[i] = add ? 3 : 0;
        }
        for (int64_t i = 0; i < tensor_numel(out); i++) {
            CHECK(value_at(out, i) == value_at(x, pointed_at(x, index, dim, i)));
            expected[pointed_at(x, index, dim, i)] += value_at(out, i);
        }
        k->gather_grad((sink){dx, add}, out, dim, index);
        for (int64_t i = 0; i < 1200; i++)
            CHECK_NEAR(value_at(dx, i), expected[i], 3e-6);
    }
}

TEST(gather_grad_same_bits_on_any_threads)
{
    EACH_LEVEL(k)
    for (int dim = 0; dim < 2; dim++) {
        tensor *g = made(TORC_F32, SHAPE(300, 200)), *index = indices(SHAPE(300, 200), 9, 2);
        tensor *one = made(TORC_F32, SHAPE(300, 200)), *many = made(TORC_F32, SHAPE(300, 200));
        set_random(g, -1, 1, 3);
        omp_set_num_threads(1);
        k->gather_grad((sink){one, false}, g, dim, index);
        omp_set_num_threads(5);
        k->gather_grad((sink){many, false}, g, dim, index);
        CHECK(!memcmp(tensor_data(one), tensor_data(many), 300 * 200 * sizeof(float)));
    }
}

TEST(nothing_to_index)
{
    EACH_LEVEL(k)
    {
        tensor *none = made(TORC_I64, SHAPE(0)), *table = made(TORC_F32, SHAPE(5, 3));
        tensor *out = made(TORC_F32, SHAPE(0, 3));
        set_value(table, 4, 1);
        k->embedding(out, table, none);
        k->embedding_grad((sink){table, true}, out, none);
        CHECK_NEAR(value_at(table, 4), 1, 0);
        k->embedding_grad((sink){table, false}, out, none);
        CHECK_NEAR(value_at(table, 4), 0, 0);
        tensor *flat = made(TORC_F32, SHAPE(0));
        k->gather(flat, made(TORC_F32, SHAPE(4)), 0, none);
        k->gather_grad((sink){made(TORC_F32, SHAPE(4)), false}, flat, 0, none);
    }
}
