/*
 * names -- the tree of layers as lists: what it holds under which dotted names.
 *
 *     "h0.mlp.c_fc.weight"        h0 -> mlp -> c_fc are children, weight is an entry
 *
 * The list is made once and kept at the module it was asked of, with the names it owns, until the
 * tree below that module changes.
 */
#include "core/nn/tree.h"

#include <stdlib.h>
#include <string.h>

/* ---- the list ---- */

void tree_drop_items(torc_module *m)
{
    for (int64_t i = 0; i < m->item_count; i++)
        free((char *)m->items[i].name);
    free(m->items);
    m->items = NULL;
    m->item_count = 0;
}

static bool is_listed(const torc_module *net, const tensor *t)
{
    for (int64_t i = 0; i < net->item_count; i++)
        if (net->items[i].t == t)
            return true;
    return false;
}

/* Adds the parameters, or the buffers, of m and of everything below it to net's list. */
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
        char *inner = base_format("%s%s.", prefix, m->children[i]->name);
        list(net, m->children[i], inner, buffers);
        free(inner);
    }
}

const module_item *module_items(torc_module *net, int64_t *count)
{
    if (!net)
        die_at((torc_site){0}, NULL, "expected a module, found NULL");
    if (!net->items) {
        list(net, net, "", false);
        list(net, net, "", true);
    }
    *count = net->item_count;
    return net->items;
}

/* ---- the tree, layer by layer ---- */

static void each(const torc_module *m, const char *name,
                 void (*visit)(const module_layer *layer, void *context), void *context)
{
    module_item *own = base_alloc((size_t)m->entry_count, sizeof *own);
    for (int i = 0; i < m->entry_count; i++)
        own[i] = (module_item){m->entries[i].name, m->entries[i].t, m->entries[i].buffer};
    visit(&(module_layer){name, m->kind, own, m->entry_count}, context);
    free(own);
    for (int i = 0; i < m->child_count; i++) {
        char *inner = base_format("%s%s%s", name, *name ? "." : "", m->children[i]->name);
        each(m->children[i], inner, visit, context);
        free(inner);
    }
}

void module_each(torc_module *net, void (*visit)(const module_layer *layer, void *context),
                 void *context)
{
    each(net, "", visit, context);
}

/* ---- what a user asks ---- */

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
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    int64_t n = torc_parameter_count(net), count;
    if (index < 0 || index >= n)
        die_at(at, __func__, "expected an index below %lld, found %lld", (long long)n,
               (long long)index);
    const module_item *item = &module_items(net, &count)[index];
    if (name)
        *name = item->name;
    return tensor_handle(item->t);
}

static const torc_module *child_named(const torc_module *m, const char *name, size_t length)
{
    for (int i = 0; i < m->child_count; i++)
        if (strlen(m->children[i]->name) == length && !memcmp(m->children[i]->name, name, length))
            return m->children[i];
    return NULL;
}

/* Goes down the tree by the parts of the name, not through the list, so that a shared parameter is
 * found under each of its names. */
torc_tensor *torc_parameter_named(torc_site at, torc_module *net, const char *name)
{
    if (!net || !name)
        die_at(at, __func__, "expected a module and a name, found NULL");
    const torc_module *m = net;
    const char *rest = name;
    for (const char *dot; m && (dot = strchr(rest, '.')); rest = dot + 1)
        m = child_named(m, rest, (size_t)(dot - rest));
    for (int i = 0; m && i < m->entry_count; i++)
        if (!strcmp(m->entries[i].name, rest))
            return tensor_handle(m->entries[i].t);
    die_at(at, __func__, "%s has no parameter \"%s\"", net->kind, name);
}
