/*
 * transformer -- causal self-attention and the pre-norm block around it, with GPT-2's names
 * (Radford et al. 2019).
 *
 *     x --+-- ln_1 -- attn --(+)--+-- ln_2 -- mlp.c_fc -- gelu -- mlp.c_proj --(+)-- y
 *         |___________________|   |_____________________________________________|
 *
 * Normalising before each branch, not after the sum, leaves a straight way from y to x that a deep
 * stack's gradients can take. Dropout, where asked for, is on what a branch adds.
 */
#include "core/nn/module.h"
#include "core/ops/ops.h"

/* ---- attention: one projection to q, k and v, one back ----
 *
 *     [B, T, D] -- c_attn --> [B, T, 3 D] -- attention of the heads --> [B, T, D] -- c_proj -->
 */

typedef struct attention {
    torc_module *c_attn, *c_proj, *dropout;
    int heads;
} attention;

static torc_tensor *attention_forward(torc_module *self, torc_tensor *x)
{
    const attention *s = torc_module_state(self);
    torc_site at = module_site();
    torc_tensor *qkv = torc_forward(at, s->c_attn, x);
    torc_tensor *y = op_qkv_attention(at, qkv, s->heads, true);
    module_let_go(at, self, qkv);
    return module_pass(at, self, s->dropout, module_pass(at, self, s->c_proj, y));
}

torc_module *torc_causal_self_attention(torc_site at, int64_t width, int heads,
                                        torc_attention_layer_options o)
{
    if (heads < 1 || width < 1 || width % heads)
        die_at(at, __func__, "expected a width that the heads divide, found %lld and %d",
               (long long)width, heads);
    torc_linear_options usual = {0};
    torc_module *m = module_new(at, "CausalSelfAttention", attention_forward, sizeof(attention));
    attention *s = torc_module_state(m);
    s->heads = heads;
    s->c_attn = torc_child(at, m, "c_attn", torc_linear(at, width, 3 * width, usual));
    s->c_proj = torc_child(at, m, "c_proj", torc_linear(at, width, width, usual));
    s->dropout = torc_child(at, m, "resid_dropout", torc_dropout(at, o.dropout));
    return m;
}

/* ---- the two layers behind attention ---- */

typedef struct mlp {
    torc_module *c_fc, *c_proj, *dropout;
} mlp;

static torc_tensor *mlp_forward(torc_module *self, torc_tensor *x)
{
    const mlp *s = torc_module_state(self);
    torc_site at = module_site();
    torc_tensor *y = module_activated(at, s->c_fc, x, EW_gelu_tanh);
    return module_pass(at, self, s->dropout, module_pass(at, self, s->c_proj, y));
}

static torc_module *mlp_new(torc_site at, int64_t width, double dropout)
{
    torc_linear_options usual = {0};
    torc_module *m = module_new(at, "MLP", mlp_forward, sizeof(mlp));
    mlp *s = torc_module_state(m);
    s->c_fc = torc_child(at, m, "c_fc", torc_linear(at, width, 4 * width, usual));
    s->c_proj = torc_child(at, m, "c_proj", torc_linear(at, 4 * width, width, usual));
    s->dropout = torc_child(at, m, "dropout", torc_dropout(at, dropout));
    return m;
}

/* ---- the block ---- */

typedef struct block {
    torc_module *ln_1, *attn, *ln_2, *mlp;
} block;

static torc_tensor *block_forward(torc_module *self, torc_tensor *x)
{
    const block *s = torc_module_state(self);
    torc_site at = module_site();
    torc_tensor *middle, *h = module_pass(at, self, s->attn, torc_forward(at, s->ln_1, x));
    torc_tensor *normed = module_norm_of_sum(at, s->ln_2, x, h, &middle);
    module_let_go(at, self, h);
    torc_tensor *branch = module_pass(at, self, s->mlp, normed);
    torc_tensor *y = torc_add(at, middle, branch);
    module_let_go(at, self, branch);
    module_let_go(at, self, middle);
    return y;
}

torc_module *torc_transformer_block(torc_site at, int64_t width, int heads,
                                    torc_attention_layer_options o)
{
    torc_norm_options usual = {0};
    torc_module *m = module_new(at, "TransformerBlock", block_forward, sizeof(block));
    block *s = torc_module_state(m);
    s->ln_1 = torc_child(at, m, "ln_1", torc_layer_norm(at, width, usual));
    s->attn = torc_child(at, m, "attn", torc_causal_self_attention(at, width, heads, o));
    s->ln_2 = torc_child(at, m, "ln_2", torc_layer_norm(at, width, usual));
    s->mlp = torc_child(at, m, "mlp", mlp_new(at, width, o.dropout));
    return m;
}
