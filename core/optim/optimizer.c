/* optimizer -- see optimizer.h. */
#include "core/optim/optimizer.h"

#include "core/nn/module.h"

#include <math.h>
#include <stdlib.h>

float option_or(float given, float usual)
{
    return given == 0 && !signbit(given) ? usual : given;
}

void optimizer_check(const call *c, const char *name, float value, float low, float high)
{
    if (!(value >= low && value < high))
        call_die(c, "expected %s from %g to below %g, found %g", name, (double)low, (double)high,
                 (double)value);
}

static void check_lr(const call *c, float lr)
{
    if (lr == 0 && !signbit(lr))
        call_die(c, "lr is required, e.g. .lr = 0.1f");
    if (!(lr >= 0) || isinf(lr))
        call_die(c, "expected a finite lr above 0, found %g", (double)lr);
}

static storage *zeros(int64_t elements)
{
    const call c = {{0}, "optimizer state"};
    tensor *t = tensor_create(&c, TORC_F32, 1, &elements, OWNER_HOUSE);
    kernels_here()->fill(t, 0);
    storage *s = storage_share(t->store);
    tensor_drop(t);
    return s;
}

torc_optimizer *optimizer_new(const call *c, torc_module *net, float lr, int states)
{
    if (!net)
        call_die(c, "expected a module, found NULL");
    check_lr(c, lr);
    torc_optimizer *o = base_alloc(1, sizeof *o);
    *o = (torc_optimizer){.made = *c, .net = net, .lr = lr, .count = torc_parameter_count(net)};
    o->parameters = base_alloc((size_t)o->count, sizeof *o->parameters);
    o->offset = base_alloc((size_t)o->count, sizeof *o->offset);
    o->stretches = base_alloc((size_t)o->count, sizeof *o->stretches);
    int64_t elements = 0, items;
    for (int64_t i = 0; i < o->count; i++) {
        const module_item *item = &module_items(net, &items)[i];
        if (item->t->dtype != TORC_F32)
            call_die(c, "expected float32 parameters, found %s, which is %s", item->name,
                     torc_dtype_name(item->t->dtype));
        if (!tensor_is_dense(item->t))
            call_die(c, "%s has gaps between its elements", item->name);
        o->parameters[i] = tensor_handle(item->t);
        o->offset[i] = elements;
        elements += (tensor_numel(item->t) + 15) / 16 * 16; /* each starts on a cache line */
    }
    o->m = states > 0 ? zeros(elements) : NULL;
    o->v = states > 1 ? zeros(elements) : NULL;
    return o;
}

/* Those of the parameters that have a gradient: one that no backward has reached yet is left as it
 * is. */
static int64_t list_stretches(torc_optimizer *o, const call *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < o->count; i++) {
        tensor *p = tensor_of(c, o->parameters[i]);
        if (!p->grad || !p->requires_grad)
            continue;
        tensor_settle(p->grad);
        o->stretches[n++] = (stretch){
            .p = tensor_data(p),
            .g = tensor_data(p->grad),
            .m = o->m ? (float *)o->m->data + o->offset[i] : NULL,
            .v = o->v ? (float *)o->v->data + o->offset[i] : NULL,
            .n = tensor_numel(p),
        };
    }
    return n;
}

void torc_step(torc_site at, torc_optimizer *o)
{
    const call c = {at, __func__};
    if (!o)
        call_die(&c, "expected an optimizer, found NULL");
    int64_t n = list_stretches(o, &c);
    if (n == 0 && o->count > 0)
        call_die(&c, "no parameter has a gradient: torc_backward() comes first");
    o->steps++;
    o->update(o, o->stretches, n);
    for (int64_t i = 0; i < o->count;
         i++) { /* cleared, but nothing is written: the next backward overwrites */
        tensor *p = tensor_of(&c, o->parameters[i]);
        if (p->grad)
            p->grad->zero_pending = true;
    }
}

stretch *optimizer_gradients(const call *c, torc_module *net, int64_t *count)
{
    int64_t items, n = torc_parameter_count(net);
    stretch *s = base_alloc((size_t)n, sizeof *s);
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        tensor *t = module_items(net, &items)[i].t;
        if (!t->grad)
            continue;
        if (t->dtype != TORC_F32)
            call_die(c, "expected float32 parameters, found %s", torc_dtype_name(t->dtype));
        tensor_settle(t->grad);
        s[(*count)++] = (stretch){.g = tensor_data(t->grad), .n = tensor_numel(t)};
    }
    return s;
}

float torc_lr(torc_optimizer *o)
{
    return o->lr;
}

void torc_set_lr(torc_site at, torc_optimizer *o, float lr)
{
    if (!(lr >= 0) || isinf(lr))
        die_at(at, __func__, "expected a finite lr of 0 or more, found %g", (double)lr);
    o->lr = lr;
}

void torc_optimizer_free(torc_optimizer *o)
{
    if (!o)
        return;
    if (o->m)
        storage_release(o->m);
    if (o->v)
        storage_release(o->v);
    free(o->parameters);
    free(o->offset);
    free(o->stretches);
    free(o);
}
