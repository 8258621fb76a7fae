/* softmax, log_softmax, logsumexp as ops: values against exp and log in double, large inputs,
 * gradients. */
#include "tests/gradients.h"
#include "tests/low.h"

#include <math.h>
#include <stdlib.h>

TEST(rows_sum_to_one_however_large)
{
    torc_tensor *x = torc_zeros(TORC_SHAPE(2, 3));
    torc_write(x, TORC_F32, (float[]){1000, 1001, 1002, -1000, 0, 1000}, 6);
    double p[6], e = exp(1), e2 = exp(2);
    torc_read(torc_softmax(x, 1), TORC_F64, p, 6);
    CHECK_NEAR(p[0], 1 / (1 + e + e2), 1e-6);
    CHECK_NEAR(p[2], e2 / (1 + e + e2), 1e-6);
    CHECK_NEAR(p[5], 1, 1e-6);
    double logp[6];
    torc_read(torc_log_softmax(x, -1), TORC_F64, logp, 6);
    CHECK_NEAR(logp[3], -2000, 1e-6);
    CHECK_NEAR(torc_item(torc_logsumexp(torc_slice(x, 0, 0, 1, 1))), 1000 + log(1 + e + e2), 1e-6);
}

TEST(of_minus_infinity)
{
    torc_tensor *x = torc_full(TORC_SHAPE(2), -INFINITY);
    CHECK(torc_item(torc_logsumexp(x)) == -INFINITY);
}

static torc_tensor *g_softmax(torc_tensor *const *in, const void *how)
{
    return torc_softmax(in[0], *(const int *)how);
}

static torc_tensor *g_log_softmax(torc_tensor *const *in, const void *how)
{
    return torc_log_softmax(in[0], *(const int *)how);
}

TEST(gradients_match_differences)
{
    const torc_shape shapes[] = {TORC_SHAPE(2, 3, 4), TORC_SHAPE(2, 0, 4), TORC_SHAPE(1, 5, 1)};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int dim = 0; dim < 3; dim++) {
            check_gradients("softmax", g_softmax, &dim, 1, &shapes[i], -2, 2);
            check_gradients("log_softmax", g_log_softmax, &dim, 1, &shapes[i], -2, 2);
        }
}

/* ---- bf16 and f16 ---- */

/* Computed in f32 either way; in autocast the result stays that. */
TEST_LOW(of_low)
{
    torc_tensor *x = torc_to(torc_randn(TORC_SHAPE(5, 33)), low);
    torc_set_requires_grad(x, true);
    CHECK_INT(torc_dtype_of(torc_softmax(x, -1)), low);
    CHECK_INT(torc_dtype_of(torc_logsumexp(x)), low);
    torc_tensor *exact = torc_softmax(torc_to(x, TORC_F32), -1);
    torc_autocast(low)
    {
        torc_tensor *y = torc_softmax(x, -1);
        CHECK_INT(torc_dtype_of(y), TORC_F32);
        CHECK_INT(torc_dtype_of(torc_log_softmax(x, 0)), TORC_F32);
        CHECK_INT(torc_dtype_of(torc_logsumexp(x)), TORC_F32);
        CHECK(torc_item(torc_max(torc_abs(torc_sub(y, exact)))) == 0);
        torc_backward(torc_sum(torc_mul(y, y)));
    }
    CHECK_INT(torc_dtype_of(torc_grad(x)), low);
}
