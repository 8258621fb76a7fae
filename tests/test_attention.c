/* Attention: against softmax(q k^T) v written out, gradients, and its memory. */
#include "core/torc.h"

#include "core/ops/ops.h"
#include "tests/gradients.h"
#include "tests/low.h"

#include <math.h>
#include <stdlib.h>

/* The definition, with a T x T matrix and a mask. */
static torc_tensor *by_definition(torc_tensor *q, torc_tensor *k, torc_tensor *v, bool causal)
{
    int64_t t = torc_size(q, 2), s = torc_size(k, 2);
    torc_tensor *scores = torc_matmul(q, torc_transpose(k, 2, 3));
    scores = torc_mul_scalar(scores, 1 / sqrt((double)torc_size(q, 3)));
    torc_dtype dtype = torc_dtype_of(q);
    if (causal) { /* row i sees columns 0 .. i + s - t */
        torc_tensor *row = torc_unsqueeze(torc_arange(t, .dtype = TORC_F64), 1);
        torc_tensor *last = torc_add_scalar(row, (double)(s - t));
        torc_tensor *sees = torc_le(torc_arange(s, .dtype = TORC_F64), last);
        torc_tensor *never = torc_full(TORC_SHAPE(1), -INFINITY, .dtype = dtype);
        scores = torc_where(sees, scores, never);
    }
    return torc_matmul(torc_softmax(scores, -1), v);
}

TEST(matches_the_definition)
{
    const int64_t sizes[][5] = {/* B H T S D */
                                {2, 3, 5, 5, 4},      {1, 2, 64, 64, 32}, {2, 1, 65, 65, 16},
                                {1, 1, 130, 130, 64}, {1, 2, 3, 7, 8},    {1, 1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int causal = 0; causal < 2; causal++) {
            const int64_t *z = sizes[i];
            torc_tensor *q = torc_randn(TORC_SHAPE(z[0], z[1], z[2], z[4]));
            torc_tensor *k = torc_randn(TORC_SHAPE(z[0], z[1], z[3], z[4]));
            torc_tensor *v = torc_randn(TORC_SHAPE(z[0], z[1], z[3], z[4]));
            torc_tensor *y = torc_scaled_dot_product_attention(q, k, v, .causal = causal);
            torc_tensor *off = torc_sub(y, by_definition(q, k, v, causal));
            CHECK(torc_item(torc_max(torc_abs(off))) < 1e-5);
            torc_tape_clear();
        }
}

static torc_tensor *g_attention(torc_tensor *const *in, const void *how)
{
    return torc_scaled_dot_product_attention(in[0], in[1], in[2], .causal = how != NULL);
}

static torc_tensor *g_self(torc_tensor *const *in, const void *how)
{
    return torc_scaled_dot_product_attention(in[0], in[0], in[0], .causal = how != NULL);
}

static torc_tensor *g_packed(torc_tensor *const *in, const void *how)
{
    return op_qkv_attention(TORC_HERE, in[0], 2, how != NULL);
}

TEST(gradients_match_differences)
{
    const torc_shape shapes[][3] = {
        {TORC_SHAPE(2, 2, 5, 3), TORC_SHAPE(2, 2, 5, 3), TORC_SHAPE(2, 2, 5, 3)},
        {TORC_SHAPE(1, 1, 2, 4), TORC_SHAPE(1, 1, 5, 4), TORC_SHAPE(1, 1, 5, 4)},
        {TORC_SHAPE(0, 2, 3, 4), TORC_SHAPE(0, 2, 3, 4), TORC_SHAPE(0, 2, 3, 4)}};
    const torc_shape packed = TORC_SHAPE(2, 4, 12);
    const char *const causal[] = {NULL, "causal"};
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < 3; i++)
            check_gradients("attention", g_attention, causal[c], 3, shapes[i], -1, 1);
        check_gradients("self attention", g_self, causal[c], 1, shapes[0], -1, 1);
        check_gradients("packed attention", g_packed, causal[c], 1, &packed, -1, 1);
    }
}

/* ---- bf16 and f16 ---- */

/* Of all elements, found is off by no more than `relative` of itself and `absolute`. */
static void check_close(torc_tensor *found, torc_tensor *expected, double relative, double absolute)
{
    found = torc_to(found, TORC_F32);
    torc_tensor *off = torc_abs(torc_sub(found, expected));
    torc_tensor *bound = torc_mul_scalar(torc_abs(expected), relative);
    CHECK(torc_item(torc_max(torc_sub(off, bound))) <= absolute);
}

/* f32 values of 8 bits, which bf16 and f16 hold as they are, so that copies of them are exact. */
static torc_tensor *exact_in_low(torc_shape shape)
{
    torc_tensor *t = torc_to(torc_to(torc_rand(shape), TORC_BF16), TORC_F32);
    t = torc_keep(torc_detach(t));
    torc_set_requires_grad(t, true);
    return t;
}

