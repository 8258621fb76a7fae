/*
 * sgd -- stochastic gradient descent, as torch.optim.SGD:
 *
 *     g += wd p        b = mu b + (1 - damp) g, first b = g        p -= lr (nesterov ? g + mu b :
 * b)
 */
#include "core/optim/optimizer.h"

static void update(torc_optimizer *o, const stretch *s, int64_t n)
{
    sgd_step step = o->sgd;
    step.lr = o->lr;
    step.first = o->steps == 1;
    kernels_here()->sgd(s, n, step);
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
    return opt;
}
