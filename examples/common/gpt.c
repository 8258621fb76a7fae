/* gpt -- see gpt.h. */
#include "examples/common/gpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 64 };

typedef struct gpt {
    torc_module *wte, *wpe, *blocks[MOST_LAYERS], *ln_f;
    long layers;
} gpt;

/* ids [B, T] -> logits [B, T, vocabulary] */
static torc_tensor *gpt_forward(torc_module *self, torc_tensor *ids)
{
    gpt *g = torc_module_state(self);
    torc_tensor *places = torc_arange(torc_size(ids, 1), .dtype = TORC_I64);
    torc_tensor *x = torc_add(torc_forward(g->wte, ids), torc_forward(g->wpe, places));
    for (long i = 0; i < g->layers; i++)
        x = torc_forward(g->blocks[i], x);
    return torc_linear_op(torc_forward(g->ln_f, x), torc_parameter_named(g->wte, "weight"), NULL);
}

static void init_weights(torc_module *net, long layers)
{
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        const char *name;
        torc_tensor *p = torc_parameter_at(net, i, &name);
        double residual = strstr(name, "c_proj") ? sqrt(2.0 * (double)layers) : 1;
        if (strstr(name, "bias"))
            torc_init_constant(p, 0);
        else if (torc_ndim(p) > 1)
            torc_init_normal(p, 0, 0.02 / residual);
    }
}

torc_module *gpt_new(gpt_sizes s)
{
    if (s.layers < 1 || s.layers > MOST_LAYERS) {
        fprintf(stderr, "gpt: expected 1 to %d layers, found %ld\n", MOST_LAYERS, s.layers);
        exit(1);
    }
    torc_module *net = torc_module_new("GPT", gpt_forward, sizeof(gpt));
    gpt *g = torc_module_state(net);
    g->layers = s.layers;
    g->wte = torc_child(net, "wte", torc_embedding(s.vocabulary, s.width));
    g->wpe = torc_child(net, "wpe", torc_embedding(s.context, s.width));
    for (long i = 0; i < s.layers; i++) {
        char name[16];
        snprintf(name, sizeof name, "h%ld", i);
        g->blocks[i] = torc_child(net, name, torc_transformer_block(s.width, (int)s.heads));
    }
    g->ln_f = torc_child(net, "ln_f", torc_layer_norm(s.width));
    init_weights(net, s.layers);
    return net;
}

void gpt_recompute(torc_module *net)
{
    gpt *g = torc_module_state(net);
    for (long i = 0; i < g->layers; i++)
        torc_recompute_layer(g->blocks[i]);
}
