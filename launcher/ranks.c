/* ranks -- see ranks.h. */
#define _GNU_SOURCE /* sigabbrev_np */
#include "launcher/ranks.h"

#include "launcher/say.h"

#include <stdlib.h>
#include <string.h>

ranks ranks_new(int n)
{
    return (ranks){.of = base_alloc((size_t)n, sizeof(rank)), .n = n, .first_failure = -1};
}

void ranks_free(ranks *all)
{
    for (int r = 0; r < all->n; r++)
        for (int i = 0; i < RANKS_LAST_LINES; i++)
            text_free(&all->of[r].last[i]);
    free(all->of);
    *all = (ranks){0};
}

int ranks_count(const ranks *all, rank_state state)
{
    int count = 0;
    for (int r = 0; r < all->n; r++)
        count += all->of[r].state == state;
    return count;
}

/* ---- what happens to a rank ---- */

void ranks_line(ranks *all, int r, const char *line, size_t length, text *out)
{
    rank *me = &all->of[r];
    text *last = &me->last[me->lines++ % RANKS_LAST_LINES];
    last->used = 0;
    text_add(last, line, length);
    text_format(out, "[%d] ", r);
    text_add(out, line, length);
    text_add(out, "\n", 1);
}

static bool failed(const rank *r)
{
    return r->state == RANK_LOST ||
           (r->state == RANK_ENDED && !r->end.asked && (r->end.code || r->end.signal));
}

static void note_failure(ranks *all, int r)
{
    if (all->first_failure < 0 && failed(&all->of[r]))
        all->first_failure = r;
}

void ranks_ended(ranks *all, int r, ending end)
{
    all->of[r].state = RANK_ENDED;
    all->of[r].end = end;
    note_failure(all, r);
}

void ranks_lost(ranks *all, int r)
{
    all->of[r].state = RANK_LOST;
    note_failure(all, r);
}

/* ---- the story ---- */

int ranks_exit_code(const ranks *all)
{
    const rank *r = &all->of[all->first_failure];
    if (r->state == RANK_LOST)
        return EXIT_LAUNCHER;
    return spawn_exit_code(&r->end);
}

static void tell_cause(const rank *r, text *out)
{
    const char *name = sigabbrev_np(r->end.signal);
    if (r->state == RANK_LOST)
        text_format(out, "was lost: its shim is gone and cannot say how it ended");
    else if (!r->end.signal)
        text_format(out, "ended with exit code %d", r->end.code);
    else
        text_format(out, "was ended by signal %d (%s%s)%s", r->end.signal, name ? "SIG" : "",
                    name ? name : "no name", r->end.core ? " and left a core dump" : "");
}

static void tell_last_lines(const rank *r, text *out)
{
    if (r->lines == 0) {
        text_format(out, ", without a word on stderr.\n");
        return;
    }
    text_format(out, "; its last lines on stderr:\n");
    for (int64_t i = max_i64(0, r->lines - RANKS_LAST_LINES); i < r->lines; i++) {
        const text *line = &r->last[i % RANKS_LAST_LINES];
        text_format(out, "    ");
        text_add(out, line->bytes, line->used);
        text_add(out, "\n", 1);
    }
}

/* Adds "2 finished" to the list of what became of the others. */
static void tell_number(text *out, int *told, int count, const char *what)
{
    if (count > 0)
        text_format(out, "%s%d %s", (*told)++ ? ", " : "", count, what);
}

static void tell_others(const ranks *all, text *out)
{
    int ended = 0, finished = 0, also = 0, never = 0, told = 0;
    for (int r = 0; r < all->n; r++) {
        const rank *one = &all->of[r];
        if (r == all->first_failure)
            continue;
        ended += one->state == RANK_HERE || (one->state == RANK_ENDED && one->end.asked);
        also += failed(one);
        finished += one->state == RANK_ENDED && !one->end.asked && !failed(one);
        never += one->state == RANK_AWAITED;
    }
    if (all->n == 1)
        return;
    text_format(out, "  The others: ");
    tell_number(out, &told, ended, "ended by torcrun");
    tell_number(out, &told, finished, "finished");
    tell_number(out, &told, also, "failed as well");
    tell_number(out, &told, never, "never started");
    text_format(out, ".\n");
}

void ranks_tell(const ranks *all, text *out)
{
    const rank *r = &all->of[all->first_failure];
    text_format(out, "torcrun: rank %d on host %s ", all->first_failure, r->host);
    if (r->pid) /* else it never ran */
        text_format(out, "(pid %d) ", r->pid);
    tell_cause(r, out);
    tell_last_lines(r, out);
    tell_others(all, out);
}
