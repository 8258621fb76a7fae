/*
 * tape -- see tape.h.
 *
 * Nodes live in chunks of memory that are used again after each clearing; the array of their
 * addresses only grows. So a loop of equal steps records without allocating.
 *
 * A stretch is the end of the tape, in use as a tape of its own: closing it gives its nodes' memory
 * back, so that the next one of a step takes the same.
 */
#include "core/kernels.h"
#include "core/loss_scale.h"
#include "core/profile.h"
#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK (64 * 1024)

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char memory[];
} chunk;

static struct {
    node **nodes;
    int64_t count, room;
    chunk *first, *current;
    int no_grad;                /* depth of TORC_NO_GRAD scopes */
    bool lean;                  /* in torc_lean(true) */
    bool sparing, sparing_next; /* the last backward follows such a scope; the next will */
    int open;                   /* stretches */
    bool in_backward;
    tape_hook *hooks;
} tape;

/* ---- recording ---- */

static void *arena_take(size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    while (tape.current && tape.current->used + bytes > tape.current->size && tape.current->next)
        tape.current = tape.current->next;
    if (!tape.current || tape.current->used + bytes > tape.current->size) {
        size_t size = bytes > CHUNK ? bytes : CHUNK;
        chunk *c = base_alloc(1, sizeof *c + size);
        c->size = size;
        if (tape.current)
            tape.current->next = c;
        else
            tape.first = c;
        tape.current = c;
    }
    void *memory = tape.current->memory + tape.current->used;
    tape.current->used += bytes;
    return memset(memory, 0, bytes);
}

bool tape_recording(void)
{
    return tape.no_grad == 0;
}

bool tape_is_lean(void)
{
    return tape.lean;
}

void tape_set_lean(bool on)
{
    tape.lean = on;
}

bool tape_is_sparing(void)
{
    return tape.sparing;
}

void tape_spare_gradients(void)
{
    for (tape_hook *h = tape.hooks; h && tape.sparing; h = h->next) {
        size_t before = h->vacant;
        h->vacate(h);
        storage_make_room((int64_t)before - (int64_t)h->vacant);
    }
}

static void poll_hooks(void)
{
    for (tape_hook *h = tape.hooks; h; h = h->next)
        if (h->armed)
            h->poll(h);
}

void *tape_record(const call *c, tape_backward backward, tensor *out, int inputs, tensor *const *in,
                  size_t saved_bytes)
{
    status_op(STATUS_FORWARD, c->at, c->op);
    profile_op_ends(c->at, c->op);
    if (tape.in_backward)
        poll_hooks();
    bool wanted = false;
    for (int i = 0; i < inputs; i++)
        wanted = wanted || in[i]->requires_grad;
    if (!wanted || !tape_recording())
        return NULL;
    node *n = arena_take(sizeof *n + (size_t)inputs * sizeof *in);
    tape.sparing_next = tape.sparing_next || tape.lean;
    n->made = *c;
    n->backward = backward;
    n->out = tensor_share(out);
    n->saved = arena_take(saved_bytes ? saved_bytes : 1);
    n->index = tape.count;
    n->inputs = inputs;
    for (int i = 0; i < inputs; i++)
        n->in[i] = tensor_share(in[i]);
    if (tape.count == tape.room) {
        tape.room = tape.room ? 2 * tape.room : 256;
        tape.nodes = base_grow(tape.nodes, (size_t)tape.room, sizeof *tape.nodes);
    }
    tape.nodes[tape.count++] = n;
    out->maker = n;
    out->requires_grad = true;
    return n->saved;
}

void tape_unread(tensor *out, bool inputs, bool result)
{
    if (!out->maker)
        return;
    out->maker->in_unread = inputs;
    out->maker->out_unread = result;
}

/* What a user kept goes on as a plain value: the history behind it is gone. */
static void forget_node(node *n)
{
    n->out->maker = NULL;
    n->out->requires_grad = false;
    for (int i = 0; i < n->inputs; i++)
        tensor_unshare(n->in[i]);
    tensor_unshare(n->out);
}

/* The nodes from number `count` on go, and with them all memory after `used` of c (NULL: all). */
static void forget_from(int64_t count, chunk *c, size_t used)
{
    while (tape.count > count)
        forget_node(tape.nodes[--tape.count]);
    tape.current = c ? c : tape.first;
    for (chunk *rest = tape.current; rest; rest = rest->next)
        rest->used = rest == c ? used : 0;
}

static void refuse_in_stretch(const call *c)
{
    if (tape.open)
        call_die(c, "not inside the function of a torc_recompute()");
}

void torc_tape_clear(torc_site at)
{
    refuse_in_stretch(&(call){at, __func__});
    forget_from(0, NULL, 0);
    tensor_release_tape(at);
}

/* ---- stretches ---- */

void tape_open(tape_stretch *s)
{
    s->first = tape.count;
    s->chunk = tape.current;
    s->used = tape.current ? tape.current->used : 0;
    s->no_grad = tape.no_grad;
    tensor_fence(&s->fence);
    tape.no_grad = 0;
    tape.open++;
}

void tape_close(tape_stretch *s, const tensor *result, torc_site where)
{
    forget_from(s->first, s->chunk, s->used);
    tensor_release_since(&s->fence, result, where);
    tape.no_grad = s->no_grad;
    tape.open--;
}

int64_t tape_count(void)
{
    return tape.count;
}

node *tape_node(int64_t index)
{
    return tape.nodes[index];
}

bool tape_replaying(void)
{
    return tape.in_backward;
}

/* ---- scopes ---- */

static void leave_no_grad(void *unused)
{
    (void)unused;
    tape.no_grad--;
}

