/* bind -- see bind.h. */
#define _GNU_SOURCE /* cpu_set_t */
#include "launcher/bind.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bind_how_read(const char *word, bind_how *how)
{
    static const char *const words[] = {"auto", "none", "numa", "cores"};
    for (int i = 0; i < ARRAY_LENGTH(words); i++)
        if (!strcmp(word, words[i])) {
            *how = (bind_how)i;
            return true;
        }
    return false;
}

/* ---- which GPUs there are to be had ---- */

/* A GPU as the user may name it: its word, and its row in the machine's table, or -1. */
typedef struct gpu_choice {
    char word[sizeof((binding *)0)->gpu];
    int row;
} gpu_choice;

/* A number, or the first characters of a UUID. Parts of a GPU (MIG-...) have no row. */
static int find_row(const machine *m, const char *word)
{
    if (isdigit((unsigned char)*word)) {
        int n = atoi(word);
        return n < m->gpu_count ? n : -1;
    }
    for (int i = 0; i < m->gpu_count; i++)
        if (*word && !strncmp(m->gpus[i].uuid, word, strlen(word)))
            return i;
    return -1;
}

/* Reads the list as CUDA does: the first word that is nothing hides all behind it. */
static gpu_choice *read_visible(const machine *m, const char *list, int *count)
{
    gpu_choice *all = NULL;
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        gpu_choice c;
        snprintf(c.word, sizeof c.word, "%.*s", (int)n, at);
        c.row = find_row(m, c.word);
        if (c.row < 0 && strncmp(c.word, "GPU-", 4) && strncmp(c.word, "MIG-", 4))
            break;
        all = base_grow(all, (size_t)*count + 1, sizeof *all);
        all[(*count)++] = c;
        at += n + (at[n] == ',');
    }
    return all;
}

static gpu_choice *find_gpus(const machine *m, const char *visible, int *count)
{
    *count = 0;
    if (visible)
        return read_visible(m, visible, count);
    gpu_choice *all = base_alloc((size_t)m->gpu_count, sizeof *all);
    for (*count = 0; *count < m->gpu_count; ++*count) {
        snprintf(all[*count].word, sizeof all->word, "%d", *count);
        all[*count].row = *count;
    }
    return all;
}

/* ---- homes: the node of every rank ---- */

/* Cores of a node are neighbours in the table: those before node `node` are all of lower nodes. */
static int cores_before(const machine *m, int node)
{
    int n = 0;
    while (n < m->core_count && m->cores[n].node < node)
        n++;
    return n;
}

static int cores_of(const machine *m, int node)
{
    return cores_before(m, node + 1) - cores_before(m, node);
}

/* To each its GPU's node. False where a node is not known, or has fewer cores than ranks that want
 * it: then a core of one's own is worth more than a near one. */
static bool homes_by_gpu(const machine *m, const gpu_choice *gpus, int count, int *homes, int ranks)
{
    int *wanted = base_alloc((size_t)m->node_count, sizeof *wanted);
    bool fine = count > 0, crowded = ranks > m->core_count;
    for (int r = 0; r < ranks && fine; r++) {
        int row = gpus[r % count].row, home = row >= 0 ? m->gpus[row].node : -1;
        fine = home >= 0 && (++wanted[home] <= cores_of(m, home) || crowded);
        homes[r] = home;
    }
    free(wanted);
    return fine;
}

/* One rank after the other goes where it would get most, as seats of a parliament are dealt
 * (D'Hondt): no other way of keeping ranks inside nodes leaves the poorest more. Numbers follow the
 * nodes. Returns the cores of the poorest. */
static int homes_within_nodes(const machine *m, int *homes, int ranks)
{
    int *dealt = base_alloc((size_t)m->node_count, sizeof *dealt), poorest = m->core_count;
    for (int r = 0; r < ranks; r++) {
        int best = 0;
        for (int i = 1; i < m->node_count; i++) { /* a/b > c/d without division */
            int64_t more = (int64_t)cores_of(m, i) * (dealt[best] + 1) -
                           (int64_t)cores_of(m, best) * (dealt[i] + 1);
            if (more > 0 || (more == 0 && dealt[i] < dealt[best]))
                best = i;
        }
        dealt[best]++;
    }
    for (int i = 0, r = 0; i < m->node_count; i++) {
        if (dealt[i] > 0)
            poorest = (int)min_i64(poorest, cores_of(m, i) / dealt[i]);
        for (int k = 0; k < dealt[i]; k++)
            homes[r++] = i;
    }
    free(dealt);
    return poorest;
}

/* ---- shares: a run of cores in the table ---- */

typedef struct share {
    int from, to; /* cores [from, to) */
} share;

/* Share `i` of n things dealt to `parts`: sizes differ by one at most, and with fewer things than
 * parts several parts are the same one thing. */
static share part(int n, int parts, int i)
{
    int from = (int)((int64_t)n * i / parts), to = (int)((int64_t)n * (i + 1) / parts);
    return (share){from, to > from ? to : from + 1};
}

static share within_node(const machine *m, const int *homes, bind_seat seat)
{
    int before = 0, all = 0, first = cores_before(m, homes[seat.rank]);
    for (int r = 0; r < seat.size; r++) {
        all += homes[r] == homes[seat.rank];
        before += r < seat.rank && homes[r] == homes[seat.rank];
    }
    share s = part(cores_of(m, homes[seat.rank]), all, before);
    return (share){first + s.from, first + s.to};
}

