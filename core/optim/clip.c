/*
 * clip -- gradients scaled so that their joint norm stays below a limit (Pascanu, Mikolov, Bengio
 * 2013): one step off a cliff then costs one step's length, not the model.
 *
 * After torc_backward() every rank holds the same mean, so every rank finds the same norm, to the
 * bit, and nothing needs to be sent.
 */
#include "core/nn/module.h"
#include "core/optim/optimizer.h"
#include "core/profile.h"

#include <math.h>
#include <stdlib.h>

/* The sum over ranks brings it along, once it has been asked for; else it is one pass more. */
static double squares_of(torc_module *net, const stretch *s, int64_t n)
{
    tape_hook *h = module_hook(net);
    if (h)
        h->wants_squares = true;
    return h && !isnan(h->squares) ? h->squares : kernels_here()->sum_squares(s, n);
}

double torc_clip_grad_norm(torc_site at, torc_module *net, double max_norm)
{
    const call c = {at, __func__};
    if (!(max_norm >= 0))
        call_die(&c, "expected a max_norm of 0 or more, found %g", max_norm);
    if (net && optimizer_must_wait(net))
        return 0;
    int64_t n;
    profile_enter(PROFILE_OPTIMIZER, at, __func__);
    stretch *s = optimizer_gradients(&c, net, &n);
    double norm = sqrt(squares_of(net, s, n));
    double factor = max_norm / (norm + 1e-6); /* as in PyTorch, whose 1e-6 keeps it below 1 */
    /* With an infinity or a NaN among them, scaling would only spread it; the caller sees it. */
    if (isfinite(norm) && factor < 1) {
        kernels_here()->scale(s, n, factor);
        if (module_hook(net))
            module_hook(net)->squares = NAN;
    }
    free(s);
    profile_leave();
    return norm;
}