torc_scope torc_no_grad_enter(void)
{
    tape.no_grad++;
    return (torc_scope){leave_no_grad, NULL, 1};
}

static void leave_lean(void *outer)
{
    tape.lean = (intptr_t)outer;
}

torc_scope torc_lean_enter(bool on)
{
    bool outer = tape.lean;
    tape.lean = on;
    return (torc_scope){leave_lean, (void *)(intptr_t)outer, 1};
}

void torc_scope_leave(torc_scope *scope)
{
    if (scope->open)
        scope->leave(scope->what);
    scope->open = 0;
}

/* ---- backward ---- */

static void refuse_second(const call *c, const node *n)
{
    if (n->used.line)
        call_die(
            c,
            "the tape was used up by the backward at %s; a second one needs a second forward pass",
            base_site_text(n->used));
}

/* For every tensor that the loss depends on, back to node `first`: how many contributions its
 * gradient will get. */
static void count_contributions(const call *c, tensor *loss, int64_t first)
{
    loss->reached = true;
    for (int64_t i = loss->maker->index; i >= first; i--) {
        node *n = tape.nodes[i];
        if (!n->out->reached)
            continue;
        refuse_second(c, n);
        for (int j = 0; j < n->inputs; j++) {
            tensor *t = n->in[j];
            if (!t->requires_grad)
                continue;
            t->reached = true;
            t->awaited++;
            if (t->hook)
                t->hook->armed = true;
        }
    }
}

/* All contributions to a parameter's gradient are in. */
static void is_final(const node *n, tensor *t)
{
    if (t->hook)
        t->hook->ready(t->hook, t);
    else if (t->taker)
        t->taker->take(t->taker, t, n->used);
}

/* One contribution of each input is in; those that were the last make their parameter ready. */
static void settle_inputs(node *n)
{
    for (int j = 0; j < n->inputs && !n->settled; j++) {
        tensor *t = n->in[j];
        if (!t->requires_grad || --t->awaited > 0)
            continue;
        if (tape_is_leaf(t))
            t->reached = false;
        is_final(n, t);
    }
}

static tensor *full_like(const call *c, const tensor *t, double value)
{
    tensor *g = tensor_create_like(c, t, t->dtype, OWNER_HOUSE);
    kernels_here()->fill(g, value);
    return g;
}

static void run_node(node *n, torc_site at)
{
    tensor *grad = n->out->grad;
    n->out->grad = NULL;
    n->out->reached = false;
    n->used = at;
    status_op(STATUS_BACKWARD, n->made.at, n->made.op);
    profile_enter(PROFILE_BACKWARD, n->made.at, n->made.op);
    if (!grad && n->collective)
        grad = full_like(&n->made, n->out, 0);
    if (grad) {
        tape_make_again_for(n);
        n->backward(n, grad);
    }
    tensor_drop(grad);
    if (n->out->unnamed) /* those who read it came after its maker, and have run */
        tensor_empty(n->out);
    settle_inputs(n);
    profile_leave();
    poll_hooks();
}

static void run_nodes(int64_t newest, int64_t first, torc_site at)
{
    for (int64_t i = newest; i >= first; i--)
        if (tape.nodes[i]->out->reached)
            run_node(tape.nodes[i], at);
}

/* The one contribution that n was counted for is replaced by those of the stretch. */
void tape_differentiate(node *n, const tape_stretch *s, tensor *out, tensor *grad)
{
    count_contributions(&n->made, out, s->first);
    settle_inputs(n);
    n->settled = true;
    out->grad = tensor_share(grad);
    run_nodes(out->maker->index, s->first, n->used);
}

/* Tells the hooks that a backward begins; returns the gradient that the loss starts with, but for
 * the loss scale. */
static double begin_hooks(torc_site at, const tensor *loss)
{
    double weight = isnan(loss->weight) ? 1 : loss->weight, seed = 1;
    for (tape_hook *h = tape.hooks; h; h = h->next)
        if (h->armed) {
            h->begin(h, at, weight);
            seed = weight;
        }
    return seed;
}

static void end_hooks(torc_site at)
{
    status_op(STATUS_IDLE, at, "torc_backward");
    for (tape_hook *h = tape.hooks; h; h = h->next)
        if (h->armed) {
            h->armed = false;
            h->end(h, at);
        }
}

void torc_backward(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *loss = tensor_of(&c, handle);
    refuse_in_stretch(&c);
    if (tensor_numel(loss) != 1)
        call_die(&c, "expected a loss of one element, found %s", tensor_shape_text(loss));
    if (!loss->requires_grad || !loss->maker)
        call_die(&c, "the loss depends on nothing that requires a gradient");
    refuse_second(&c, loss->maker);
    profile_enter(PROFILE_BACKWARD, at, __func__);
    count_contributions(&c, loss, 0);
    double seed = begin_hooks(at, loss);
    loss_scale_begin();
    if (seed != 0) { /* else nothing was seen, and no gradient asks for no arithmetic */
        loss->grad = tensor_create_like(&c, loss, loss->dtype, OWNER_HOUSE);
        loss_scale_seed(loss->grad, seed);
    }
    tape.in_backward = true;
    tape.sparing = tape.sparing_next;
    base_breath before = base_on_breath(poll_hooks);
    run_nodes(loss->maker->index, 0, at);
    base_on_breath(before);
    tape.in_backward = tape.sparing_next = false;
    end_hooks(at);
    profile_leave();
}

void tape_attach(tape_hook *h)
{
    h->next = tape.hooks;
    tape.hooks = h;
}

void tape_detach(tape_hook *h)
{
    tape_hook **at = &tape.hooks;
    while (*at && *at != h)
        at = &(*at)->next;
    if (*at)
        *at = h->next;
}