static share whole_nodes(const machine *m, bind_seat seat)
{
    share nodes = part(m->node_count, seat.size, seat.rank);
    return (share){cores_before(m, nodes.from), cores_before(m, nodes.to)};
}

static int poorest_by_nodes(const machine *m, int ranks)
{
    int poorest = m->core_count;
    for (int r = 0; r < ranks; r++) {
        share s = whole_nodes(m, (bind_seat){r, ranks});
        poorest = (int)min_i64(poorest, s.to - s.from);
    }
    return poorest;
}

static share find_share(const machine *m, const gpu_choice *gpus, int gpu_count, bind_seat seat)
{
    int *homes = base_alloc((size_t)seat.size, sizeof *homes);
    share s;
    if (homes_by_gpu(m, gpus, gpu_count, homes, seat.size))
        s = within_node(m, homes, seat);
    else {
        int poorest = homes_within_nodes(m, homes, seat.size);
        bool whole = seat.size <= m->node_count && poorest_by_nodes(m, seat.size) >= poorest;
        s = whole ? whole_nodes(m, seat) : within_node(m, homes, seat);
    }
    free(homes);
    return s;
}

/* ---- the NIC ---- */

/* The nearest NICs of a device, one bit each. */
static uint64_t nearest_nics(const machine *m, const machine_device *to)
{
    int best = -1;
    uint64_t set = 0;
    for (int i = 0; i < m->nic_count && i < 64; i++) {
        int near = machine_nearness(to, &m->nics[i]);
        if (near > best)
            set = 0;
        if (near >= best)
            set |= UINT64_C(1) << i;
        best = near > best ? near : best;
    }
    return set;
}

/* Those who have the same choice take turns. */
static const machine_device *nth_nic(const machine *m, uint64_t set, int turn)
{
    int count = __builtin_popcountll(set);
    if (count == 0)
        return NULL;
    for (int i = turn % count; i > 0; i--)
        set &= set - 1;
    return &m->nics[__builtin_ctzll(set)];
}

static const machine_device *find_nic(const machine *m, const binding *b, int rank)
{
    if (!b->gpu_device) { /* the ranks of a node have numbers in a row */
        machine_device place = {.node = b->first_node};
        return nth_nic(m, nearest_nics(m, &place), rank);
    }
    uint64_t mine = nearest_nics(m, b->gpu_device);
    int turn = 0;
    for (const machine_device *gpu = m->gpus; gpu < b->gpu_device; gpu++)
        turn += nearest_nics(m, gpu) == mine;
    return nth_nic(m, mine, turn);
}

/* ---- all of it ---- */

static void take_gpu(const machine *m, const gpu_choice *gpus, int count, bind_seat seat,
                     binding *b)
{
    if (count == 0)
        return;
    const gpu_choice *mine = &gpus[seat.rank % count];
    memcpy(b->gpu, mine->word, sizeof b->gpu);
    b->gpu_device = mine->row >= 0 ? &m->gpus[mine->row] : NULL;
    b->gpu_sharers = (seat.size - 1 - seat.rank % count) / count + 1;
}

static void take_cores(const machine *m, share s, bind_seat seat, bind_how how, binding *b)
{
    b->first_node = m->cores[s.from].node;
    b->last_node = m->cores[s.to - 1].node;
    b->bound = how == BIND_CORES || how == BIND_NUMA;
    b->threads = b->bound ? (int)fmax(1, fmin(s.to - s.from, floor(m->quota / seat.size))) : 0;
    if (how == BIND_NUMA) {
        s.from = cores_before(m, b->first_node);
        s.to = cores_before(m, b->last_node + 1);
    }
    if (!b->bound) {
        s.from = 0;
        s.to = m->core_count;
    }
    for (int i = s.from; i < s.to; i++)
        CPU_OR(&b->cpus, &b->cpus, &m->cores[i].threads);
}

binding bind_plan(const machine *m, const char *visible, bind_seat seat, bind_how how)
{
    binding b = {0};
    int count = 0;
    gpu_choice *gpus = how == BIND_NONE ? NULL : find_gpus(m, visible, &count);
    share s = find_share(m, gpus, count, seat);
    if (how == BIND_AUTO && seat.size <= m->core_count)
        how = BIND_CORES;
    take_cores(m, s, seat, how, &b);
    take_gpu(m, gpus, count, seat, &b);
    if (how != BIND_NONE)
        b.nic = find_nic(m, &b, seat.rank);
    free(gpus);
    return b;
}

void bind_describe(const machine *m, const binding *b, text *out)
{
    char list[512];
    int first = b->bound ? b->first_node : 0, last = b->bound ? b->last_node : m->node_count - 1;
    machine_list(&b->cpus, list, sizeof list);
    text_format(out, "cores %s%s, NUMA node", list, b->bound ? "" : " (not bound)");
    for (int i = first; i <= last; i++)
        text_format(out, "%s%d", i > first ? "," : " ", m->nodes[i]);
    if (*b->gpu)
        text_format(out, ", GPU %s", b->gpu);
    if (b->gpu_device)
        text_format(out, " (%s)", b->gpu_device->bus);
    if (b->nic)
        text_format(out, ", NIC %s (%s)", *b->nic->name ? b->nic->name : "without a name",
                    b->nic->bus);
}
