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

#include "core/tape.h"

typedef struct module_item {
    const char *name; /* the module's: good until the tree changes */
    tensor *t;
    bool buffer;
} module_item;

/* Parameters in order of registration, a module's own before its children's; then the buffers
 * likewise. */
const module_item *module_items(torc_module *net, int64_t *count);

/* Every module of the tree, from the root down, with what is its own; `name` is dotted, "" for the
 * root. */
typedef struct module_layer {
    const char *name, *kind;
    const module_item *items;
    int count;
} module_layer;
void module_each(torc_module *net, void (*visit)(const module_layer *layer, void *context),
                 void *context);

/* The place that called torc_forward() on the layer that runs: what a layer of this room passes to
 * its ops. */
torc_site module_site(void);

/* torc_forward() on net, while the tape records, arms the hook (tape.h). */
void module_set_hook(torc_module *net, tape_hook *hook);
/* gone(context) is called before net is freed. */
void module_on_free(torc_module *net, void (*gone)(void *context), void *context);
/* Frees every tree that is left. */
void module_free_all(void);

#endif
