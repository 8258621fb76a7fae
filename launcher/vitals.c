/* vitals -- see vitals.h. */
#include "launcher/vitals.h"

bool vitals_cut_off(const vitals *v, const rank *r, double now)
{
    return v->host_patience && r->state == RANK_HERE && now - r->heard > v->host_patience;
}

/* The rank that is here and has been quiet the longest; -1: none. */
static int quietest(const ranks *all)
{
    int found = -1;
    for (int r = 0; r < all->n; r++)
        if (all->of[r].state == RANK_HERE && all->of[r].pid &&
            (found < 0 || all->of[r].alive < all->of[found].alive))
            found = r;
    return found;
}

/* Some rank has ended with code 0, and all that are left wait for others. */
static bool are_left(const ranks *all)
{
    bool left = all->first_over >= 0 && ranks_count(all, RANK_HERE) > 0;
    for (int r = 0; r < all->n; r++)
        left = left && (all->of[r].state != RANK_HERE || all->of[r].waits);
    return left;
}

bool vitals_look(vitals *v, ranks *all, double now)
{
    int before = all->first_failure;
    for (int r = 0; r < all->n; r++)
        if (vitals_cut_off(v, &all->of[r], now))
            ranks_blame(all, r, CAUSE_SILENT, v->host_patience);
    int quiet = quietest(all);
    if (v->hang_patience && quiet >= 0 && now - all->of[quiet].alive >= v->hang_patience)
        ranks_blame(all, quiet, CAUSE_HANG, v->hang_patience);
    if (!are_left(all))
        v->left_since = now;
    else if (now - v->left_since >= v->left_patience)
        ranks_blame(all, all->first_over, CAUSE_LEFT, v->left_patience);
    return before < 0 && all->first_failure >= 0;
}
