/*
 * adam -- Adam (Kingma & Ba 2015, algorithm 1) and AdamW (Loshchilov & Hutter 2019, algorithm 2),
 * as in torch.optim:
 *
 *     Adam   g += wd p             AdamW   p -= lr wd p
 *     m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
 *     p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * Adam's weight decay goes through m and v like any gradient, so a weight with large gradients is
 * hardly decayed; AdamW takes it off beside them, from all weights alike.
 */
#include "core/nn/module.h"
#include "core/optim/optimizer.h"

#include <math.h>

/* The bias of an average that started from 0 is worked out in double: in float, 1 - b2^t would have
 * lost half its digits in the first steps. */
static void update(const torc_optimizer *o, const stretch *s, int64_t n, int64_t t)
{
    adam_step step = o->adam;
    step.lr = o->lr;
    step.bias1 = 1 - pow(step.beta1, (double)t);
    step.bias2 = 1 - pow(step.beta2, (double)t);
    kernels_here()->adam(s, n, step, o->clipping);
}

static torc_optimizer *adam_new(const call *c, torc_module *net, torc_adam_options o,
                                bool decoupled)
{
    adam_step step = {.beta1 = option_or(o.beta1, 0.9f),
                      .beta2 = option_or(o.beta2, 0.999f),
                      .eps = option_or(o.eps, 1e-8f),
                      .weight_decay = option_or(o.weight_decay, decoupled ? 0.01f : 0),
                      .decoupled = decoupled};
    optimizer_check(c, "beta1", step.beta1, 0, 1);
    optimizer_check(c, "beta2", step.beta2, 0, 1);
    optimizer_check(c, "eps", step.eps, 0, 1e6f);
    optimizer_check(c, "weight_decay", step.weight_decay, 0, 1e6f);
    torc_optimizer *opt = optimizer_new(c, net, o.lr, 2);
    opt->update = update;
    opt->adam = step;
    optimizer_clip_in_step(c, opt, o.clip_norm);
    if (o.in_backward)
        optimizer_take_in_backward(c, opt);
    return opt;
}

torc_optimizer *torc_adam(torc_site at, torc_module *net, torc_adam_options o)
{
    return adam_new(&(call){at, __func__}, net, o, false);
}

torc_optimizer *torc_adamw(torc_site at, torc_module *net, torc_adam_options o)
{
    return adam_new(&(call){at, __func__}, net, o, true);
}
