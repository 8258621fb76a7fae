/* module -- see module.h. */
#include "core/nn/module.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry { /* a parameter or a buffer of this module */
    char *name;
    tensor *t;
    bool buffer, owned; /* owned: false where another module's is shared */
} entry;

typedef struct child {
    char *name;
    torc_module *m;
} child;

typedef struct farewell {
    void (*gone)(void *context);
    void *context;
    struct farewell *next;
} farewell;

struct torc_module {
    char *kind;
    torc_forward_function forward;
    void *state;
    entry *entries;
    child *children;
    int entry_count, child_count;
    torc_module *parent;
    bool training;
    tape_hook *hook;
    farewell *farewells;
    module_item *items; /* cached, with the names; NULL when the tree has changed */
    int64_t item_count;
    torc_module *prev, *next; /* among the roots */
};

static torc_module *roots;
static _Thread_local torc_site current_site;

/* ---- the tree ---- */

static void add_root(torc_module *m)
{
    m->next = roots;
    m->prev = NULL;
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

static void drop_items(torc_module *m)
{
    for (int64_t i = 0; i < m->item_count; i++)
        free((char *)m->items[i].name);
    free(m->items);
    m->items = NULL;
    m->item_count = 0;
}

/* The lists of this module and of all above it are out of date. */
static void tree_changed(torc_module *m)
{
    for (; m; m = m->parent)
        drop_items(m);
}

torc_module *torc_module_new(torc_site at, const char *kind, torc_forward_function forward,
                             size_t state_bytes)
{
    if (!kind || !forward)
        die_at(at, __func__, "expected a kind and a forward function, found NULL");
    torc_module *m = base_alloc(1, sizeof *m);
    m->kind = base_strdup(kind);
    m->forward = forward;
    m->state = base_alloc(1, state_bytes);
    m->training = true;
    add_root(m);
    return m;
}

void *torc_module_state(torc_module *m)
{
    return m->state;
}

static void check_name(torc_site at, const char *op, const torc_module *m, const char *name)
{
    if (!m)
        die_at(at, op, "expected a module, found NULL");
    if (!name || !*name || strchr(name, '.'))
        die_at(at, op, "expected a name without a dot, found \"%s\"", name ? name : "(null)");
    bool taken = false;
    for (int i = 0; i < m->entry_count; i++)
        taken = taken || !strcmp(m->entries[i].name, name);
    for (int i = 0; i < m->child_count; i++)
        taken = taken || !strcmp(m->children[i].name, name);
    if (taken)
        die_at(at, op, "%s has a \"%s\" already", m->kind, name);
}

static tensor *add_entry(torc_site at, const char *op, torc_module *m, const char *name,
                         torc_tensor *value, bool buffer)
{
    check_name(at, op, m, name);
    tensor *t = tensor_of(&(call){at, op}, value);
    if (!buffer && !tensor_is_float(t))
        die_at(at, op, "expected a float dtype for \"%s\", found %s", name,
               torc_dtype_name(t->dtype));
    tensor_set_owner(t, OWNER_USER);
    t->requires_grad = !buffer;
    m->entries = base_grow(m->entries, (size_t)m->entry_count + 1, sizeof *m->entries);
    m->entries[m->entry_count++] = (entry){base_strdup(name), t, buffer, true};
    tree_changed(m);
    return t;
}

torc_tensor *torc_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *value)
{
    return tensor_handle(add_entry(at, __func__, m, name, value, false));
}

torc_tensor *torc_buffer(torc_site at, torc_module *m, const char *name, torc_tensor *value)
{
    return tensor_handle(add_entry(at, __func__, m, name, value, true));
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
    m->children[m->child_count++] = (child){base_strdup(name), c};
    c->parent = m;
    remove_root(c);
    tree_changed(m);
    return c;
}

void torc_share_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *other)
{
    tensor *t = tensor_of(&(call){at, __func__}, other);
    for (int i = 0; i < m->entry_count; i++) {
        entry *e = &m->entries[i];
        if (strcmp(e->name, name) || e->buffer)
            continue;
        if (e->t->dtype != t->dtype || !tensor_same_shape(e->t, t))
            die_at(at, __func__, "expected %s %s for \"%s\", found %s %s",
                   torc_dtype_name(e->t->dtype), tensor_shape_text(e->t), name,
                   torc_dtype_name(t->dtype), tensor_shape_text(t));
        if (e->owned)
            tensor_release(e->t, at);
        e->t = t;
        e->owned = false;
        tree_changed(m);
        return;
    }
    die_at(at, __func__, "%s has no parameter \"%s\"", m->kind, name);
}

/* ---- lists ---- */

static bool is_listed(const torc_module *net, const tensor *t)
{
    for (int64_t i = 0; i < net->item_count; i++)
        if (net->items[i].t == t)
            return true;
    return false;
}

