/* Arrays and stretches of datasets: what a sample holds, that it is a copy, and who dies of what.
 */
#include "core/torc.h"

#include "tests/harness.h"

/* The only batch of a dataset, in f64 and i64; returns its size. */
static int64_t read_all(torc_dataset *d, double *x, int64_t x_count, int64_t *y)
{
    torc_loader *l = torc_loader_new(d, .batch_size = 100);
    torc_batch b;
    CHECK(torc_loader_next(l, &b));
    torc_read(b.x, TORC_F64, x, x_count);
    if (y)
        torc_read(b.y, TORC_I64, y, torc_numel(b.y));
    torc_loader_free(l);
    return b.size;
}

/* 6 samples of [2, 3]: sample i holds 6 i .. 6 i + 5; the label is 100 + i. */
static torc_dataset *six(torc_dtype dtype)
{
    torc_tensor *x = torc_reshape(torc_arange(36, .dtype = dtype), TORC_SHAPE(6, 2, 3));
    torc_tensor *y = torc_zeros(TORC_SHAPE(6), .dtype = TORC_I64);
    torc_write(y, TORC_I64, (int64_t[]){100, 101, 102, 103, 104, 105}, 6);
    return torc_arrays(x, y);
}

TEST(samples_of_every_dtype)
{
    for (int dtype = 0; dtype < TORC_DTYPES; dtype++) {
        torc_dataset *d = six((torc_dtype)dtype);
        double x[36];
        int64_t y[6];
        CHECK_INT(torc_dataset_size(d), 6);
        CHECK_INT(read_all(d, x, 36, y), 6);
        for (int i = 0; i < 36; i++)
            CHECK_NEAR(x[i], dtype == TORC_BOOL ? i > 0 : i, 0);
        for (int i = 0; i < 6; i++)
            CHECK_INT(y[i], 100 + i);
        torc_dataset_free(d);
    }
}

/* A view with its dimensions turned is copied in its own order, and outlives its tensor. */
TEST(views_are_copied)
{
    torc_tensor *x = torc_reshape(torc_arange(6), TORC_SHAPE(2, 3));
    torc_dataset *d = torc_arrays(torc_transpose(x, 0, 1), NULL);
    torc_write(x, TORC_F32, (float[6]){0}, 6);
    torc_tape_clear();
    double got[6];
    CHECK_INT(read_all(d, got, 6, NULL), 3);
    static const double expected[] = {0, 3, 1, 4, 2, 5};
    for (int i = 0; i < 6; i++)
        CHECK_NEAR(got[i], expected[i], 0);
    torc_dataset_free(d);
}

TEST(stretches)
{
    torc_dataset *d = six(TORC_F32), *middle = torc_subset(d, 2, 3);
    torc_dataset *last = torc_subset(middle, 2, 1), *none = torc_subset(middle, 3, 0);
    double x[18];
    int64_t y[3];
    CHECK_INT(torc_dataset_size(middle), 3);
    CHECK_INT(read_all(middle, x, 18, y), 3);
    CHECK(x[0] == 12 && x[17] == 29 && y[0] == 102 && y[2] == 104);
    CHECK_INT(read_all(last, x, 6, y), 1);
    CHECK(x[0] == 24 && y[0] == 104);
    CHECK_INT(torc_dataset_size(none), 0);
    torc_dataset_free(none);
    torc_dataset_free(last);
    torc_dataset_free(middle);
    torc_dataset_free(d);
    torc_dataset_free(NULL);
}

TEST(samples_without_values)
{
    torc_tensor *x = torc_zeros(TORC_SHAPE(4, 0, 3));
    torc_dataset *d = torc_arrays(x, torc_arange(4, .dtype = TORC_I64));
    double none;
    int64_t y[4];
    CHECK_INT(read_all(d, &none, 0, y), 4);
    CHECK_INT(y[3], 3);
    torc_dataset_free(d);
    d = torc_arrays(torc_zeros(TORC_SHAPE(0, 3)), NULL);
    CHECK_INT(torc_dataset_size(d), 0);
    torc_dataset_free(d);
}

TEST_DIES(as_many_labels_as_samples, 1, "expected as many x as y, found 3 and 4")
{
    torc_arrays(torc_arange(3), torc_arange(4));
}

TEST_DIES(a_scalar_has_no_samples, 1, "torc_arrays: expected [N, ...], found a scalar")
{
    torc_arrays(torc_zeros(TORC_SCALAR), NULL);
}

TEST_DIES(past_the_end, 1, "expected a stretch of 6 samples, found 5 from 2")
{
    torc_subset(six(TORC_F32), 2, 5);
}

TEST_DIES(more_than_there_are, 1,
          "expected a stretch of 6 samples, found 9223372036854775807 from 1")
{
    torc_subset(six(TORC_F32), 1, INT64_MAX);
}

TEST_DIES(before_the_start, 1, "expected a stretch of 6 samples, found 2 from -1")
{
    torc_subset(six(TORC_F32), -1, 2);
}

TEST_DIES(a_stretch_of_nothing, 1, "torc_subset: expected a dataset, found NULL")
{
    torc_subset(NULL, 0, 0);
}
