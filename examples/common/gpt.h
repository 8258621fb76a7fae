/*
 * gpt -- GPT-2's network (Radford et al. 2019): token and position embeddings, pre-norm blocks, and
 * an output layer that shares the token embedding's weights.
 *
 *     ids [B, T] --> wte + wpe --> h0 --> h1 --> ... --> ln_f --> logits [B, T, vocabulary]
 *
 * A module of our own, made of torc's layers. These two files need torc.h and nothing else: copy
 * them into your program.
 */
#ifndef EXAMPLES_GPT_H
#define EXAMPLES_GPT_H

#include "torc.h"

typedef struct gpt_sizes {
    long vocabulary, context; /* tokens that there are, and that are seen at once */
    long layers, heads, width;
} gpt_sizes;

/* Takes ids [B, T] of i64 with T up to `context`; gives logits [B, T, vocabulary]. Weights start as
 * GPT-2's do: normal with deviation 0.02, residual projections divided by sqrt(2 layers), biases 0.
 */
torc_module *gpt_new(gpt_sizes sizes);
/* Backward computes the tensors within a block again; between blocks they are kept. Call it on what
 * gpt_new() returned, before torc_ddp(). */
void gpt_recompute(torc_module *net);

#endif
