/*
 * gradient -- where the gradients that backward functions give, or write, end up.
 *
 *     intermediate tensor    the first tensor that is given becomes its gradient, without a copy
 *     leaf                   its gradient has a place of its own, where it stays: see
 *                            tape_place_gradient()
 */
#include "core/kernels.h"

#include <math.h>

/* ---- given, or written into place ---- */

bool tape_wants(const node *n, int input)
{
    return n->in[input]->requires_grad;
}

static void add_to(tensor *sum, const tensor *g)
{
    kernels_here()->elementwise(EW_mul_scalar, sum, 1, &g, 1, 0, true);
}

/* A gradient is always laid out like its tensor (tensor_create_like), so that a kernel that got the
 * tensor in some order of dimensions gets the gradient in the same. */
static bool has_layout_of(const tensor *g, const tensor *t)
{
    if (!tensor_is_dense(t))
        return tensor_is_contiguous(g);
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] > 1 && g->stride[i] != t->stride[i])
            return false;
    return true;
}

/* May a kernel add to t's gradient in place? Not if others see the same memory, as after `y = x +
 * f(x)`, where both inputs were handed the same tensor. A leaf's gradient is its own, though it may
 * be a view of a bucket. */
static void make_writable(const call *c, tensor *t)
{
    if (tape_is_leaf(t) || (t->grad->refs == 1 && t->grad->store->refs == 1))
        return;
    tensor *own = tensor_create_like(c, t, t->dtype, OWNER_HOUSE);
    kernels_here()->copy(own, t->grad);
    tensor_drop(t->grad);
    t->grad = own;
}

tensor *tape_reuse(const call *c, tensor *grad)
{
    bool alone = grad->refs == 1 && grad->store->refs == 1;
    return alone ? tensor_share(grad) : tensor_create_like(c, grad, grad->dtype, OWNER_HOUSE);
}

/* The memory that this gradient takes now, unused values of forward give. */
static void take_room(const tensor *t, tape_hook *h)
{
    size_t bytes = (size_t)tensor_numel(t) * torc_dtype_size(t->dtype);
    size_t taken = bytes < h->vacant ? bytes : h->vacant;
    h->vacant -= taken;
    if (taken && tape_is_sparing())
        storage_make_room((int64_t)taken);
}

static sink sink_of(const call *c, tensor *t)
{
    if (!t->grad) {
        t->grad = tensor_create_like(c, t, t->dtype, OWNER_HOUSE);
        return (sink){t->grad, false};
    }
    bool fresh = t->grad->zero_pending;
    if (fresh && t->hook)
        take_room(t, t->hook);
    t->grad->zero_pending = false;
    if (!fresh)
        make_writable(c, t);
    return (sink){t->grad, !fresh};
}

sink tape_sink(node *n, int input)
{
    return tape_wants(n, input) ? sink_of(&n->made, n->in[input]) : (sink){NULL, false};
}

/* A leaf's gradient has a place of its own, where it stays; everywhere else the first to come is
 * taken as it is. */
static void give(const call *c, tensor *t, tensor *g)
{
    if (!tape_is_leaf(t) && !t->grad && has_layout_of(g, t)) {
        t->grad = g;
        return;
    }
    sink s = sink_of(c, t);
    if (s.add)
        add_to(s.t, g);
    else
        kernels_here()->copy(s.t, g);
    tensor_drop(g);
}

void tape_give(node *n, int input, tensor *g)
{
    if (tape_wants(n, input))
        give(&n->made, n->in[input], g);
    else
        tensor_drop(g);
}

void tape_give_summed(node *n, int input, tensor *g)
{
    tensor *t = n->in[input];
    if (!tape_wants(n, input) || tensor_same_shape(t, g)) {
        tape_give(n, input, g);
        return;
    }
    sink s = tape_sink(n, input);
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    for (int i = 0; i < g->ndim; i++) {
        int own = i - (g->ndim - t->ndim);
        shape[i] = own < 0 ? 1 : t->shape[own];
        stride[i] = own < 0 ? 0 : s.t->stride[own];
    }
    tensor *as_wide = tensor_view(&n->made, s.t, g->ndim, shape, stride, s.t->offset, OWNER_HOUSE);
    kernels_here()->reduce(REDUCE_SUM, as_wide, g, 1, s.add);
    tensor_drop(as_wide);
    tensor_drop(g);
}

void tape_place_gradient(tensor *p, storage *store, int64_t offset)
{
    const call c = {p->made, "gradient"};
    tensor base = *p, *old = p->grad;
    base.store = store;
    p->grad = tensor_view(&c, &base, p->ndim, p->shape, p->stride, offset, OWNER_HOUSE);
    p->grad->zero_pending = !old || old->zero_pending;
    if (old && !old->zero_pending)
        kernels_here()->copy(p->grad, old);
    tensor_drop(old);
}

/* ---- what a user asks of gradients, and of the weights of losses ---- */

torc_tensor *torc_grad(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    if (!t->grad)
        return NULL;
    if (t->hook && t->hook->apart)
        call_die(&c, "with .shard_optimizer a gradient is whole only after torc_clip_grad_norm()");
    if (t->hook) /* in the user's hands it may change */
        t->hook->squares = NAN;
    tensor_settle(t->grad);
    return tensor_handle(t->grad);
}

void tape_clear_gradient(tensor *t)
{
    if (t->grad)
        t->grad->zero_pending = true;
    if (t->hook)
        t->hook->squares = NAN;
}

void torc_zero_grad_of(torc_site at, torc_tensor *handle)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    tape_clear_gradient(t);
}

bool torc_requires_grad(torc_site at, torc_tensor *handle)
{
    return tensor_of(&(call){at, __func__}, handle)->requires_grad;
}

void torc_set_requires_grad(torc_site at, torc_tensor *handle, bool on)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    if (t->maker)
        call_die(&c, "this tensor is the result of an op; only one that you made can be switched");
    if (on && !tensor_is_float(t))
        call_die(&c, "a gradient needs a float dtype, found %s", torc_dtype_name(t->dtype));
    t->requires_grad = on;
}

void torc_set_weight(torc_site at, torc_tensor *loss, double weight)
{
    const call c = {at, __func__};
    if (!(weight >= 0) || isinf(weight))
        call_die(&c, "expected a weight of 0 or more, found %g", weight);
    tensor_of(&c, loss)->weight = weight;
}

double torc_weight(torc_site at, torc_tensor *loss)
{
    double weight = tensor_of(&(call){at, __func__}, loss)->weight;
    return isnan(weight) ? 1 : weight;
}
