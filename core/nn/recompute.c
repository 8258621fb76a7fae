/*
 * recompute -- layers whose tensors are computed twice instead of kept: torc_recompute() around a
 * module's forward function.
 *
 *     torc_forward(net, x) --> is net->recompute set? --> torc_recompute(run, net, x) --> run
 *                                                                                          |
 *     backward ------------------------------------------------------------------------> run
 */
#include "core/nn/tree.h"
#include "core/recompute.h"

static torc_tensor *run(torc_tensor *const *in, void *net)
{
    return module_run(recompute_site(), net, in[0]);
}

torc_tensor *module_recompute(torc_site at, torc_module *net, torc_tensor *x)
{
    return torc_recompute(at, run, net, 1, &x);
}

torc_module *torc_recompute_layer(torc_site at, torc_module *net)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    net->recompute = true;
    return net;
}
