/*
 * recompute -- torc_recompute(): a part of the step whose tensors are computed twice instead of
 * kept (Chen, Xu, Zhang, Guestrin 2016, "Training deep nets with sublinear memory cost").
 *
 *     forward    tape  [..][ matmul ][ gelu ][ matmul ]         the function runs, and is recorded
 *                tape  [..][ recompute ]                        one node takes the nodes' place
 *     backward   tape  [..][ recompute ][..]| [ matmul ][ gelu ][ matmul ]    it runs again, at the
 *                                              <--3--   <--2--   <--1--       end of the tape
 *
 * The node's inputs are not the arguments but all that the function really read and that wants a
 * gradient, parameters included: they are found on the nodes before these are forgotten. So a
 * backward knows, before it reaches the node, whose gradients are still to come. The second run
 * reads those very tensors, and its nodes give to their gradients one after the other, as they
 * would have from the tape of the first run: the sums have the same order, and the same bits.
 * Arguments that want no gradient are inputs as well: their values have to be there once more.
 *
 * Nothing here knows of nesting. A function that calls torc_recompute() records a node like any
 * other, in both of its runs.
 */
#include "core/recompute.h"

#include "core/ops/autocast.h"
#include "core/rng.h"
#include "core/tape.h"

#include <string.h>

typedef struct recomputed {
    torc_function f;
    void *context;
    rng_place before, after; /* where the random numbers of the first run were taken */
    torc_dtype autocast;     /* the scopes of the first run */
    bool lean;
    int64_t ops; /* that the first run recorded */
    int n;
    torc_tensor *in[];
} recomputed;

/* What a node has, or is to have, as inputs: each tensor once, shared. The memory is used again, as
 * nothing runs between finding them and using them. */
static struct {
    tensor **in;
    int count, room;
    bool collective; /* some node waits for other ranks in backward */
} found;

static torc_site current_site;

torc_site recompute_site(void)
{
    return current_site;
}

static tensor *run(const call *c, torc_function f, void *context, torc_tensor *const *in)
{
    torc_site outer = current_site;
    current_site = c->at;
    torc_tensor *y = f(in, context);
    current_site = outer;
    if (!y)
        call_die(c, "expected a tensor from the function, found NULL");
    return tensor_of(c, y);
}

/* ---- what a stretch reads ---- */

static bool made_in(const tape_stretch *s, const tensor *t)
{
    return t->maker && t->maker->index >= s->first;
}

static void find(tensor *t)
{
    for (int i = 0; i < found.count; i++)
        if (found.in[i] == t)
            return;
    if (found.count == found.room) {
        found.room = found.room ? 2 * found.room : 64;
        found.in = base_grow(found.in, (size_t)found.room, sizeof *found.in);
    }
    found.in[found.count++] = tensor_share(t);
}

/* From the result back to the start. `reached` is set on tensors of the stretch alone: those before
 * it may be in the middle of a backward. */
static void find_inputs(const tape_stretch *s, tensor *y)
{
    found.collective = false;
    y->reached = true;
    for (int64_t i = y->maker->index; i >= s->first; i--) {
        node *n = tape_node(i);
        if (!n->out->reached)
            continue;
        n->out->reached = false;
        found.collective = found.collective || n->collective;
        for (int j = 0; j < n->inputs; j++) {
            if (made_in(s, n->in[j]))
                n->in[j]->reached = true;
            else if (n->in[j]->requires_grad)
                find(n->in[j]);
        }
    }
}

/* Those that find_inputs() passes over. */
static void find_plain_arguments(const call *c, int n, torc_tensor *const *in)
{
    for (int i = 0; i < n; i++) {
        tensor *t = tensor_of(c, in[i]);
        if (!t->requires_grad)
            find(t);
    }
}

static void drop_inputs(void)
{
    while (found.count > 0)
        tensor_unshare(found.in[--found.count]);
}

/* ---- the second run ---- */

/* A function that does not do the same again would give gradients of something else. */
static void check_alike(const node *n, const tape_stretch *s, tensor *y)
{
    const call *c = &n->made;
    const recomputed *r = n->saved;
    int64_t ops = tape_count() - s->first;
    if (ops != r->ops || !made_in(s, y))
        call_die(c,
                 "expected a function that does the same twice, found %lld ops in forward and %lld "
                 "when it ran again in backward",
                 (long long)r->ops, (long long)ops);
    if (!tensor_same_shape(y, n->out) || y->dtype != n->out->dtype)
        call_die(c,
                 "expected a function that does the same twice, found %s %s in forward and %s %s "
                 "when it ran again in backward",
                 torc_dtype_name(n->out->dtype), tensor_shape_text(n->out),
                 torc_dtype_name(y->dtype), tensor_shape_text(y));
    rng_place now = rng_here();
    if (memcmp(&now, &r->after, sizeof now) != 0)
        call_die(c, "expected a function that draws the same random numbers twice");
    find_inputs(s, y);
    find_plain_arguments(c, r->n, r->in);
    if (found.count != n->inputs || memcmp(found.in, n->in, (size_t)n->inputs * sizeof *n->in))
        call_die(c, "expected a function that reads the same tensors twice; those that it makes "
                    "itself cannot want a gradient");
    drop_inputs();
}

static void recompute_backward(node *n, tensor *grad)
{
    const recomputed *r = n->saved;
    rng_place now = rng_here();
    torc_dtype scope = autocast_here();
    bool lean = tape_is_lean();
    tape_stretch s;
    tape_open(&s);
    rng_return(r->before);
    autocast_return(r->autocast);
    tape_set_lean(r->lean);
    tensor *y = run(&n->made, r->f, r->context, r->in);
    autocast_return(scope);
    tape_set_lean(lean);
    check_alike(n, &s, y);
    rng_return(now);
    tape_differentiate(n, &s, y, grad);
    tape_close(&s, NULL, n->used);
}

/* ---- the first run ---- */

static void record(const call *c, const recomputed *r, tensor *y, torc_tensor *const *in)
{
    size_t bytes = (size_t)r->n * sizeof *in;
    recomputed *saved =
        tape_record(c, recompute_backward, y, found.count, found.in, sizeof *r + bytes);
    *saved = *r;
    if (r->n > 0)
        memcpy(saved->in, in, bytes);
    y->maker->collective = found.collective;
    tape_unread(y, false, true);
}

torc_tensor *torc_recompute(torc_site at, torc_function f, void *context, int n,
                            torc_tensor *const *in)
{
    const call c = {at, __func__};
    if (!f || n < 0 || (n > 0 && !in))
        call_die(&c, "expected a function and its inputs, found NULL");
    for (int i = 0; i < n; i++)
        tensor_of(&c, in[i]);
    if (!tape_recording())
        return tensor_handle(run(&c, f, context, in));
    recomputed r = {.f = f,
                    .context = context,
                    .before = rng_here(),
                    .autocast = autocast_here(),
                    .lean = tape_is_lean(),
                    .n = n};
    tape_stretch s;
    tape_open(&s);
    tensor *y = run(&c, f, context, in);
    r.after = rng_here();
    r.ops = tape_count() - s.first;
    bool differentiable = made_in(&s, y);
    if (differentiable) {
        find_inputs(&s, y);
        find_plain_arguments(&c, n, in);
    }
    tape_close(&s, y, at);
    if (differentiable)
        record(&c, &r, y, in);
    drop_inputs();
    return tensor_handle(y);
}

bool torc_is_recomputing(void)
{
    return tape_replaying();
}
