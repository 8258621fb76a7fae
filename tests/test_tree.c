/* The tree over leaves: whatever the ranks and the hosts, every leaf once, in the same place. */
#include "allreduce/tree.h"
#include "tests/harness.h"

#include <stdlib.h>

/* What an order of numbered sources adds up to, as text would show it: a hash that depends on the
 * shape of the tree and on the leaves. */
static uint64_t joined(uint64_t a, uint64_t b)
{
    return (a * 0x9e3779b97f4a7c15u ^ (b + 0x7f4a7c15u)) * 0xbf58476d1ce4e5b9u;
}

static uint64_t evaluate(fold_order order, const uint64_t *source)
{
    uint64_t stack[FOLD_DEPTH];
    int top = 0, deepest = 0;
    for (int i = 0; i < order.length; i++) {
        if (order.step[i] == FOLD_ADD) {
            top--;
            stack[top - 1] = joined(stack[top - 1], stack[top]);
        } else
            stack[top++] = source[order.step[i]];
        deepest = top > deepest ? top : deepest;
    }
    CHECK_INT(top, 1);
    CHECK(deepest <= FOLD_DEPTH);
    return stack[0];
}

/* Node values of one rank's leaves, added as they come. */
static int collect(tree_range range, int leaves, tree_node *node, uint64_t *value)
{
    tree_stack s = {0};
    for (int leaf = range.first; leaf < range.end; leaf++) {
        uint64_t live = 1000 + (uint64_t)leaf;
        int merges = tree_push(&s, leaf, leaves);
        for (int k = 0; k < merges; k++)
            live = joined(value[s.nodes - 1 + merges - k - 1], live);
        value[s.nodes - 1] = live;
    }
    int n = tree_cut(range, leaves, node);
    CHECK_INT(n, s.nodes);
    for (int i = 0; i < n; i++)
        CHECK(node[i].first == s.node[i].first && node[i].level == s.node[i].level);
    return n;
}

static uint64_t sum_over(int leaves, int ranks)
{
    tree_node *node = base_alloc((size_t)ranks * TREE_NODES, sizeof *node);
    uint64_t *value = base_alloc((size_t)ranks * TREE_NODES, sizeof *value);
    int n = 0;
    for (int r = 0; r < ranks; r++)
        n += collect(tree_share(leaves, r, ranks), leaves, node + n, value + n);
    fold_order order = tree_order(tree_root(leaves), leaves, node, n);
    uint64_t sum = evaluate(order, value);
    free(order.step);
    free(node);
    free(value);
    return sum;
}

TEST(the_sum_is_one_whatever_the_ranks)
{
    for (int leaves = 1; leaves <= 40; leaves++) {
        uint64_t alone = sum_over(leaves, 1);
        for (int ranks = 2; ranks <= leaves; ranks++)
            if (sum_over(leaves, ranks) != alone)
                CHECK_INT(ranks, -leaves);
    }
}

TEST(another_order_would_be_seen)
{
    int16_t straight[] = {0, 1, FOLD_ADD, 2, 3, FOLD_ADD, FOLD_ADD};
    int16_t in_turn[] = {0, 1, FOLD_ADD, 2, FOLD_ADD, 3, FOLD_ADD};
    uint64_t leaf[] = {1000, 1001, 1002, 1003};
    CHECK(evaluate((fold_order){7, straight}, leaf) == sum_over(4, 2));
    CHECK(evaluate((fold_order){7, in_turn}, leaf) != sum_over(4, 2));
}

TEST(pending_is_what_a_binary_counter_needs)
{
    CHECK_INT(tree_pending((tree_range){0, 1}, 1), 1);
    CHECK_INT(tree_pending((tree_range){0, 8}, 8), 4);
    CHECK_INT(tree_pending((tree_range){3, 5}, 8), 2);
    CHECK_INT(tree_pending((tree_range){1, 8}, 8), 5);
}
