/* optimizer -- see optimizer.h. */
#include "core/optim/optimizer.h"

#include "core/loss_scale.h"
#include "core/nn/module.h"
#include "core/profile.h"
#include "core/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LINE 16    /* floats of a cache line */
#define ROOM 16384 /* floats a thread: gradients that are added up on the way stay in its L2 */

static torc_optimizer *all;

/* ---- checks ---- */

void optimizer_check(const call *c, const char *name, float value, float low, float high)
{
    if (!(value >= low && value < high))
        call_die(c, "expected %s from %g to below %g, found %g", name, (double)low, (double)high,
                 (double)value);
}

/* A step of 0 is fine: schedules end there. */
static void check_lr(const call *c, float lr)
{
    if (!(lr >= 0) || isinf(lr))
        call_die(c, "expected a finite lr of 0 or more, found %g", (double)lr);
}

void optimizer_check_item(const call *c, const module_item *item)
{
    if (item->t->dtype != TORC_F32)
        call_die(c, "expected float32 parameters, found %s, which is %s", item->name,
                 torc_dtype_name(item->t->dtype));
    if (!tensor_is_dense(item->t))
        call_die(c, "%s has gaps between its elements; torc_contiguous() copies it", item->name);
}

/* ---- making ---- */

static storage *zeros(const call *c, int64_t elements)
{
    tensor *t = tensor_create(c, TORC_F32, 1, &elements, OWNER_HOUSE);
    kernels_here()->fill(t, 0);
    storage *s = storage_share(t->store);
    tensor_drop(t);
    return s;
}

/* The elements of p that this rank updates. */
static void owned_part(const tensor *p, int64_t *first, int64_t *end)
{
    *first = 0;
    *end = tensor_numel(p);
    if (p->hook && p->hook->sharding)
        p->hook->sharding->owned(p->hook, p, first, end);
}

/* Takes hold of net's parameters; returns the elements that a piece of state has. */
static int64_t take_parameters(torc_optimizer *o, const call *c, torc_module *net)
{
    int64_t elements = 0, items;
    const module_item *item = module_items(net, &items);
    for (int64_t i = 0; i < o->count; i++) {
        optimizer_check_item(c, &item[i]);
        o->parameters[i] = tensor_share(item[i].t);
        int64_t end;
        o->offset[i] = elements;
        owned_part(item[i].t, &o->first[i], &end);
        elements += (end - o->first[i] + LINE - 1) / LINE * LINE;
    }
    return elements;
}

torc_optimizer *optimizer_new(const call *c, torc_module *net, float lr, int states)
{
    if (!net)
        call_die(c, "expected a module, found NULL");
    if (lr == 0 && !signbit(lr))
        call_die(c, "lr is required, e.g. .lr = 0.1f");
    check_lr(c, lr);
    int64_t n = torc_parameter_count(net);
    if (n == 0)
        call_die(c, "the module has no parameters");
    torc_optimizer *o = base_alloc(1, sizeof *o);
    *o = (torc_optimizer){.lr = lr + 0.0f, .count = n, .next = all};
    o->parameters = base_alloc((size_t)n, sizeof *o->parameters);
    o->steps = base_alloc((size_t)n, sizeof *o->steps);
    o->took = base_alloc((size_t)n, sizeof *o->took);
    o->offset = base_alloc((size_t)n, sizeof *o->offset);
    o->first = base_alloc((size_t)n, sizeof *o->first);
    o->stretches = base_alloc((size_t)n, sizeof *o->stretches);
    o->step_of = base_alloc((size_t)n, sizeof *o->step_of);
    int64_t elements = take_parameters(o, c, net);
    o->m = states > 0 ? zeros(c, elements) : NULL;
    o->v = states > 1 ? zeros(c, elements) : NULL;
    if (all)
        all->prev = o;
    all = o;
    return o;
}

void torc_optimizer_free(torc_optimizer *o)
{
    if (!o)
        return;
    if (o->prev)
        o->prev->next = o->next;
    else
        all = o->next;
    if (o->next)
        o->next->prev = o->prev;
    for (int64_t i = 0; i < o->count; i++) {
        if (o->parameters[i]->taker == &o->taker)
            o->parameters[i]->taker = NULL;
        tensor_unshare(o->parameters[i]);
    }
    if (o->m)
        storage_release(o->m);
    if (o->v)
        storage_release(o->v);
    optimizer_drop_clipping(o);
    free(o->parameters);
    free(o->steps);
    free(o->took);
    free(o->taken);
    free(o->offset);
    free(o->first);
    free(o->room);
    free(o->stretches);
    free(o->step_of);
    free(o);
}

void optimizer_free_all(void)
{
    while (all)
        torc_optimizer_free(all);
}

bool optimizer_any_in_backward(void)
{
    const torc_optimizer *o = all;
    while (o && !o->taken)
        o = o->next;
    return o != NULL;
}

/* ---- a step ---- */

static float *state_of(const storage *s, int64_t offset)
{
    return s ? (float *)s->data + offset : NULL;
}

/* Neighbours that are at the same step, normally all, are one kernel call. */
static void update_listed(torc_optimizer *o)
{
    for (int64_t first = 0, end = 0; first < o->listed; first = end) {
        while (end < o->listed && o->step_of[end] == o->step_of[first])
            end++;
        o->update(o, &o->stretches[first], end - first, o->step_of[first]);
    }
    o->listed = o->room_used = 0;
}

