/* Views: the right elements without a copy, gradients, and what is refused. */
#include "tests/gradients.h"
#include "tests/harness.h"

#include <string.h>

/* 0, 1, 2, ... in the given shape */
static torc_tensor *counting(torc_shape shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape.ndim; i++)
        n *= shape.dim[i];
    return torc_reshape(torc_arange(n), shape);
}

static void check_values(torc_tensor *t, int n, const float *expected)
{
    float found[64];
    torc_read(t, TORC_F32, found, n);
    for (int i = 0; i < n; i++)
        CHECK_NEAR(found[i], expected[i], 0);
}

TEST(transpose_reads_columns)
{
    torc_tensor *t = torc_transpose(counting(TORC_SHAPE(2, 3)), 0, 1);
    CHECK_INT(torc_size(t, 0), 3);
    check_values(t, 6, (float[]){0, 3, 1, 4, 2, 5});
}

TEST(slices_count_as_python_does)
{
    torc_tensor *t = torc_arange(10);
    check_values(torc_slice(t, 0, 1, 8, 3), 3, (float[]){1, 4, 7});
    check_values(torc_slice(t, 0, -3, INT64_MAX, 1), 3, (float[]){7, 8, 9});
    CHECK_INT(torc_numel(torc_slice(t, 0, 5, 2, 1)), 0);
}

TEST(views_share_their_values)
{
    torc_tensor *t = counting(TORC_SHAPE(2, 6));
    torc_tensor *v = torc_reshape(torc_slice(t, 1, 2, 4, 1), TORC_SHAPE(2, 2));
    torc_write(t, TORC_F32, (float[]){0, 1, 99, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 12);
    check_values(v, 4, (float[]){99, 3, 8, 9});
    torc_tensor *square = torc_squeeze(torc_unsqueeze(t, 1), 1);
    CHECK(torc_data(square) == torc_data(t));
}

TEST(reshape_copies_only_if_it_must)
{
    torc_tensor *t = counting(TORC_SHAPE(2, 3, 4));
    CHECK(torc_data(torc_reshape(t, TORC_SHAPE(6, -1))) == torc_data(t));
    torc_tensor *turned = torc_permute(t, TORC_DIMS(2, 0, 1));
    check_values(torc_slice(torc_flatten(turned, 0), 0, 0, 6, 1), 6,
                 (float[]){0, 4, 8, 12, 16, 20});
    torc_tensor *rows = torc_reshape(torc_slice(t, 2, 0, 2, 1), TORC_SHAPE(6, 2));
    check_values(rows, 12, (float[]){0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21});
}

TEST(split_leaves_a_smaller_last_part)
{
    torc_tensor *out[3];
    torc_split(counting(TORC_SHAPE(2, 5)), 2, 1, 3, out);
    check_values(out[0], 4, (float[]){0, 1, 5, 6});
    check_values(out[2], 2, (float[]){4, 9});
}

TEST(expand_repeats)
{
    torc_tensor *t = torc_expand(counting(TORC_SHAPE(2, 1)), TORC_SHAPE(3, 2, 2));
    check_values(t, 12, (float[]){0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1});
}

TEST(dimensions_of_zero_are_shapes_too)
{
    torc_tensor *t = torc_zeros(TORC_SHAPE(0, 3));
    CHECK_INT(torc_numel(torc_reshape(t, TORC_SHAPE(3, 0, 5))), 0);
    CHECK_INT(torc_size(torc_transpose(t, 0, 1), 0), 3);
    CHECK_INT(torc_size(torc_flatten(torc_zeros(TORC_SHAPE(0, 2, 3)), 1), 1), 6);
}

/* ---- gradients ---- */

typedef struct op_case {
    const char *name;
    test_op f;
    torc_shape shape;
} op_case;

static torc_tensor *g_reshape(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_reshape(in[0], TORC_SHAPE(-1, 2));
}

static torc_tensor *g_permute(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_permute(in[0], TORC_DIMS(1, 2, 0));
}

static torc_tensor *g_slice(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_slice(in[0], 1, 1, INT64_MAX, 2);
}

static torc_tensor *g_expand(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_expand(in[0], TORC_SHAPE(2, 3, 4));
}

static torc_tensor *g_split(torc_tensor *const *in, const void *how)
{
    (void)how;
    torc_tensor *out[2];
    torc_split(in[0], 2, 1, 2, out);
    return torc_mul(torc_slice(out[0], 1, 0, 1, 1), out[1]);
}

/* The same tensor twice, once as it is and once through views: contributions add up. */
static torc_tensor *g_twice(torc_tensor *const *in, const void *how)
{
    (void)how;
    torc_tensor *turned = torc_transpose(torc_unsqueeze(in[0], 0), 1, 2);
    return torc_mul(torc_flatten(in[0], 0), torc_flatten(turned, 0));
}

static torc_tensor *g_contiguous(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_contiguous(torc_transpose(in[0], 0, -1));
}

TEST(gradients_match_differences)
{
    const op_case cases[] = {
        {"reshape", g_reshape, TORC_SHAPE(3, 4)},       {"reshape", g_reshape, TORC_SHAPE(0, 4)},
        {"permute", g_permute, TORC_SHAPE(2, 3, 4)},    {"permute", g_permute, TORC_SHAPE(2, 0, 4)},
        {"slice", g_slice, TORC_SHAPE(2, 5)},           {"slice", g_slice, TORC_SHAPE(2, 1)},
        {"expand", g_expand, TORC_SHAPE(3, 1)},         {"expand", g_expand, TORC_SHAPE(2, 1, 4)},
        {"split", g_split, TORC_SHAPE(2, 3)},           {"twice", g_twice, TORC_SHAPE(2, 3)},
        {"contiguous", g_contiguous, TORC_SHAPE(2, 3)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_gradients(cases[i].name, cases[i].f, NULL, 1, &cases[i].shape, -1, 1);
}

/* ---- refused ---- */

TEST_DIES(reshape_counts, 1, "expected a shape of 6 elements for [2, 3], found [4, 2]")
{
    torc_reshape(torc_ones(TORC_SHAPE(2, 3)), TORC_SHAPE(4, 2));
}

TEST_DIES(permute_wants_each_once, 1,
          "expected each dimension of [2, 3] once, found the order [0, 0]")
{
    torc_permute(torc_ones(TORC_SHAPE(2, 3)), TORC_DIMS(0, 0));
}

TEST_DIES(dimension_out_of_range, 1, "expected a dimension from -2 to 1, found 2")
{
    torc_transpose(torc_ones(TORC_SHAPE(2, 3)), 0, 2);
}

TEST_DIES(data_of_a_view, 1, "torc_contiguous() copies it")
{
    torc_data(torc_transpose(torc_ones(TORC_SHAPE(2, 3)), 0, 1));
}
