/* Attention: against softmax(q k^T) v written out, gradients, and its memory. */
#include "core/torc.h"

#include "core/ops/ops.h"
#include "tests/gradients.h"
#include "tests/harness.h"

#include <math.h>

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

/* 4096 x 4096 scores would be 64 MiB a head; backward alone would need several. */
TEST(memory_grows_with_the_length_only)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(1, 1, 4096, 16), .requires_grad = true);
    torc_init_normal(x, 0, 1);
    torc_backward(torc_sum(torc_scaled_dot_product_attention(x, x, x, .causal = true)));
    CHECK(torc_memory().peak_bytes < 32 << 20);
}

TEST_DIES(shapes_must_fit, 1, "expected q [B, H, T, D] and k, v [B, H, S, D]")
{
    torc_tensor *q = torc_ones(TORC_SHAPE(1, 1, 2, 3)), *k = torc_ones(TORC_SHAPE(1, 1, 2, 4));
    torc_scaled_dot_product_attention(q, k, k);
}
