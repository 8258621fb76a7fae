/*
 * module -- building, running and freeing the tree of layers; see module.h. (Its lists and names:
 * names.c.)
 *
 * A tree is built from the leaves up: every module starts as a root, and torc_child() hangs one
 * root below another module. So whoever holds a root holds everything below it, and freeing the
 * roots frees all.
 */
#include "core/nn/tree.h"
#include "core/ops/ops.h"

#include <stdlib.h>
#include <string.h>

static torc_module *roots;
static _Thread_local torc_site current_site;

/* ---- roots ---- */

static void add_root(torc_module *m)
{
    m->next = roots;
    if (roots)
        roots->prev = m;
    roots = m;
}

static void remove_root(torc_module *m)
{
    if (m->prev)
        m->prev->next = m->next;
    else
        roots = m->next;
    if (m->next)
        m->next->prev = m->prev;
    m->prev = m->next = NULL;
}

void tree_changed(torc_module *m)
{
    for (; m; m = m->parent)
        tree_drop_items(m);
}

/* ---- building ---- */

torc_module *module_new(torc_site at, const char *kind, torc_forward_function forward,
                        size_t state_bytes)
{
    if (!kind || !forward)
        die_at(at, "torc_module_new", "expected a kind and a forward function, found NULL");
    torc_module *m = base_alloc(1, sizeof *m);
    m->kind = base_strdup(kind);
    m->activation = EW_NONE;
    m->forward = forward;
    m->state = base_alloc(1, state_bytes);
    m->training = true;
    add_root(m);
    return m;
}

torc_module *torc_module_new(torc_site at, const char *kind, torc_forward_function forward,
                             size_t state_bytes)
{
    torc_module *m = module_new(at, kind, forward, state_bytes);
    m->foreign = true;
    return m;
}

static void check_open(torc_site at, const char *op, const torc_module *m)
{
    if (!m)
        die_at(at, op, "expected a module, found NULL");
    for (; m; m = m->parent)
        if (m->hook)
            die_at(at, op, "torc_ddp() has this network already; complete it before");
}

static void check_name(torc_site at, const char *op, const torc_module *m, const char *name)
{
    check_open(at, op, m);
    if (!name || !*name || strchr(name, '.'))
        die_at(at, op, "expected a name without a dot, found \"%s\"", name ? name : "(null)");
    bool taken = false;
    for (int i = 0; i < m->entry_count; i++)
        taken = taken || !strcmp(m->entries[i].name, name);
    for (int i = 0; i < m->child_count; i++)
        taken = taken || !strcmp(m->children[i]->name, name);
    if (taken)
        die_at(at, op, "%s has a \"%s\" already", m->kind, name);
}

static bool has_entry(const torc_module *m, const tensor *t)
{
    for (int i = 0; i < m->entry_count; i++)
        if (m->entries[i].t == t)
            return true;
    for (int i = 0; i < m->child_count; i++)
        if (has_entry(m->children[i], t))
            return true;
    return false;
}

/* A module can own a value that is the tape's or the user's, and no other module's. */
static void check_free_value(torc_site at, const char *op, const tensor *t, const char *name)
{
    if (t->owner == OWNER_HOUSE)
        die_at(at, op, "expected a value of yours for \"%s\", found a gradient", name);
    if (t->maker)
        die_at(at, op,
               "expected a plain value for \"%s\", found one that was computed from parameters; "
               "torc_detach() cuts it off",
               name);
    for (const torc_module *m = roots; m && t->owner == OWNER_USER; m = m->next)
        if (has_entry(m, t))
            die_at(at, op, "the value for \"%s\" is in a module already; torc_share_parameter()",
                   name);
}

