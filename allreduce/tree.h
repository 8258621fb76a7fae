/*
 * tree -- the one order in which gradients are added: a binary tree over leaves 0 .. V - 1.
 *
 * Words
 *   leaf    the gradient of one micro-shard of the global batch; usually every rank has one
 *   node    the sum of 2^level leaves from `first`, a multiple of 2^level. The tree is completed
 *           to a power of two by leaves that are absent: their sum is that of the others alone.
 *   range   the neighbouring leaves of a rank, or of the ranks of a host
 *
 *     V = 6                    +                 rank 0 has the leaves 0 1 2, rank 1 has 3 4 5:
 *                     +                 +        nodes  0: (0, level 1) (2, level 0)
 *                 +       +         +                   1: (3, level 0) (4, level 1, or 2)
 *                0 1     2 3       4 5  . .      two ranks or six, the sum has the same bits
 *
 * A range is cut into the largest nodes that it holds; these are what ranks and hosts hand on, and
 * whoever has them all adds them as the tree says.
 */
#ifndef TORC_ALLREDUCE_TREE_H
#define TORC_ALLREDUCE_TREE_H

#include "core/kernels.h"

enum { TREE_LEVELS = FOLD_DEPTH - 1, TREE_NODES = 2 * FOLD_DEPTH /* of a range, at most */ };

typedef struct tree_node {
    int first, level;
} tree_node;

typedef struct tree_range {
    int first, end;
} tree_range;

/* The leaves of number `place` of `places` that share all `leaves` as evenly as they go. */
tree_range tree_share(int leaves, int place, int places);
/* Cuts a range into its largest nodes, from the left; returns their number. */
int tree_cut(tree_range range, int leaves, tree_node nodes[TREE_NODES]);
/* The order in which `target` is the sum of n of its nodes: source[i] is number i. Dies as a bug if
 * a leaf is missing. free() its steps. */
fold_order tree_order(tree_node target, int leaves, const tree_node *source, int n);
/* The whole tree. */
tree_node tree_root(int leaves);

/* The leaves of a range come one after the other, and siblings are added as soon as both are there:
 * a binary counter. What is left at the end are the nodes of tree_cut(). */
typedef struct tree_stack {
    int nodes;
    tree_node node[TREE_NODES];
} tree_stack;

/* A leaf comes; returns how many times the two newest nodes become one. */
int tree_push(tree_stack *s, int leaf, int leaves);
/* The most nodes that are there at once, the newest leaf among them. */
int tree_pending(tree_range range, int leaves);

#endif