static void list(torc_optimizer *o, int64_t i, float *g, int64_t first, int64_t n)
{
    int64_t state = o->offset[i] + first - o->first[i];
    o->step_of[o->listed] = o->steps[i];
    o->stretches[o->listed++] = (stretch){
        .p = (float *)tensor_data(o->parameters[i]) + first,
        .g = g,
        .m = state_of(o->m, state),
        .v = state_of(o->v, state),
        .n = n,
    };
}

/* What this rank owns of a parameter, as far as there is room for its gradient, then the rest. */
static void list_owned(torc_optimizer *o, int64_t i)
{
    const tensor *p = o->parameters[i];
    int64_t first, end;
    owned_part(p, &first, &end);
    if (!o->room) {
        o->room_size = ROOM * torc_threads();
        o->room = base_alloc((size_t)o->room_size, sizeof *o->room);
    }
    for (int64_t n; first < end; first += n) {
        n = min_i64(end - first, o->room_size - o->room_used);
        float *room = o->room + o->room_used;
        list(o, i, p->hook->sharding->mean(p->hook, p, first, n, room), first, n);
        o->room_used += n;
        if (o->room_used == o->room_size)
            update_listed(o);
    }
}

/* Where p and g are is asked anew in every step, because torc_ddp() moves gradients into buckets
 * after the first. */
static void list_parameter(torc_optimizer *o, int64_t i)
{
    tensor *p = o->parameters[i];
    o->steps[i]++;
    if (p->hook && p->hook->sharding && p->hook->sharding->mean) {
        list_owned(o, i);
        return;
    }
    int64_t first, end;
    owned_part(p, &first, &end);
    tensor_settle(p->grad);
    list(o, i, (float *)tensor_data(p->grad) + first, first, end - first);
}

void optimizer_update(torc_optimizer *o, int64_t i)
{
    list_parameter(o, i);
    update_listed(o);
}

static bool is_taken(const torc_optimizer *o, int64_t i)
{
    return o->taken && o->taken[i];
}

static bool takes_part(const torc_optimizer *o, const call *c, int64_t i)
{
    const tensor *p = o->parameters[i];
    if (p->owner != OWNER_USER)
        call_die(c,
                 "parameter %lld %s is gone: its module was freed, or torc_share_parameter() "
                 "put another in its place",
                 (long long)i, tensor_shape_text(p));
    return p->grad && p->requires_grad;
}

/* The ranks that share this work wait for each other; those of several hooks one after the other.
 */
static void meet_owners(const torc_optimizer *o, torc_site at)
{
    const tape_hook *met = NULL;
    for (int64_t i = 0; i < o->count; i++) {
        tape_hook *h = o->parameters[i]->hook;
        if (h && h->sharding && h != met)
            h->sharding->updated(h, at);
        met = h ? h : met;
    }
}

/* Is this the gradient of a part of the batch, of which the rest is still to come? */
static bool is_partial(const tensor *p)
{
    return p->hook && p->hook->partial;
}

static bool must_wait(const torc_optimizer *o)
{
    bool partial = false;
    for (int64_t i = 0; i < o->count; i++)
        partial = partial || is_partial(o->parameters[i]);
    return partial;
}

bool optimizer_must_wait(torc_module *net)
{
    int64_t items;
    const module_item *item = module_items(net, &items);
    bool partial = false;
    for (int64_t i = 0; i < torc_parameter_count(net); i++)
        partial = partial || is_partial(item[i].t);
    return partial;
}

_Noreturn void optimizer_die_of_no_gradient(const call *c)
{
    call_die(c, "no parameter has a gradient: torc_backward() comes first");
}

/* Returns how many take part; some may have been updated already. */
static int64_t list_all(torc_optimizer *o, const call *c)
{
    int64_t taking = 0;
    for (int64_t i = 0; i < o->count; i++) {
        o->took[i] = takes_part(o, c, i);
        if (o->took[i] && !is_taken(o, i))
            list_parameter(o, i);
        taking += o->took[i];
    }
    return taking;
}

void torc_step(torc_site at, torc_optimizer *o)
{
    const call c = {at, __func__};
    if (!o)
        call_die(&c, "expected an optimizer, found NULL");
    status_op(STATUS_OPTIMIZER, at, __func__);
    if (must_wait(o))
        return;
    profile_enter(PROFILE_OPTIMIZER, at, __func__);
    optimizer_learn(o);
    optimizer_measure(o, at);
    if (list_all(o, &c) == 0)
        optimizer_die_of_no_gradient(&c);
    update_listed(o);
    meet_owners(o, at);
    optimizer_tell(o);
    o->updates++;
    tensor_changed();
    status_count_step(torc_memory().peak_bytes);
    for (int64_t i = 0; i < o->count; i++)
        tape_clear_gradient(o->parameters[i]);
    tape_spare_gradients();
    if (o->taken)
        memset(o->taken, 0, (size_t)o->count * sizeof *o->taken);
    if (device_current()->step_over)
        device_current()->step_over();
    profile_leave();
}

int64_t torc_steps(torc_site at, torc_optimizer *o)
{
    if (!o)
        die_at(at, __func__, "expected an optimizer, found NULL");
    return o->updates;
}

/* ---- the learning rate ---- */

float torc_lr(torc_optimizer *o)
{
    if (!o)
        die_at((torc_site){0}, __func__, "expected an optimizer, found NULL");
    return o->lr;
}

void torc_set_lr(torc_site at, torc_optimizer *o, float lr)
{
    const call c = {at, __func__};
    if (!o)
        call_die(&c, "expected an optimizer, found NULL");
    check_lr(&c, lr);
    o->lr = lr;
}