static void list(torc_module *net, const torc_module *m, const char *prefix, bool buffers)
{
    for (int i = 0; i < m->entry_count; i++) {
        const entry *e = &m->entries[i];
        if (e->buffer != buffers || is_listed(net, e->t))
            continue;
        net->items = base_grow(net->items, (size_t)net->item_count + 1, sizeof *net->items);
        net->items[net->item_count++] =
            (module_item){base_format("%s%s", prefix, e->name), e->t, buffers};
    }
    for (int i = 0; i < m->child_count; i++) {
        char *inner = base_format("%s%s.", prefix, m->children[i].name);
        list(net, m->children[i].m, inner, buffers);
        free(inner);
    }
}

const module_item *module_items(torc_module *net, int64_t *count)
{
    if (!net->items) {
        list(net, net, "", false);
        list(net, net, "", true);
    }
    *count = net->item_count;
    return net->items;
}

static void each(torc_module *m, const char *name,
                 void (*visit)(const module_layer *layer, void *context), void *context)
{
    module_item *own = base_alloc((size_t)m->entry_count, sizeof *own);
    for (int i = 0; i < m->entry_count; i++)
        own[i] = (module_item){m->entries[i].name, m->entries[i].t, m->entries[i].buffer};
    visit(&(module_layer){name, m->kind, own, m->entry_count}, context);
    free(own);
    for (int i = 0; i < m->child_count; i++) {
        char *inner = base_format("%s%s%s", name, *name ? "." : "", m->children[i].name);
        each(m->children[i].m, inner, visit, context);
        free(inner);
    }
}

void module_each(torc_module *net, void (*visit)(const module_layer *layer, void *context),
                 void *context)
{
    each(net, "", visit, context);
}

int64_t torc_parameter_count(torc_module *net)
{
    int64_t count, n = 0;
    const module_item *items = module_items(net, &count);
    while (n < count && !items[n].buffer)
        n++;
    return n;
}

int64_t torc_parameter_elements(torc_module *net)
{
    int64_t count, sum = 0;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++)
        sum += items[i].buffer ? 0 : tensor_numel(items[i].t);
    return sum;
}

torc_tensor *torc_parameter_at(torc_site at, torc_module *net, int64_t index, const char **name)
{
    int64_t n = torc_parameter_count(net), count;
    if (index < 0 || index >= n)
        die_at(at, __func__, "expected an index from 0 to %lld, found %lld", (long long)n - 1,
               (long long)index);
    const module_item *item = &module_items(net, &count)[index];
    if (name)
        *name = item->name;
    return tensor_handle(item->t);
}

/* Goes down the tree by the parts of the name, so that a shared parameter is found under each of
 * its names. */
torc_tensor *torc_parameter_named(torc_site at, torc_module *net, const char *name)
{
    const torc_module *m = net;
    const char *rest = name;
    for (const char *dot; m && (dot = strchr(rest, '.')); rest = dot + 1) {
        const torc_module *down = NULL;
        for (int i = 0; i < m->child_count; i++)
            if (strlen(m->children[i].name) == (size_t)(dot - rest) &&
                !strncmp(m->children[i].name, rest, (size_t)(dot - rest)))
                down = m->children[i].m;
        m = down;
    }
    for (int i = 0; m && i < m->entry_count; i++)
        if (!m->entries[i].buffer && !strcmp(m->entries[i].name, rest))
            return tensor_handle(m->entries[i].t);
    die_at(at, __func__, "%s has no parameter \"%s\"", net->kind, name);
}

/* ---- running ---- */

torc_site module_site(void)
{
    return current_site;
}

torc_tensor *torc_forward(torc_site at, torc_module *net, torc_tensor *x)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    if (net->hook && tape_recording())
        net->hook->armed = true;
    torc_site outer = current_site;
    current_site = at;
    torc_tensor *y = net->forward(net, x);
    current_site = outer;
    return y;
}

static void set_training(torc_module *m, bool on)
{
    m->training = on;
    for (int i = 0; i < m->child_count; i++)
        set_training(m->children[i].m, on);
}

void torc_train(torc_module *net)
{
    set_training(net, true);
}

void torc_eval(torc_module *net)
{
    set_training(net, false);
}

bool torc_is_training(torc_module *net)
{
    return net->training;
}

void torc_zero_grad(torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++)
        if (items[i].t->grad)
            items[i].t->grad->zero_pending = true;
}

/* ---- hooks and the end ---- */

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

static void free_tree(torc_module *m)
{
    for (farewell *f = m->farewells, *next; f;
         f = next) { /* while the parameters are still there */
        next = f->next;
        f->gone(f->context);
        free(f);
    }
    for (int i = 0; i < m->child_count; i++) {
        free_tree(m->children[i].m);
        free(m->children[i].name);
    }
    for (int i = 0; i < m->entry_count; i++) {
        if (m->entries[i].owned)
            tensor_release(m->entries[i].t, (torc_site){__FILE__, __LINE__});
        free(m->entries[i].name);
    }
    drop_items(m);
    free(m->children);
    free(m->entries);
    free(m->state);
    free(m->kind);
    free(m);
}

void torc_module_free(torc_module *net)
{
    if (!net)
        return;
    if (net->parent)
        die_at((torc_site){0}, __func__, "the %s belongs to a %s, which frees it", net->kind,
               net->parent->kind);
    remove_root(net);
    free_tree(net);
}

void module_free_all(void)
{
    while (roots)
        torc_module_free(roots);
}
