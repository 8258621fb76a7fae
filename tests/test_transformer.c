/* Causal self-attention and the block against PyTorch's numbers; names, causality, dropout. */
#include "tests/reference/compare.h"
#include "tests/reference/layers.h"

TEST(attention_is_pytorchs)
{
    CHECK_LAYER(torc_causal_self_attention(4, 2), reference_input(TORC_SHAPE(2, 3, 4)),
                ref_attention);
}

TEST(the_block_is_pytorchs)
{
    CHECK_LAYER(torc_transformer_block(4, 2), reference_input(TORC_SHAPE(2, 3, 4)), ref_block);
}

TEST(names_are_gpt2s)
{
    static const char *const names[] = {
        "ln_1.weight",        "ln_1.bias",        "attn.c_attn.weight", "attn.c_attn.bias",
        "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight",        "ln_2.bias",
        "mlp.c_fc.weight",    "mlp.c_fc.bias",    "mlp.c_proj.weight",  "mlp.c_proj.bias"};
    torc_module *net = torc_transformer_block(8, 2);
    CHECK_INT(torc_parameter_count(net), 12);
    for (int i = 0; i < 12; i++) {
        const char *name;
        torc_parameter_at(net, i, &name);
        CHECK_TEXT(name, names[i]);
    }
    CHECK_INT(torc_size(torc_parameter_named(net, "attn.c_attn.weight"), 0), 24);
    CHECK_INT(torc_size(torc_parameter_named(net, "mlp.c_proj.weight"), 1), 32);
    CHECK_INT(torc_parameter_elements(net), 12 * 8 * 8 + 13 * 8);
}

/* The largest difference of rows 0 .. end - 1. */
static double difference(torc_tensor *a, torc_tensor *b, int end)
{
    torc_tensor *d = torc_abs(torc_sub(a, b));
    return torc_item(torc_max(torc_slice(d, 1, 0, end, 1)));
}

TEST(nobody_sees_the_future)
{
    torc_module *net = torc_transformer_block(8, 2);
    torc_tensor *start = torc_randn(TORC_SHAPE(1, 5, 8));
    torc_tensor *a = torc_cat(1, start, torc_randn(TORC_SHAPE(1, 2, 8)));
    torc_tensor *b = torc_cat(1, start, torc_randn(TORC_SHAPE(1, 2, 8)));
    torc_tensor *ya = torc_forward(net, a), *yb = torc_forward(net, b);
    CHECK_NEAR(difference(ya, yb, 5), 0, 1e-6);
    CHECK(difference(ya, yb, 7) > 0.01);
}

TEST(dropout_is_for_training)
{
    torc_module *net = torc_transformer_block(16, 4, .dropout = 0.5f);
    torc_tensor *x = torc_randn(TORC_SHAPE(2, 6, 16));
    CHECK(difference(torc_forward(net, x), torc_forward(net, x), 6) > 0.01);
    torc_eval(net);
    CHECK_NEAR(difference(torc_forward(net, x), torc_forward(net, x), 6), 0, 0);
}

TEST(no_sequences_and_no_tokens_pass)
{
    torc_module *net = torc_transformer_block(8, 2);
    torc_tensor *none = torc_forward(net, torc_zeros(TORC_SHAPE(0, 5, 8)));
    CHECK_INT(torc_size(none, 1), 5);
    torc_backward(torc_sum(none));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(torc_parameter_at(net, 2, NULL)))), 0, 0);
    CHECK_INT(torc_size(torc_forward(net, torc_zeros(TORC_SHAPE(3, 0, 8))), 0), 3);
}

TEST_DIES(heads_must_divide, 1,
          "torc_causal_self_attention: expected a width that the heads divide, found 8 and 3")
{
    torc_transformer_block(8, 3);
}

TEST_DIES(an_input_of_another_width, 1, "torc_layer_norm_op: ")
{
    torc_forward(torc_transformer_block(8, 2), torc_ones(TORC_SHAPE(1, 2, 6)));
}