/* Gradients of the sum of y: the gradient of y is 1 in them as well. */
static torc_tensor *differentiated(test_op f, torc_tensor *const *in, torc_dtype dtype, int n,
                                   torc_tensor **gradients)
{
    torc_tensor *y = NULL;
    torc_autocast(dtype) y = f(in, "causal");
    CHECK(torc_dtype_of(y) == dtype);
    torc_backward(torc_sum(y));
    for (int i = 0; i < n; i++) {
        gradients[i] = torc_mul_scalar(torc_grad(in[i]), 1);
        CHECK(torc_dtype_of(gradients[i]) == TORC_F32);
        torc_zero_grad_of(in[i]);
    }
    return y;
}

/* A result's rounding, and that of the p it was summed from. */
static double rounded(torc_dtype low)
{
    return 2.02 * low_unit(low);
}

/* Scores and sums are those of f32; out is rounded by a unit, 2^-8 or 2^-11, of itself (it is a
 * mean of values in [0, 1)), and with it delta = sum of out over D: by D units. So ds is off by D
 * units scale p, and dq, its product with k below 1, where the p of a row add up to 1, by the same;
 * dk by T times that. As out is rounded twice (its p first), and ds, which is at most D scale p,
 * once, three times as much; and dv has the rounding of p. */
static void check_autocast(torc_dtype low, test_op f, int n, const torc_shape *shape, int64_t t,
                           int64_t d)
{
    torc_tensor *in[3], *narrow[3], *full[3];
    for (int i = 0; i < n; i++)
        in[i] = exact_in_low(shape[i]);
    torc_tensor *exact = differentiated(f, in, TORC_F32, n, full);
    torc_tensor *y = differentiated(f, in, low, n, narrow);
    double delta = 3 * (double)d * low_unit(low) / sqrt((double)d);
    check_close(y, exact, rounded(low), 1e-5);
    for (int i = 0; i < n; i++)
        check_close(narrow[i], full[i], 1.01 * low_unit(low),
                    1e-5 + (i == 2             ? 0
                            : i == 0 && n == 3 ? 1
                                               : t) *
                               delta);
}

TEST_LOW(autocast_rounds_results_and_powers)
{
    const torc_shape apart[] = {TORC_SHAPE(2, 3, 33, 16), TORC_SHAPE(2, 3, 33, 16),
                                TORC_SHAPE(2, 3, 33, 16)};
    const torc_shape packed = TORC_SHAPE(2, 33, 3 * 2 * 16);
    check_autocast(low, g_attention, 3, apart, 33, 16);
    check_autocast(low, g_packed, 1, &packed, 33, 16);
}

/* q low, k and v masters: what a projection and a table of keys look like. */
TEST_LOW(autocast_mixes_low_and_masters)
{
    torc_tensor *q = torc_to(exact_in_low(TORC_SHAPE(1, 2, 9, 8)), low);
    torc_tensor *k = exact_in_low(TORC_SHAPE(1, 2, 9, 8)), *y = NULL;
    torc_autocast(low) y = torc_scaled_dot_product_attention(q, k, k);
    torc_tensor *wide = torc_to(q, TORC_F32);
    check_close(y, torc_scaled_dot_product_attention(wide, k, k), rounded(low), 1e-5);
}

TEST_LOW(low_of_the_users_own_stays_low)
{
    torc_tensor *x = torc_to(exact_in_low(TORC_SHAPE(1, 2, 20, 8)), low);
    torc_tensor *y = torc_scaled_dot_product_attention(x, x, x, .causal = true);
    CHECK(torc_dtype_of(y) == low);
    torc_tensor *wide = torc_to(x, TORC_F32);
    check_close(y, torc_scaled_dot_product_attention(wide, wide, wide, .causal = true),
                rounded(low), 1e-5);
}

/* 512 x 512 scores would be 1 MiB a head; backward alone would need several. */
TEST(memory_grows_with_the_length_only)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(1, 1, 512, 16), .requires_grad = true);
    torc_init_normal(x, 0, 1);
    torc_backward(torc_sum(torc_scaled_dot_product_attention(x, x, x, .causal = true)));
    CHECK(torc_memory().peak_bytes < 1 << 20);
}

TEST_DIES(shapes_must_fit, 1, "expected q [B, H, T, D] and k, v [B, H, S, D]")
{
    torc_tensor *q = torc_ones(TORC_SHAPE(1, 1, 2, 3)), *k = torc_ones(TORC_SHAPE(1, 1, 2, 4));
    torc_scaled_dot_product_attention(q, k, k);
}
