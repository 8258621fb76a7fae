/* tree -- see tree.h. */
#include "allreduce/tree.h"

#include <stdlib.h>

tree_range tree_share(int leaves, int place, int places)
{
    int64_t n = leaves;
    return (tree_range){(int)(n * place / places), (int)(n * (place + 1) / places)};
}

/* Where the node ends, as far as there are leaves. */
static int end_of(tree_node n, int leaves)
{
    return (int)min_i64((int64_t)n.first + ((int64_t)1 << n.level), leaves);
}

tree_node tree_root(int leaves)
{
    tree_node root = {0, 0};
    while (end_of(root, leaves) < leaves)
        root.level++;
    return root;
}

static tree_node largest(int first, int end, int leaves)
{
    tree_node n = {first, 0};
    int top = tree_root(leaves).level;
    while (n.level < top && first % (2 << n.level) == 0 &&
           end_of((tree_node){first, n.level + 1}, leaves) <= end)
        n.level++;
    return n;
}

int tree_cut(tree_range range, int leaves, tree_node nodes[TREE_NODES])
{
    int n = 0;
    for (int first = range.first; first < range.end; first = end_of(nodes[n++], leaves))
        nodes[n] = largest(first, range.end, leaves);
    return n;
}

/* ---- one leaf after the other ---- */

static bool siblings(tree_node left, tree_node right)
{
    return left.level == right.level && left.first % (2 << left.level) == 0 &&
           left.first + (1 << left.level) == right.first;
}

int tree_push(tree_stack *s, int leaf, int leaves)
{
    int merges = 0;
    tree_node n = largest(leaf, leaf + 1, leaves);
    while (s->nodes > 0 && siblings(s->node[s->nodes - 1], n)) {
        n = s->node[--s->nodes];
        n = largest(n.first, leaf + 1, leaves);
        merges++;
    }
    s->node[s->nodes++] = n;
    return merges;
}

int tree_pending(tree_range range, int leaves)
{
    tree_stack s = {0};
    int most = 0;
    for (int leaf = range.first; leaf < range.end; leaf++) {
        most = (int)max_i64(most, s.nodes + 1);
        tree_push(&s, leaf, leaves);
    }
    return most;
}

/* ---- the order of a sum ---- */

typedef struct writer {
    const tree_node *source;
    int sources, leaves;
    fold_order order;
} writer;

static int number_of(const writer *w, tree_node n)
{
    for (int i = 0; i < w->sources; i++)
        if (w->source[i].first == n.first && w->source[i].level == n.level)
            return i;
    return -1;
}

static void put(writer *w, int step)
{
    w->order.step[w->order.length++] = (int16_t)step;
}

/* False: all leaves of the node are absent. */
static bool put_node(writer *w, tree_node n)
{
    if (n.first >= w->leaves)
        return false;
    int number = number_of(w, n);
    if (number >= 0) {
        put(w, number);
        return true;
    }
    if (n.level == 0)
        bug("nobody has leaf %d of %d", n.first, w->leaves);
    int half = 1 << (n.level - 1);
    put_node(w, (tree_node){n.first, n.level - 1});
    if (put_node(w, (tree_node){n.first + half, n.level - 1}))
        put(w, FOLD_ADD);
    return true;
}

fold_order tree_order(tree_node target, int leaves, const tree_node *source, int n)
{
    writer w = {source, n, leaves, {0}};
    w.order.step = base_alloc(2 * (size_t)n, sizeof *w.order.step);
    put_node(&w, target);
    return w.order;
}
