/*
 * module -- the tree of layers behind the public handle: parameters, buffers, children, and their
 * dotted names.
 *
 * Words
 *   item    a parameter or a buffer, with its name as in a PyTorch state_dict ("0.weight")
 *   shared  a parameter that two modules use: it is listed once, under its first name
 */
#ifndef TORC_MODULE_H
#define TORC_MODULE_H

#include "core/kernels.h"

#include <math.h>

typedef struct module_item {
    const char *name; /* the module's: good until the tree changes */
    tensor *t;
    bool buffer;
} module_item;

/* Parameters in order of registration, a module's own before its children's; then the buffers
 * likewise. The list is the module's, good until the tree changes. */
const module_item *module_items(torc_module *net, int64_t *count);

/* Every module of the tree, from the root down, with what is its own; `name` is dotted, "" for the
 * root. A shared parameter is shown by every module that uses it. */
typedef struct module_layer {
    const char *name, *kind;
    const module_item *items;
    int count;
} module_layer;
void module_each(torc_module *net, void (*visit)(const module_layer *layer, void *context),
                 void *context);

/* ---- for layers ---- */

/* The place that called torc_forward() on the layer that runs: what a layer of this room passes to
 * its ops. */
torc_site module_site(void);

/* The parameter or buffer that was registered as number `index`; NULL beyond the last, as for the
 * bias of a layer made without. Layers ask for it in every forward pass instead of keeping it,
 * because torc_share_parameter() may put another one in its place. */
torc_tensor *module_entry(const torc_module *m, int index);

/* torc_forward() on x, which `self` hands on for the last time, and which is not what self was
 * given: its memory goes back to the cache at once, unless backward reads it, or a layer of a
 * user's own is in the tree below self, which could have kept the handle. */
torc_tensor *module_pass(torc_site at, const torc_module *self, torc_module *next, torc_tensor *x);
void module_let_go(torc_site at, const torc_module *self, torc_tensor *x);

/* A layer of torc's own: torc_module_new() for this room. */
torc_module *module_new(torc_site at, const char *kind, torc_forward_function forward,
                        size_t state_bytes);

/* ---- a layer and the activation behind it in one kernel ----
 *
 *     Linear, Conv2d     module_offer(m, forward_with)       can end with any activation
 *     ReLU, GELU         module_is_activation(m, EW_relu)    is one
 *     Sequential         module_chain()                      finds the one before the other
 */
typedef torc_tensor *(*activated_forward)(torc_module *self, torc_tensor *x, elementwise_op act);
void module_offer(torc_module *m, activated_forward forward_with);
void module_is_activation(torc_module *m, elementwise_op act);
/* act(layer(x)). */
torc_tensor *module_activated(torc_site at, torc_module *layer, torc_tensor *x, elementwise_op act);
/* norm(x + branch) and, in *sum, x + branch: one pass where norm is a layer norm. */
torc_tensor *module_norm_of_sum(torc_site at, torc_module *norm, torc_tensor *x,
                                torc_tensor *branch, torc_tensor **sum);
/* The first of n layers on x, and the second with it where that is one kernel; *used says how many.
 */
torc_tensor *module_chain(torc_site at, torc_module *const *layers, int n, torc_tensor *x,
                          int *used);

/* What an option means: `usual` where the field was left out, 0 for TORC_ZERO. */
static inline float option_or(float given, float usual)
{
    return given == 0 && !signbit(given) ? usual : given + 0.0f; /* -0 + 0 is 0 */
}

/* ---- for those who attach to a tree ---- */

/* torc_forward() on net, while the tape records, arms the hook (tape.h). From then on nothing can
 * be added to the tree below net: the hook's owner knows its parameters by heart. */
void module_set_hook(torc_module *net, tape_hook *hook);
tape_hook *module_hook(const torc_module *net); /* NULL: none on this very module */
/* gone(context) is called before net is freed, while its parameters are still there. */
void module_on_free(torc_module *net, void (*gone)(void *context), void *context);
/* Frees every tree that is left. */
void module_free_all(void);

#endif
