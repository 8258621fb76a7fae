/*
 * tree -- what a module is made of: for the files that build it (module.c), read it (names.c)
 * and switch its layers (norm.c). Everybody else takes module.h.
 *
 *     GPT ---- wte (Embedding) ---- weight <---.
 *          |-- h0 (TransformerBlock) ...       | shared: one tensor, two entries
 *          `-- head (Linear) ------- weight ---'
 */
#ifndef TORC_TREE_H
#define TORC_TREE_H

#include "core/nn/module.h"

typedef struct entry { /* a parameter or a buffer of this module */
    char *name;
    tensor *t; /* with a reference of our own: it is there even when its owner let it go */
    bool buffer;
    bool shared; /* lives in another module, which releases it */
} entry;

typedef struct farewell {
    void (*gone)(void *context);
    void *context;
    struct farewell *next;
} farewell;

struct torc_module {
    char *kind;
    char *name; /* within the parent; NULL for a root */
    torc_forward_function forward;
    activated_forward forward_with; /* NULL: this layer's kernel ends with its own result */
    elementwise_op activation;      /* what the layer is, if it is that alone; else EW_NONE */
    void *state;
    entry *entries;
    torc_module **children;
    int entry_count, child_count;
    torc_module *parent;
    bool training;
    bool foreign;   /* a layer of somebody else's is here, or below */
    bool recompute; /* backward runs forward again (recompute.c) */
    tape_hook *hook;
    farewell *farewells;
    module_item *items; /* the cached list, which owns its names; NULL when the tree has changed */
    int64_t item_count;
    torc_module *prev, *next; /* among the roots */
};

/* A layer whose forward pass is anybody's business is passed on its own, not as a part of another
 * kernel. */
bool module_is_plain(const torc_module *m);

/* The forward function, which runs with `at` as its module_site(); and the same through
 * torc_recompute(). */
torc_tensor *module_run(torc_site at, torc_module *net, torc_tensor *x);
torc_tensor *module_recompute(torc_site at, torc_module *net, torc_tensor *x);

/* The cached lists of this module and of all above it are out of date. */
void tree_changed(torc_module *m);
/* Forgets the cached list of this module alone. */
void tree_drop_items(torc_module *m);

#endif
