/*
 * sgd -- stochastic gradient descent, as torch.optim.SGD; Nesterov's step in the form of Sutskever,
 * Martens, Dahl, Hinton 2013:
 *
 *     g += wd p        b = mu b + (1 - damp) g, but b = g at first
 *     p -= lr b        nesterov: p -= lr (g + mu b)
 */
#include "core/optim/optimizer.h"

static void update(const torc_optimizer *o, const stretch *s, int64_t n, int64_t t)
{
    sgd_step step = o->sgd;
    step.lr = o->lr;
    step.first = t == 1;
    kernels_here()->sgd(s, n, step, o->clipping);
}

torc_optimizer *torc_sgd(torc_site at, torc_module *net, torc_sgd_options o)
{
    const call c = {at, __func__};
    optimizer_check(&c, "momentum", o.momentum, 0, 1);
    optimizer_check(&c, "dampening", o.dampening, 0, 1);
    optimizer_check(&c, "weight_decay", o.weight_decay, 0, 1e6f);
    if (o.nesterov && (o.momentum == 0 || o.dampening != 0))
        call_die(&c, "nesterov needs a momentum and no dampening");
    torc_optimizer *opt = optimizer_new(&c, net, o.lr, o.momentum != 0);
    opt->update = update;
    opt->sgd = (sgd_step){.momentum = o.momentum,
                          .dampening = o.dampening,
                          .weight_decay = o.weight_decay,
                          .nesterov = o.nesterov};
    optimizer_clip_in_step(&c, opt, o.clip_norm);
    if (o.in_backward)
        optimizer_take_in_backward(&c, opt);
    return opt;
}
