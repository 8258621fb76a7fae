/* embedding and gather. */
#include "tests/gradients.h"
#include "tests/low.h"

#include <stdlib.h>

static torc_tensor *indices(torc_shape shape, const int64_t *values)
{
    torc_tensor *t = torc_zeros(shape, .dtype = TORC_I64);
    torc_write(t, TORC_I64, values, torc_numel(t));
    return t;
}

static const int64_t some[] = {2, 0, 2, 1, 2, 2};

TEST(rows_by_number)
{
    torc_tensor *table = torc_reshape(torc_arange(6), TORC_SHAPE(3, 2));
    torc_tensor *y = torc_embedding_op(table, indices(TORC_SHAPE(1, 2), some));
    CHECK_INT(torc_ndim(y), 3);
    float found[4];
    torc_read(y, TORC_F32, found, 4);
    CHECK_NEAR(found[0], 4, 0);
    CHECK_NEAR(found[3], 1, 0);
}

TEST(elements_by_number)
{
    torc_tensor *x = torc_reshape(torc_arange(6), TORC_SHAPE(3, 2));
    float found[2];
    torc_read(torc_gather(x, 0, indices(TORC_SHAPE(1, 2), some)), TORC_F32, found, 2);
    CHECK_NEAR(found[0], 4, 0); /* x[2][0] */
    CHECK_NEAR(found[1], 1, 0); /* x[0][1] */
}

static torc_tensor *g_embedding(torc_tensor *const *in, const void *how)
{
    return torc_embedding_op(torc_contiguous(in[0]), indices(*(const torc_shape *)how, some));
}

static torc_tensor *g_gather(torc_tensor *const *in, const void *how)
{
    return torc_gather(in[0], *(const int *)how, indices(TORC_SHAPE(3, 2), some));
}

TEST(gradients_match_differences)
{
    const torc_shape places[] = {TORC_SHAPE(6), TORC_SHAPE(2, 3), TORC_SHAPE(0)};
    for (int i = 0; i < 3; i++)
        check_gradients("embedding", g_embedding, &places[i], 1, (torc_shape[]){TORC_SHAPE(3, 4)},
                        -1, 1);
    for (int dim = 0; dim < 2; dim++)
        check_gradients("gather", g_gather, &dim, 1, (torc_shape[]){TORC_SHAPE(4, 3)}, -1, 1);
}

TEST_DIES(outside_the_vocabulary, 1, "torc_embedding_op: index 3 at position 1 is outside 0 .. 2")
{
    torc_embedding_op(torc_ones(TORC_SHAPE(3, 2)), indices(TORC_SHAPE(2), (int64_t[]){0, 3}));
}

/* Also where the host has written a part of the indices only. */
TEST_DIES(a_part_written_says_nothing_of_the_rest, 1, "index 9 at position 3 is outside 0 .. 2")
{
    torc_tensor *all = torc_full(TORC_SHAPE(4), 9, .dtype = TORC_I64);
    torc_write(torc_slice(all, 0, 0, 3, 1), TORC_I64, (int64_t[]){0, 1, 2}, 3);
    torc_embedding_op(torc_ones(TORC_SHAPE(3, 2)), all);
}

TEST_DIES(an_index_is_int64, 1, "expected an int64 index, found float32")
{
    torc_embedding_op(torc_ones(TORC_SHAPE(3, 2)), torc_ones(TORC_SHAPE(2)));
}

/* ---- bf16 and f16 ---- */

/* 2400 times 1 is 2400 in f32; bf16 would stop at 256, f16 at 2048. */
TEST_LOW(masters_add_up_in_f32)
{
    torc_tensor *table = torc_full(TORC_SHAPE(2, 3), 1.0 / 3);
    torc_set_requires_grad(table, true);
    torc_autocast(low)
    {
        torc_tensor *y = torc_embedding_op(table, torc_zeros(TORC_SHAPE(2400), .dtype = TORC_I64));
        CHECK_INT(torc_dtype_of(y), low);
        /* 1 / 3 in 11 bits, and in 8 */
        CHECK_NEAR(torc_item(torc_max(y)), low == TORC_F16 ? 0x1.554p-2 : 0x1.56p-2, 0);
        torc_backward(torc_sum(y));
    }
    CHECK_INT(torc_dtype_of(torc_grad(table)), TORC_F32);
    CHECK_NEAR(torc_item(torc_sum(torc_grad(table))), 7200, 0);
}

/* Tensors that are low themselves: so are the gradients, each added up in f32 and rounded once. */
TEST_LOW(low_of_the_user)
{
    torc_tensor *x = torc_full(TORC_SHAPE(2, 3), 0.5, .dtype = low);
    torc_set_requires_grad(x, true);
    torc_tensor *y = torc_embedding_op(x, torc_zeros(TORC_SHAPE(300), .dtype = TORC_I64));
    CHECK_INT(torc_dtype_of(y), low);
    torc_tensor *z = torc_gather(torc_transpose(torc_add(x, x), 0, 1), 1,
                                 torc_zeros(TORC_SHAPE(3, 300), .dtype = TORC_I64));
    CHECK_INT(torc_dtype_of(z), low);
    torc_backward(torc_add(torc_sum(torc_to(y, TORC_F32)), torc_sum(torc_to(z, TORC_F32))));
    CHECK_INT(torc_dtype_of(torc_grad(x)), low);
    CHECK_NEAR(torc_item(torc_max(torc_to(torc_grad(x), TORC_F32))), 900, 0x1p-8);
}
