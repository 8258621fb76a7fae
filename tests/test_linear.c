/* linear: its gradients, with every activation that its kernel can end with; fused and not fused
 * are the same. */
#include "tests/gradients.h"
#include "tests/low.h"

#include "core/nn/module.h"
#include "core/ops/ops.h"

#include <stdlib.h>
#include <string.h>

static const elementwise_op activations[] = {EW_NONE, EW_relu,    EW_gelu, EW_gelu_tanh,
                                             EW_tanh, EW_sigmoid, EW_silu};

static torc_tensor *g_linear(torc_tensor *const *in, const void *how)
{
    return torc_linear_op(in[0], torc_contiguous(in[1]), how ? NULL : torc_contiguous(in[2]));
}

static torc_tensor *g_activated(torc_tensor *const *in, const void *act)
{
    return op_linear_act(TORC_HERE, in[0], in[1], in[2], *(const elementwise_op *)act);
}

TEST(gradients_match_differences)
{
    const torc_shape some[] = {TORC_SHAPE(2, 4, 3), TORC_SHAPE(5, 3), TORC_SHAPE(5)};
    const torc_shape none[] = {TORC_SHAPE(0, 3), TORC_SHAPE(5, 3), TORC_SHAPE(5)};
    check_gradients("linear", g_linear, NULL, 3, some, -1, 1);
    check_gradients("linear without bias", g_linear, "", 2, some, -1, 1);
    check_gradients("linear of no rows", g_linear, NULL, 3, none, -1, 1);
    for (size_t i = 0; i < ARRAY_LENGTH(activations); i++) {
        check_gradients("with an activation", g_activated, &activations[i], 3, some, -1, 1);
        check_gradients("of no rows", g_activated, &activations[i], 3, none, -1, 1);
    }
}

/* ---- fused and not ---- */

static void check_same(torc_tensor *a, torc_tensor *b, double tolerance)
{
    int64_t n = torc_numel(a);
    double *va = malloc((size_t)n * sizeof *va), *vb = malloc((size_t)n * sizeof *vb);
    torc_read(a, TORC_F64, va, n);
    torc_read(b, TORC_F64, vb, n);
    for (int64_t i = 0; i < n; i++)
        CHECK_NEAR(va[i], vb[i], tolerance);
    free(va);
    free(vb);
}

typedef struct pass {
    torc_tensor *y, *d[3];
} pass;

/* Rows enough for several parts, the last of another size. */
static pass run(elementwise_op act, bool fused, torc_dtype dtype)
{
    pass p;
    torc_seed(3);
    torc_tensor *in[3];
    const torc_shape shape[] = {TORC_SHAPE(4133, 31), TORC_SHAPE(130, 31), TORC_SHAPE(130)};
    for (int i = 0; i < 3; i++) {
        in[i] = torc_keep(torc_randn(shape[i], .dtype = dtype));
        torc_set_requires_grad(in[i], true);
    }
    p.y = fused ? op_linear_act(TORC_HERE, in[0], in[1], in[2], act)
                : op_activation(TORC_HERE, torc_linear_op(in[0], in[1], in[2]), act);
    torc_backward(torc_sum(torc_mul(p.y, torc_mul_scalar(p.y, 0.01))));
    for (int i = 0; i < 3; i++)
        p.d[i] = torc_grad(in[i]);
    return p;
}

TEST(one_kernel_gives_what_two_give)
{
    for (size_t i = 0; i < ARRAY_LENGTH(activations); i++) {
        pass one = run(activations[i], true, TORC_F32), two = run(activations[i], false, TORC_F32);
        check_same(one.y, two.y, 1e-6); /* the product's parts may be cut where oneDNN's were not */
        for (int k = 0; k < 3; k++)
            check_same(one.d[k], two.d[k], 1e-5);
    }
}

TEST_LOW(low_rounds_operands_and_results)
{
    pass narrow = run(EW_gelu_tanh, true, low), full = run(EW_gelu_tanh, true, TORC_F32);
    check_same(narrow.y, full.y, 38 * low_unit(low)); /* 31 products, each off by up to some 10 */
}

/* What a sequence of layers computes with the activation in the layer's kernel. */
TEST(a_sequence_takes_the_activation_into_the_layer)
{
    torc_seed(5);
    torc_module *linear = torc_linear(6, 9), *act = torc_gelu_layer();
    torc_module *net = torc_sequential(linear, act, torc_relu_layer());
    torc_tensor *x = torc_randn(TORC_SHAPE(4, 6));
    torc_tensor *apart = torc_relu(torc_gelu(torc_forward(linear, x)));
    check_same(torc_forward(net, x), apart, 1e-6);
    torc_recompute_layer(act); /* a layer with a pass of its own is left alone */
    check_same(torc_forward(net, x), apart, 1e-6);
}

TEST(the_bias_gradient_adds_to_what_is_there)
{
    torc_tensor *x = torc_ones(TORC_SHAPE(5, 2)), *w = torc_ones(TORC_SHAPE(3, 2));
    torc_tensor *b = torc_tensor_new(TORC_SHAPE(3), .requires_grad = true);
    for (int turn = 1; turn <= 2; turn++) {
        torc_backward(torc_sum(torc_linear_op(x, w, b)));
        CHECK_NEAR(torc_item(torc_sum(torc_grad(b))), 15 * turn, 0);
    }
}

TEST_DIES(features, 1, "expected an input of 3 features, found [2, 4]")
{
    torc_linear_op(torc_ones(TORC_SHAPE(2, 4)), torc_ones(TORC_SHAPE(5, 3)), NULL);
}

TEST_DIES(dtypes, 1, "torc_linear_op: dtypes differ: bfloat16 [2, 3] and float32 [5, 3]")
{
    torc_linear_op(torc_ones(TORC_SHAPE(2, 3), .dtype = TORC_BF16), torc_ones(TORC_SHAPE(5, 3)),
                   NULL);
}
