/* cat, stack, flip. */
#include "tests/gradients.h"
#include "tests/harness.h"

static void check_values(torc_tensor *t, int n, const float *expected)
{
    float found[32];
    torc_read(t, TORC_F32, found, n);
    for (int i = 0; i < n; i++)
        CHECK_NEAR(found[i], expected[i], 0);
}

TEST(parts_in_order)
{
    torc_tensor *a = torc_reshape(torc_arange(2), TORC_SHAPE(1, 2));
    torc_tensor *b = torc_full(TORC_SHAPE(2, 2), 7);
    check_values(torc_cat(0, a, b), 6, (float[]){0, 1, 7, 7, 7, 7});
    check_values(torc_cat(1, a, torc_zeros(TORC_SHAPE(1, 0)), a), 4, (float[]){0, 1, 0, 1});
    torc_tensor *s = torc_stack(1, torc_arange(3), torc_full(TORC_SHAPE(3), 9));
    CHECK_INT(torc_size(s, 1), 2);
    check_values(s, 6, (float[]){0, 9, 1, 9, 2, 9});
    check_values(torc_flip(torc_reshape(torc_arange(4), TORC_SHAPE(2, 2)), TORC_DIMS(0, 1)), 4,
                 (float[]){3, 2, 1, 0});
}

static torc_tensor *g_cat(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_cat(1, in[0], in[1], in[0]);
}

static torc_tensor *g_stack(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_stack(0, in[0], in[1]);
}

static torc_tensor *g_flip(torc_tensor *const *in, const void *how)
{
    (void)how;
    return torc_flip(in[0], TORC_DIMS(1));
}

TEST(gradients_match_differences)
{
    check_gradients("cat", g_cat, NULL, 2, (torc_shape[]){TORC_SHAPE(2, 3), TORC_SHAPE(2, 1)}, -1,
                    1);
    check_gradients("cat", g_cat, NULL, 2, (torc_shape[]){TORC_SHAPE(2, 0), TORC_SHAPE(2, 1)}, -1,
                    1);
    check_gradients("stack", g_stack, NULL, 2, (torc_shape[]){TORC_SHAPE(2, 3), TORC_SHAPE(2, 3)},
                    -1, 1);
    check_gradients("flip", g_flip, NULL, 1, (torc_shape[]){TORC_SHAPE(2, 3)}, -1, 1);
}

TEST_DIES(parts_must_fit, 1, "parts differ outside dimension 0: [2, 3] and [2, 4]")
{
    torc_cat(0, torc_ones(TORC_SHAPE(2, 3)), torc_ones(TORC_SHAPE(2, 4)));
}
