/* outcome -- see outcome.h. */
#include "launcher/outcome.h"

#include "launcher/say.h"

#include <stdlib.h>

static int count_asked(const ranks *all)
{
    int asked = 0;
    for (int r = 0; r < all->n; r++)
        asked += all->of[r].end.asked;
    return asked;
}

/* No rank is to blame and the user neither. */
static int blame_starter(const ranks *all, const starter *s, text *story)
{
    int awaited = ranks_count(all, RANK_AWAITED), code = spawn_exit_code(&s->end);
    const char *name = s->backend->name;
    if (code == 0 && awaited == 0 && count_asked(all) == 0)
        return 0;
    if (awaited > 0)
        text_format(story, "torcrun: %s started %d of %d ranks and ended with exit code %d\n", name,
                    all->n - awaited, all->n, code);
    else
        text_format(story, "torcrun: %s ended the job with exit code %d\n", name, code);
    return code == 0 || awaited > 0 ? EXIT_LAUNCHER : code;
}

/* They have left together, each by itself, and some say that there is more to do. */
static bool want_to_go_on(const ranks *all)
{
    bool all_well = true, any = false;
    for (int r = 0; r < all->n; r++) {
        all_well = all_well && ranks_left_well(&all->of[r]);
        any = any || all->of[r].end.code == EXIT_AGAIN;
    }
    return all_well && any;
}

static int exit_code(const ranks *all, const starter *s, outcome_wish wish, text *story)
{
    if (want_to_go_on(all))
        return EXIT_AGAIN;
    if (wish.signal)
        return EXIT_SIGNAL + wish.signal;
    if (all->first_failure >= 0) {
        ranks_tell(all, story);
        return ranks_exit_code(all);
    }
    return wish.late ? EXIT_RENDEZVOUS : blame_starter(all, s, story);
}

/* A program that is not there will not be there the next time. */
static bool may_pass(int code)
{
    static const int lasting[] = {0, EXIT_USAGE, EXIT_AGAIN, EXIT_CANNOT_RUN, EXIT_NOT_FOUND};
    for (int i = 0; i < ARRAY_LENGTH(lasting); i++)
        if (code == lasting[i])
            return false;
    return true;
}

static bool *silent_hosts(const plan *p, const ranks *all)
{
    const hosts *h = &p->job.hosts;
    bool *silent = base_alloc((size_t)h->n, sizeof *silent);
    for (int i = 0, r = 0; i < h->n; i++) {
        silent[i] = true;
        for (int k = 0; k < h->of[i].ranks; k++, r++)
            silent[i] =
                silent[i] && (all->of[r].state == RANK_LOST || all->of[r].state == RANK_AWAITED);
    }
    return silent;
}

outcome outcome_of(const plan *p, const ranks *all, const starter *s, outcome_wish wish,
                   text *story)
{
    int rank = all->first_failure;
    outcome o = {.code = exit_code(all, s, wish, story),
                 .rank = rank,
                 .step = rank >= 0 ? all->of[rank].step : -1,
                 .best_step = ranks_best_step(all),
                 .nobody_came = ranks_count(all, RANK_AWAITED) == all->n,
                 .silent = silent_hosts(p, all)};
    o.failed = !wish.signal && may_pass(o.code);
    return o;
}

void outcome_free(outcome *o)
{
    free(o->silent);
    o->silent = NULL;
}
