/* embedding and gather. */
#include "tests/gradients.h"
#include "tests/harness.h"

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

TEST_DIES(an_index_is_int64, 1, "expected an int64 index, found float32")
{
    torc_embedding_op(torc_ones(TORC_SHAPE(3, 2)), torc_ones(TORC_SHAPE(2)));
}