static torc_tensor *add_entry(torc_site at, const char *op, torc_module *m, const char *name,
                              torc_tensor *value, bool buffer)
{
    check_name(at, op, m, name);
    tensor *t = tensor_of(&(call){at, op}, value);
    check_free_value(at, op, t, name);
    if (!buffer && !tensor_is_float(t))
        die_at(at, op, "expected a float dtype for \"%s\", found %s", name,
               torc_dtype_name(t->dtype));
    tensor_set_owner(t, OWNER_USER);
    t->requires_grad = !buffer;
    m->entries = base_grow(m->entries, (size_t)m->entry_count + 1, sizeof *m->entries);
    m->entries[m->entry_count++] =
        (entry){.name = base_strdup(name), .t = tensor_share(t), .buffer = buffer};
    tree_changed(m);
    return value;
}

torc_tensor *torc_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *value)
{
    return add_entry(at, __func__, m, name, value, false);
}

torc_tensor *torc_buffer(torc_site at, torc_module *m, const char *name, torc_tensor *value)
{
    return add_entry(at, __func__, m, name, value, true);
}

torc_module *torc_child(torc_site at, torc_module *m, const char *name, torc_module *c)
{
    check_name(at, __func__, m, name);
    if (!c)
        die_at(at, __func__, "expected a module for \"%s\", found NULL", name);
    if (c->parent)
        die_at(at, __func__, "the %s for \"%s\" is a child of a %s already", c->kind, name,
               c->parent->kind);
    for (const torc_module *up = m; up; up = up->parent)
        if (up == c)
            die_at(at, __func__, "\"%s\" would contain itself", name);
    m->children = base_grow(m->children, (size_t)m->child_count + 1, sizeof *m->children);
    m->children[m->child_count++] = c;
    c->name = base_strdup(name);
    c->parent = m;
    m->foreign = m->foreign || c->foreign;
    remove_root(c);
    tree_changed(m);
    return c;
}

/* Ends what this module has of the tensor. One that the user freed by hand, which
 * torc_tensor_free() cannot know to refuse, is no longer OWNER_USER: only our reference is left. */
static void let_go(const entry *e, torc_site at)
{
    if (!e->shared && e->t->owner == OWNER_USER)
        tensor_release(e->t, at);
    tensor_unshare(e->t);
}

void torc_share_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *other)
{
    check_open(at, __func__, m);
    tensor *t = tensor_of(&(call){at, __func__}, other);
    entry *e = NULL;
    for (int i = 0; i < m->entry_count && !e; i++)
        if (name && !m->entries[i].buffer && !strcmp(m->entries[i].name, name))
            e = &m->entries[i];
    if (!e)
        die_at(at, __func__, "%s has no parameter \"%s\"", m->kind, name ? name : "(null)");
    if (e->t->dtype != t->dtype || !tensor_same_shape(e->t, t))
        die_at(at, __func__, "expected %s %s for \"%s\", found %s %s", torc_dtype_name(e->t->dtype),
               tensor_shape_text(e->t), name, torc_dtype_name(t->dtype), tensor_shape_text(t));
    bool elsewhere = false;
    for (const torc_module *root = roots; root; root = root->next)
        elsewhere = elsewhere || has_entry(root, t);
    if (!elsewhere)
        die_at(at, __func__, "expected a parameter of another module for \"%s\"", name);
    if (e->t == t)
        return;
    let_go(e, at);
    e->t = tensor_share(t);
    e->shared = true;
    tree_changed(m);
}

/* ---- running ---- */

static void check_module(const torc_module *m, const char *op)
{
    if (!m)
        die_at((torc_site){0}, op, "expected a module, found NULL");
}

void *torc_module_state(torc_module *m)
{
    check_module(m, __func__);
    return m->state;
}

torc_site module_site(void)
{
    return current_site;
}

torc_tensor *module_entry(const torc_module *m, int index)
{
    return index < m->entry_count ? tensor_handle(m->entries[index].t) : NULL;
}

torc_tensor *module_run(torc_site at, torc_module *net, torc_tensor *x)
{
    torc_site outer = current_site;
    current_site = at;
    torc_tensor *y = net->forward(net, x);
    current_site = outer;
    return y;
}

/* Only a pass that records can be followed by a backward: a validation pass arms nothing. */
torc_tensor *torc_forward(torc_site at, torc_module *net, torc_tensor *x)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    if (net->hook && tape_recording()) {
        net->hook->armed = true;
        net->hook->forward(net->hook);
    }
    return net->recompute ? module_recompute(at, net, x) : module_run(at, net, x);
}

