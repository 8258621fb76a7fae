/* survive -- see survive.h. */
#include "launcher/survive.h"

#include <stdlib.h>
#include <string.h>

typedef struct search {
    hosts next;
    const hosts *known;
    const bool *gone;
    int *free; /* [known] ranks that a host can still take */
    bool *used;
    int hosts_used, hosts_most;
} search;

static int find(const hosts *known, const char *name)
{
    for (int i = 0; i < known->n; i++)
        if (!strcmp(known->of[i].name, name))
            return i;
    bug("host %s is not one of the job's", name);
}

/* Puts so many ranks on a host, behind all that were put before. */
static void put(search *s, int i, int ranks)
{
    hosts *next = &s->next;
    host *last = next->n ? &next->of[next->n - 1] : NULL;
    s->free[i] -= ranks;
    s->hosts_used += !s->used[i];
    s->used[i] = true;
    if (last && !strcmp(last->name, s->known->of[i].name)) {
        last->ranks += ranks;
        return;
    }
    next->of = base_grow(next->of, (size_t)next->n + 1, sizeof *next->of);
    next->of[next->n++] = s->known->of[i];
    last = &next->of[next->n - 1];
    last->name = base_strdup(last->name);
    last->ranks = ranks;
}

/* Hosts that have no rank yet come first, for they bring memory and cores of their own. Returns how
 * many ranks found no place. */
static int place_lost(search *s, int ranks)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->known->n && ranks > 0; i++) {
            bool spare = !s->used[i], wanted = spare == (pass == 0);
            int takes = (int)min_i64(ranks, s->free[i]);
            if (!wanted || takes <= 0 || (spare && s->hosts_used >= s->hosts_most))
                continue;
            put(s, i, takes);
            ranks -= takes;
        }
    return ranks;
}

/* The seats of ranks that stay are taken before any lost one looks for a seat. */
static void start(search *s, const hosts *now, const wish *w)
{
    int n = s->known->n;
    s->free = base_alloc((size_t)n, sizeof *s->free);
    s->used = base_alloc((size_t)n, sizeof *s->used);
    s->hosts_most = w->most ? w->most : n;
    for (int i = 0; i < n; i++)
        s->free[i] = s->gone[i] ? 0 : place_room(&s->known->of[i], w);
    for (int i = 0; i < now->n; i++) {
        int k = find(s->known, now->of[i].name);
        if (s->gone[k])
            continue;
        s->free[k] -= now->of[i].ranks;
        s->hosts_used += !s->used[k];
        s->used[k] = true;
    }
}

/* Returns the ranks that have a place. */
static int search_places(search *s, const hosts *now)
{
    int placed = 0;
    for (int i = 0; i < now->n; i++) {
        int k = find(s->known, now->of[i].name), ranks = now->of[i].ranks;
        if (s->gone[k]) {
            placed += ranks - place_lost(s, ranks);
            continue;
        }
        s->free[k] += ranks; /* put() takes them once more */
        put(s, k, ranks);
        placed += ranks;
    }
    return placed;
}

static bool too_few(const search *s, int placed, int ranks, const wish *w)
{
    bool may_shrink = w->least < w->most;
    int left = s->hosts_used;
    const char *hosts = left == 1 ? "host is" : "hosts are";
    if (left < w->least)
        fail(TORC_ERR_PEER, "%d %s left, and the job needs %d (--nnodes)", left, hosts, w->least);
    else if (placed == 0)
        fail(TORC_ERR_PEER, "no host is left");
    else if (placed < ranks && !may_shrink)
        fail(TORC_ERR_PEER,
             "%d %s left, with room for %d of %d ranks (--nnodes MIN:MAX allows fewer)", left,
             hosts, placed, ranks);
    else
        return false;
    return true;
}

int survive(hosts *now, const hosts *known, const bool *gone, const wish *w)
{
    search s = {.known = known, .gone = gone};
    int ranks = 0;
    for (int i = 0; i < now->n; i++)
        ranks += now->of[i].ranks;
    start(&s, now, w);
    int placed = search_places(&s, now);
    bool refused = too_few(&s, placed, ranks, w);
    hosts *unwanted = refused ? &s.next : now;
    hosts_free(unwanted);
    if (!refused)
        *now = s.next;
    free(s.free);
    free(s.used);
    return refused ? 0 : placed;
}
