/* team -- see team.h. */
#include "allreduce/team.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096

static size_t slots_bytes(void)
{
    return (TEAM_SLOTS * sizeof(team_slot) + PAGE - 1) / PAGE * PAGE;
}

char *team_buffer(const team *t, int local, int buffer)
{
    char *part = t->window->part[t->shared ? local : t->window->me];
    return part + slots_bytes() + (size_t)buffer * t->bytes;
}

team_slot *team_slot_of(const team *t, int local, uint64_t number)
{
    char *part = t->window->part[t->shared ? local : t->window->me];
    return (team_slot *)part + number % TEAM_SLOTS;
}

/* ---- who is where ---- */

static int host_of(const team *t, int rank)
{
    return t->shared ? comm_host_of(t->c, rank) : comm_place(t->c, rank);
}

static int locals_of(const team *t, int host)
{
    int n = 0;
    for (int r = 0; r < comm_size(t->c); r++)
        n += host_of(t, r) == host;
    return n;
}

/* The rank with this local number on a host. */
static int rank_at(const team *t, int host, int local)
{
    for (int r = 0, i = 0; r < comm_size(t->c); r++)
        if (host_of(t, r) == host && i++ == local)
            return r;
    bug("host %d has no rank %d", host, local);
}

static void find_everyone(team *t)
{
    int me = comm_rank(t->c);
    t->hosts = t->shared ? comm_hosts(t->c) : comm_size(t->c);
    t->host = host_of(t, me);
    t->locals = t->slices = locals_of(t, t->host);
    for (int h = 0; h < t->hosts; h++)
        t->slices = (int)min_i64(t->slices, locals_of(t, h));
    t->rank_of = base_alloc((size_t)t->locals, sizeof *t->rank_of);
    for (int i = 0; i < t->locals; i++) {
        t->rank_of[i] = rank_at(t, t->host, i);
        if (t->rank_of[i] == me)
            t->local = i;
    }
    if (t->local >= t->slices)
        return;
    t->peer = base_alloc((size_t)t->hosts, sizeof *t->peer);
    for (int h = 0; h < t->hosts; h++)
        t->peer[h] = rank_at(t, h, t->local);
}

/* ---- who has which leaves ---- */

/* Ranks on hosts before this one. */
static int places_before(const team *t, int host)
{
    int n = 0;
    for (int r = 0; r < comm_size(t->c); r++)
        n += host_of(t, r) < host;
    return n;
}

static tree_range range_of_local(const team *t, int host, int local)
{
    return tree_share(t->leaves, places_before(t, host) + local, comm_size(t->c));
}

static tree_range range_of_host(const team *t, int host)
{
    int last = locals_of(t, host) - 1;
    return (tree_range){range_of_local(t, host, 0).first, range_of_local(t, host, last).end};
}

/* The nodes of this host's ranks, and where they are: of a rank's nodes the last is in buffer 0,
 * where its last gradient was born, those before it in 1, 2, ... */
static int find_sources(team *t, tree_node *node)
{
    int n = 0;
    for (int i = 0; i < t->locals; i++) {
        int more = tree_cut(range_of_local(t, t->host, i), t->leaves, node + n);
        for (int k = 0; k < more; k++)
            t->source[n + k] = (team_source){i, k < more - 1 ? k + 1 : 0};
        n += more;
    }
    return n;
}

static void deal_leaves(team *t)
{
    tree_node *node = base_alloc((size_t)t->locals * TREE_NODES, sizeof *node);
    tree_node target[TREE_NODES] = {tree_root(t->leaves)};
    int leaves = t->leaves;
    t->source = base_alloc((size_t)t->locals * TREE_NODES, sizeof *t->source);
    t->sources = find_sources(t, node);
    t->nodes = 1;
    if (t->one_tree && t->hosts > 1)
        t->nodes = tree_cut(range_of_host(t, t->host), leaves, target);
    else if (t->hosts > 1) { /* a tree of the host's own: its leaves are counted from 0 */
        leaves = t->locals;
        for (int i = 0; i < t->locals; i++)
            node[i] = (tree_node){i, 0};
        target[0] = tree_root(leaves);
    }
    t->order = base_alloc((size_t)t->nodes, sizeof *t->order);
    for (int k = 0; k < t->nodes; k++)
        t->order[k] = tree_order(target[k], leaves, node, t->sources);
    free(node);
}

/* How the nodes of all hosts make the whole. */
static void plan_the_top(team *t)
{
    tree_node *node = base_alloc((size_t)t->hosts * TREE_NODES, sizeof *node);
    t->nodes_of = base_alloc((size_t)t->hosts, sizeof *t->nodes_of);
    int n = 0;
    for (int h = 0; h < t->hosts; h++)
        n += t->nodes_of[h] = tree_cut(range_of_host(t, h), t->leaves, node + n);
    t->top = tree_order(tree_root(t->leaves), t->leaves, node, n);
    free(node);
}

/* ---- opening ---- */

torc_status team_open(comm *c, size_t bytes, int leaves, int spare, team **out)
{
    int64_t buffers = 1;
    *out = NULL;
    bool one_tree = leaves > 0;
    leaves = leaves ? leaves : comm_size(c);
    for (int place = 0; place < comm_size(c); place++)
        buffers = max_i64(buffers, tree_pending(tree_share(leaves, place, comm_size(c)), leaves));
    team *t = base_alloc(1, sizeof *t);
    *t = (team){.c = c, .leaves = leaves, .one_tree = one_tree, .buffers = (int)buffers};
    t->bytes = (bytes + PAGE - 1) / PAGE * PAGE;
    size_t all = slots_bytes() + (size_t)(buffers + spare) * t->bytes;
    torc_status s = comm_window_open(c, all, "window for gradients", &t->window);
    if (s != TORC_OK) {
        free(t);
        return s;
    }
    t->shared = t->window->shared;
    find_everyone(t);
    t->mine = range_of_local(t, t->host, t->local);
    deal_leaves(t);
    if (one_tree)
        plan_the_top(t);
    *out = t;
    return TORC_OK;
}

void team_close(team *t)
{
    if (!t)
        return;
    comm_window_close(t->window);
    for (int k = 0; k < t->nodes; k++)
        free(t->order[k].step);
    free(t->top.step);
    free(t->order);
    free(t->nodes_of);
    free(t->source);
    free(t->rank_of);
    free(t->peer);
    free(t);
}
