/*
 * in_backward -- an optimizer that updates each parameter while its gradient is still in the cache.
 *
 *     backward   [ layer 3 ][ layer 2 ][ layer 1 ]
 *     gradients        w3 ready  w2 ready  w1 ready        alone: when the last contribution is in
 *     buckets               |--- sum ---|  |- sum -|       after torc_ddp(): when their mean is in
 *     updates                           w3 w2      w1
 *
 * torc_step() does what is left: parameters that no backward reached, and the count. A mean that is
 * not whole yet (virtual ranks) is taken by nobody, and where the work is divided over ranks the
 * step itself adds the gradients up in the cache: there is nothing to gain.
 */
#include "core/optim/optimizer.h"

#include "core/loss_scale.h"
#include "core/profile.h"

static void take(tape_taker *t, tensor *p, torc_site at)
{
    torc_optimizer *o = (torc_optimizer *)t;
    int64_t i = p->taker_index;
    if (!p->grad || (p->hook && (p->hook->sharding || p->hook->partial)))
        return;
    profile_enter(PROFILE_OPTIMIZER, at, "torc_step");
    optimizer_update(o, i);
    o->taken[i] = true;
    tape_clear_gradient(p);
    profile_leave();
}

void optimizer_take_in_backward(const call *c, torc_optimizer *o)
{
    if (loss_scale_expected())
        call_die(c, "expected no .in_backward with a loss scale: whether the gradients are finite "
                    "is known only when backward is over");
    if (o->clip)
        call_die(c, "expected .clip_norm or .in_backward, found both: the norm is known only when "
                    "backward is over");
    o->taker.take = take;
    o->taken = base_alloc((size_t)o->count, sizeof *o->taken);
    for (int64_t i = 0; i < o->count; i++) {
        o->parameters[i]->taker = &o->taker;
        o->parameters[i]->taker_index = i;
    }
}