void module_offer(torc_module *m, activated_forward forward_with)
{
    m->forward_with = forward_with;
}

void module_is_activation(torc_module *m, elementwise_op act)
{
    m->activation = act;
}

bool module_is_plain(const torc_module *m)
{
    return !m->hook && !m->recompute;
}

torc_tensor *module_activated(torc_site at, torc_module *layer, torc_tensor *x, elementwise_op act)
{
    if (!layer->forward_with || !module_is_plain(layer))
        return op_activation(at, torc_forward(at, layer, x), act);
    torc_site outer = current_site;
    current_site = at;
    torc_tensor *y = layer->forward_with(layer, x, act);
    current_site = outer;
    return y;
}

torc_tensor *module_chain(torc_site at, torc_module *const *layers, int n, torc_tensor *x,
                          int *used)
{
    bool both = n > 1 && layers[0]->forward_with && module_is_plain(layers[0]) &&
                layers[1]->activation != EW_NONE && module_is_plain(layers[1]);
    *used = both ? 2 : 1;
    return both ? module_activated(at, layers[0], x, layers[1]->activation)
                : torc_forward(at, layers[0], x);
}

void module_let_go(torc_site at, const torc_module *self, torc_tensor *x)
{
    if (!self->foreign)
        tape_let_go(tensor_of(&(call){at, "torc_forward"}, x));
}

torc_tensor *module_pass(torc_site at, const torc_module *self, torc_module *next, torc_tensor *x)
{
    torc_tensor *y = torc_forward(at, next, x);
    if (y != x)
        module_let_go(at, self, x);
    return y;
}

static void set_training(torc_module *m, bool on)
{
    m->training = on;
    for (int i = 0; i < m->child_count; i++)
        set_training(m->children[i], on);
}

void torc_train(torc_module *net)
{
    check_module(net, __func__);
    set_training(net, true);
}

void torc_eval(torc_module *net)
{
    check_module(net, __func__);
    set_training(net, false);
}

bool torc_is_training(torc_module *net)
{
    check_module(net, __func__);
    return net->training;
}

void torc_zero_grad(torc_module *net)
{
    check_module(net, __func__);
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++)
        if (items[i].t->grad)
            tape_clear_gradient(items[i].t);
}

/* ---- hooks and the end ---- */

tape_hook *module_hook(const torc_module *net)
{
    return net->hook;
}

void module_set_hook(torc_module *net, tape_hook *hook)
{
    net->hook = hook;
}

void module_on_free(torc_module *net, void (*gone)(void *context), void *context)
{
    farewell *f = base_alloc(1, sizeof *f);
    *f = (farewell){gone, context, net->farewells};
    net->farewells = f;
}

/* Those who attached are told first: what they are about to let go of is still there. */
static void say_farewell(torc_module *m)
{
    while (m->farewells) {
        farewell *f = m->farewells;
        m->farewells = f->next;
        f->gone(f->context);
        free(f);
    }
    for (int i = 0; i < m->child_count; i++)
        say_farewell(m->children[i]);
}

static void free_tree(torc_module *m)
{
    for (int i = 0; i < m->child_count; i++)
        free_tree(m->children[i]);
    for (int i = 0; i < m->entry_count; i++) {
        let_go(&m->entries[i], (torc_site){__FILE__, __LINE__});
        free(m->entries[i].name);
    }
    tree_drop_items(m);
    free(m->children);
    free(m->entries);
    free(m->state);
    free(m->name);
    free(m->kind);
    free(m);
}

void torc_module_free(torc_module *net)
{
    if (!net)
        return;
    if (net->parent)
        die_at((torc_site){0}, __func__, "the %s \"%s\" belongs to a %s, which frees it", net->kind,
               net->name, net->parent->kind);
    say_farewell(net);
    remove_root(net);
    free_tree(net);
}

void module_free_all(void)
{
    while (roots)
        torc_module_free(roots);
}
