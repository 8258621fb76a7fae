/* Shapes and strides: what they say of memory, what does not fit together, and in which words. */
#include "core/torc.h"

#include "core/tensor.h"
#include "tests/harness.h"

#include <string.h>

static const call here = {{"user.c", 7}, "torc_op"};

/* Of rank 2; no memory is behind it. */
static tensor matrix(int64_t rows, int64_t columns, int64_t row_step, int64_t column_step)
{
    return (tensor){.ndim = 2, .shape = {rows, columns}, .stride = {row_step, column_step}};
}

TEST(contiguous_dense_or_neither)
{
    static const struct {
        int64_t rows, columns, row_step, column_step;
        bool contiguous, dense;
    } cases[] = {
        {2, 3, 3, 1, true, true},    {2, 3, 1, 2, false, true},  {2, 3, 0, 1, false, false},
        {2, 3, 4, 1, false, false},  {2, 3, 6, 2, false, false}, {1, 3, 99, 1, true, true},
        {3, 1, 1, 99, true, true},   {1, 1, 5, 7, true, true},   {0, 3, 8, 9, true, true},
        {2, 3, -3, 1, false, false},
    };
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        tensor t = matrix(cases[i].rows, cases[i].columns, cases[i].row_step, cases[i].column_step);
        CHECK(tensor_is_contiguous(&t) == cases[i].contiguous);
        CHECK(tensor_is_dense(&t) == cases[i].dense);
        CHECK_INT(tensor_numel(&t), cases[i].rows * cases[i].columns);
    }
}

TEST(strides_of_what_is_contiguous)
{
    int64_t stride[4];
    shape_strides(4, (int64_t[]){2, 3, 0, 5}, stride);
    CHECK(!memcmp(stride, (int64_t[]){15, 5, 5, 1}, sizeof stride));
}

TEST(shapes_as_text)
{
    CHECK_TEXT(shape_text(0, NULL), "[]");
    CHECK_TEXT(shape_text(3, (int64_t[]){32, 784, 0}), "[32, 784, 0]");
}

TEST(a_dimension_counts_from_either_end)
{
    CHECK_INT(shape_dim(&here, 2, 3), 2);
    CHECK_INT(shape_dim(&here, -3, 3), 0);
}

TEST_DIES(a_dimension_outside, 1, "user.c:7: torc_op: expected a dimension from -3 to 2, found 3")
{
    shape_dim(&here, 3, 3);
}

TEST(a_zero_makes_all_of_it_empty)
{
    CHECK_INT(shape_numel(&here, 0, NULL), 1);
    CHECK_INT(shape_numel(&here, 3, (int64_t[]){4, 0, 6}), 0);
}

TEST_DIES(more_elements_than_there_are_numbers, 1, "[4294967296, 4294967296] is no shape")
{
    shape_numel(&here, 2, (int64_t[]){1ll << 32, 1ll << 32});
}

TEST_DIES(a_negative_dimension, 1, "[2, -1] is no shape: a dimension is negative")
{
    shape_numel(&here, 2, (int64_t[]){2, -1});
}

TEST(broadcast_is_that_of_numpy)
{
    tensor a = {.ndim = 3, .shape = {5, 1, 4}}, b = {.ndim = 2, .shape = {3, 1}};
    int64_t shape[TORC_MAX_DIMS];
    CHECK_INT(shape_broadcast(&here, &a, &b, shape), 3);
    CHECK(!memcmp(shape, (int64_t[]){5, 3, 4}, 3 * sizeof *shape));
    tensor none = {.ndim = 2, .shape = {0, 1}}; /* 1 repeats no times */
    CHECK_INT(shape_broadcast(&here, &none, &(tensor){.ndim = 1, .shape = {7}}, shape), 2);
    CHECK(shape[0] == 0 && shape[1] == 7);
}

TEST_DIES(shapes_that_do_not_broadcast, 1,
          "shapes do not broadcast: [2, 3] and [2] differ in dimension -1")
{
    int64_t shape[TORC_MAX_DIMS];
    tensor a = matrix(2, 3, 3, 1), b = {.ndim = 1, .shape = {2}};
    shape_broadcast(&here, &a, &b, shape);
}
