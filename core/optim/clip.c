/*
 * clip -- gradients scaled so that their joint norm stays below a limit (Pascanu, Mikolov, Bengio
 * 2013): one step off a cliff then costs one step's length, not the model.
 *
 *     squares --> norm --> factor --> scale        all in the device's memory, one after the other
 *                   '- - - - - - - - - - - - ->    the host, which waits, if somebody asks
 *
 * A step needs no pass for the last: it multiplies each gradient by the factor as it reads it. With
 * a loss scale (core/clipping.h) it is the same factor that takes the scale out of them.
 *
 * After torc_backward() every rank holds the same mean, so every rank finds the same norm, to the
 * bit, and nothing needs to be sent. Where gradients are apart (tape.h, sharding) the ranks add up
 * one number, if they can; else they gather them.
 */
#include "core/loss_scale.h"
#include "core/nn/module.h"
#include "core/optim/optimizer.h"
#include "core/profile.h"

#include <math.h>
#include <stdlib.h>

/* ---- whose gradients ---- */

static bool has_gradient(const tensor *p)
{
    return p->grad && p->requires_grad;
}

/* The hook of all gradients, if they are all that it has; else NULL. */
static tape_hook *hook_of(tensor *const *p, int64_t n)
{
    tape_hook *h = NULL;
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        if (has_gradient(p[i])) {
            if (found++ > 0 && p[i]->hook != h)
                return NULL;
            h = p[i]->hook;
        }
    return h && h->parameters == found ? h : NULL;
}

/* This rank's part of them, where it is enough; else each is made whole. */
static stretch *list(tensor *const *p, int64_t n, bool parts, torc_site at, int64_t *count)
{
    stretch *s = base_alloc((size_t)n, sizeof *s);
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!has_gradient(p[i]))
            continue;
        tape_hook *h = p[i]->hook;
        int64_t first = 0, end = tensor_numel(p[i]);
        if (parts)
            h->sharding->owned(h, p[i], &first, &end);
        else if (h && h->sharding)
            h->sharding->gather(h, at);
        tensor_settle(p[i]->grad);
        float *g = tensor_data(p[i]->grad);
        s[(*count)++] = (stretch){.g = g + first, .n = end - first};
    }
    return s;
}

/* ---- the norm ---- */

/* The sum over ranks brings it along, once it has been asked for; else it is one pass more. */
static void find_squares(tape_hook *h, const stretch *s, int64_t n, clipping *found)
{
    if (h)
        h->wants_squares = true;
    if (h && !isnan(h->squares))
        device_current()->from_host(&found->squares, &h->squares, sizeof h->squares);
    else
        kernels_here()->sum_squares(&found->squares, s, n);
}

/* Queues: c, in the device's memory, is what clips the gradients of these n parameters to max_norm.
 * Nobody waits. whole: sharded gradients are gathered first. The caller frees the list of them. */
static stretch *measure(tensor *const *p, int64_t n, double max_norm, bool whole, torc_site at,
                        clipping *c, int64_t *count)
{
    tape_hook *h = hook_of(p, n);
    bool parts = !whole && h && h->apart && h->sharding->add_up;
    stretch *s = list(p, n, parts, at, count);
    find_squares(h, s, *count, c);
    if (parts)
        h->sharding->add_up(h, at, &c->squares);
    if (h) /* those of the gradients as they were */
        h->squares = NAN;
    kernels_here()->clip(c, max_norm, loss_scale_here());
    return s;
}

/* Waits for it. */
static double norm_of(const storage *found)
{
    clipping c;
    device_current()->to_host(&c, found->data, sizeof c);
    return c.norm;
}

/* ---- in a step: with .clip_norm, or a loss scale. It scales gradients as it reads them ---- */

static void make_clipping(torc_optimizer *o)
{
    static const clipping none;
    if (o->clip)
        return;
    o->clip = storage_new(sizeof none);
    device_current()->from_host(o->clip->data, &none, sizeof none);
}

void optimizer_clip_in_step(const call *c, torc_optimizer *o, float max_norm)
{
    if (!(max_norm >= 0))
        call_die(c, "expected a clip_norm of 0 or more, found %g", (double)max_norm);
    o->clip_norm = max_norm;
    if (max_norm > 0)
        make_clipping(o);
}

void optimizer_measure(torc_optimizer *o, torc_site at)
{
    loss_scale *scale = loss_scale_here();
    int64_t unused;
    o->clipping = NULL;
    if (o->clip_norm == 0 && !scale)
        return;
    make_clipping(o);
    clipping *c = o->clip->data;
    double limit = o->clip_norm > 0 ? (double)o->clip_norm : INFINITY;
    free(measure(o->parameters, o->count, limit, false, at, c, &unused));
    if (scale)
        kernels_here()->unscale(c, scale);
    o->clipping = c;
}

double torc_grad_norm(torc_site at, torc_optimizer *o)
{
    if (!o)
        die_at(at, __func__, "expected an optimizer, found NULL");
    if (o->clip_norm == 0)
        die_at(at, __func__, "expected an optimizer with .clip_norm");
    return norm_of(o->clip);
}

/* ---- the call ---- */

static tensor **parameters_of(const call *c, torc_module *net, int64_t *n)
{
    int64_t items;
    *n = torc_parameter_count(net);
    const module_item *item = module_items(net, &items);
    tensor **p = base_alloc((size_t)*n, sizeof *p);
    for (int64_t i = 0; i < *n; i++) {
        p[i] = item[i].t;
        if (!has_gradient(p[i]))
            continue;
        optimizer_check_item(c, &item[i]);
        if (p[i]->taker)
            call_die(c, "with .in_backward the gradients are used up by torc_backward()");
    }
    return p;
}

double torc_clip_grad_norm(torc_site at, torc_module *net, double max_norm)
{
    const call c = {at, __func__};
    if (!(max_norm >= 0))
        call_die(&c, "expected a max_norm of 0 or more, found %g", max_norm);
    if (!net)
        call_die(&c, "expected a module, found NULL");
    if (optimizer_must_wait(net))
        return 0;
    int64_t n;
    profile_enter(PROFILE_OPTIMIZER, at, __func__);
    tensor **p = parameters_of(&c, net, &n);
    storage *found = storage_new(sizeof(clipping));
    int64_t count;
    stretch *s = measure(p, n, max_norm, true, at, found->data, &count);
    if (count == 0)
        optimizer_die_of_no_gradient(&c);
    kernels_here()->scale(s, count, found->data);
    free(s);
    double norm = norm_of(found);
    storage_release(found);
    free(p);
    profile_leave();
    return norm;
}
