/* ranks -- see ranks.h. */
#define _GNU_SOURCE /* sigabbrev_np */
#include "launcher/ranks.h"

#include "launcher/say.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ranks ranks_new(int n)
{
    ranks all = {
        .of = base_alloc((size_t)n, sizeof(rank)), .n = n, .first_failure = -1, .first_over = -1};
    for (int r = 0; r < n; r++) {
        all.of[r].step = -1;
        all.of[r].figures = NO_FIGURES;
    }
    return all;
}

void ranks_free(ranks *all)
{
    for (int r = 0; r < all->n; r++) {
        text_free(&all->of[r].seen);
        for (int i = 0; i < RANKS_LAST_LINES; i++)
            text_free(&all->of[r].last[i]);
    }
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

int64_t ranks_best_step(const ranks *all)
{
    int64_t best = -1;
    for (int r = 0; r < all->n; r++)
        best = max_i64(best, all->of[r].step);
    return best;
}

/* ---- what happens to a rank ---- */

void ranks_line(ranks *all, int r, const char *line, size_t length)
{
    rank *me = &all->of[r];
    text *last = &me->last[me->lines++ % RANKS_LAST_LINES];
    last->used = 0;
    text_add(last, line, length);
}

void ranks_beat(ranks *all, int r, const report *beat)
{
    rank *me = &all->of[r];
    me->figures = beat->figures;
    if (beat->age < 0) /* it says nothing of itself: only what it prints is a sign of life */
        return;
    me->alive = fmax(me->alive, torc_seconds() - 1e-3 * (double)beat->age);
    me->waits = beat->waits;
    me->step = beat->step;
    me->seen.used = 0;
    text_add(&me->seen, beat->line, beat->length);
}

bool ranks_left_well(const rank *r)
{
    return r->state == RANK_ENDED && !r->end.signal &&
           (r->end.code == 0 || r->end.code == EXIT_AGAIN);
}

static bool failed(const rank *r)
{
    return r->state == RANK_LOST ||
           (r->state == RANK_ENDED && !r->end.asked && !ranks_left_well(r));
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
    if (ranks_left_well(&all->of[r]) && !end.asked && all->first_over < 0)
        all->first_over = r;
}

void ranks_lost(ranks *all, int r)
{
    all->of[r].state = RANK_LOST;
    note_failure(all, r);
}

void ranks_blame(ranks *all, int r, rank_cause cause, int patience)
{
    if (all->first_failure >= 0)
        return;
    all->first_failure = r;
    all->cause = cause;
    all->patience = patience;
}

/* ---- the story ---- */

int ranks_exit_code(const ranks *all)
{
    const rank *r = &all->of[all->first_failure];
    if (all->cause == CAUSE_HANG)
        return EXIT_HANG;
    if (all->cause == CAUSE_LEFT)
        return EXIT_RENDEZVOUS;
    if (r->state == RANK_LOST)
        return EXIT_LAUNCHER;
    return spawn_exit_code(&r->end);
}

static void tell_cause(const ranks *all, const rank *r, text *out)
{
    const char *name = sigabbrev_np(r->end.signal);
    if (all->cause == CAUSE_HANG)
        text_format(out, "hangs: no sign of life for %d s (--hang-timeout)", all->patience);
    else if (all->cause == CAUSE_SILENT)
        text_format(out, "was lost: its host has not answered for %d s", all->patience);
    else if (all->cause == CAUSE_LEFT)
        text_format(out, "ended with exit code %d while the others wait for it (--grace)",
                    r->end.code);
    else if (r->state == RANK_LOST)
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
    int ended = 0, finished = 0, also = 0, lost = 0, never = 0, told = 0;
    for (int r = 0; r < all->n; r++) {
        const rank *one = &all->of[r];
        if (r == all->first_failure)
            continue;
        ended += one->state == RANK_HERE || (one->state == RANK_ENDED && one->end.asked);
        also += failed(one) && one->state != RANK_LOST;
        finished += one->state == RANK_ENDED && !one->end.asked && !failed(one);
        lost += one->state == RANK_LOST;
        never += one->state == RANK_AWAITED;
    }
    if (all->n == 1)
        return;
    text_format(out, "  The others: ");
    tell_number(out, &told, ended, "ended by torcrun");
    tell_number(out, &told, finished, "finished");
    tell_number(out, &told, also, "failed as well");
    tell_number(out, &told, lost, "lost");
    tell_number(out, &told, never, "never started");
    text_format(out, ".\n");
}

void ranks_tell(const ranks *all, text *out)
{
    const rank *r = &all->of[all->first_failure];
    text_format(out, "torcrun: rank %d on host %s ", all->first_failure, r->host);
    if (r->pid) /* else it never ran */
        text_format(out, "(pid %d) ", r->pid);
    tell_cause(all, r, out);
    tell_last_lines(r, out);
    if (r->seen.used > 0)
        text_format(out, "  Last seen: %.*s.\n", (int)r->seen.used, r->seen.bytes);
    tell_others(all, out);
}
