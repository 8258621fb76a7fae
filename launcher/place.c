/* place -- see place.h. */
#include "launcher/place.h"

#include "launcher/say.h"

#include <stdio.h>
#include <stdlib.h>

bool place_read_nnodes(const char *text, wish *w)
{
    int end = 0, n = sscanf(text, "%6d%n:%6d%n", &w->least, &end, &w->most, &end);
    if (n == 1)
        w->most = w->least;
    if (n >= 1 && !text[end] && w->least >= 1 && w->most >= w->least)
        return true;
    fail(TORC_ERR_IO, "--nnodes takes a number of hosts or MIN:MAX, not \"%s\"", text);
    return false;
}

static int refuse(int code, const char *format, ...) PRINTF_LIKE(2, 3);
static int refuse(int code, const char *format, ...)
{
    va_list args;
    char sentence[512];
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fail(TORC_ERR_IO, "%s", sentence);
    return code;
}

/* ---- hosts ---- */

static void drop(hosts *all, int from)
{
    for (int i = from; i < all->n; i++)
        free(all->of[i].name);
    all->n = from;
}

static int use_hosts(hosts *all, const wish *w)
{
    if (all->n < w->least)
        return refuse(EXIT_FEW_HOSTS, "the job needs %d hosts, and %d %s known (--hosts)", w->least,
                      all->n, all->n == 1 ? "is" : "are");
    if (w->most && all->n > w->most)
        drop(all, w->most);
    return 0;
}

/* ---- ranks ---- */

/* What --nproc-per-node is on this host; 0: it was not given. */
static int wanted_on(const host *h, const wish *w)
{
    return h->counted ? h->counted : w->per_host;
}

int place_room(const host *h, const wish *w)
{
    if (wanted_on(h, w))
        return wanted_on(h, w);
    return h->slots ? h->slots : w->cores;
}

static int check_slots(const hosts *all, const wish *w)
{
    for (int i = 0; i < all->n && w->per_host && !w->oversubscribe; i++)
        if (all->of[i].slots && all->of[i].slots < wanted_on(&all->of[i], w))
            return refuse(EXIT_USAGE,
                          "--nproc-per-node is %d, but host %s has room for %d (--oversubscribe: "
                          "it is meant)",
                          wanted_on(&all->of[i], w), all->of[i].name, all->of[i].slots);
    return 0;
}

static int check_product(const hosts *all, const wish *w)
{
    int64_t most = 0;
    if (!w->per_host || !w->ranks)
        return 0;
    for (int i = 0; i < all->n; i++)
        most += wanted_on(&all->of[i], w);
    if (w->least && w->least == w->most && w->ranks != most)
        return most == (int64_t)w->per_host * all->n
                   ? refuse(EXIT_USAGE, "%d ranks are not %d on each of %d hosts", w->ranks,
                            w->per_host, all->n)
                   : refuse(EXIT_USAGE, "%d ranks are not the %lld that %d hosts take together",
                            w->ranks, (long long)most, all->n);
    if (w->ranks > most)
        return refuse(EXIT_FEW_HOSTS, "%d ranks, %d on a host, need %d hosts, and %d %s known",
                      w->ranks, w->per_host, (w->ranks + w->per_host - 1) / w->per_host, all->n,
                      all->n == 1 ? "is" : "are");
    return 0;
}

static bool any_slots(const hosts *all)
{
    bool any = false;
    for (int i = 0; i < all->n; i++)
        any = any || all->of[i].slots > 0;
    return any;
}

static void spread(hosts *all, int ranks)
{
    for (int i = 0; i < all->n; i++)
        all->of[i].ranks = ranks / all->n + (i < ranks % all->n);
}

static void fill(hosts *all, const wish *w)
{
    int left = w->ranks;
    for (int i = 0; i < all->n; i++) {
        all->of[i].ranks = (int)min_i64(left, place_room(&all->of[i], w));
        left -= all->of[i].ranks;
    }
    for (int i = 0; i < all->n; i++) /* all are full: the rest goes round */
        all->of[i].ranks += left / all->n + (i < left % all->n);
}

int place_ranks(hosts *all, const wish *w)
{
    int code = use_hosts(all, w);
    code = code ? code : check_slots(all, w);
    code = code ? code : check_product(all, w);
    if (code)
        return code;
    bool evenly = w->ranks && !w->per_host && (w->least || !any_slots(all));
    if (evenly)
        spread(all, w->ranks);
    else if (w->ranks)
        fill(all, w);
    for (int i = 0; i < all->n && !w->ranks; i++)
        all->of[i].ranks = place_room(&all->of[i], w);
    int used = 0; /* whoever gets none stands at the end: ranks are laid from the front */
    while (used < all->n && all->of[used].ranks > 0)
        used++;
    drop(all, used);
    if (used < w->least)
        return refuse(EXIT_USAGE, "%d ranks are too few for %d hosts", w->ranks, w->least);
    return 0;
}
