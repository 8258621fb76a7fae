/*
 * trace -- see trace.h.
 *
 *     rank 0   [---- own ----][- rank 1 -][- rank 2 -]   --> file
 *     rank 1   .  waits  .  .  text, text, 0
 *     rank 2   .  waits  .  .  .  .  .  .  text, text, 0
 *
 * Text travels in pieces, each after its length, so that no rank needs room for all of it. The
 * others are patient with rank 0: it is in a scope (core/status.h).
 *
 * Clocks. torc_seconds() is one clock on a host. The lowest rank of each other host answers rank
 * 0's questions for the time; of the quickest answer, half the way there and back is taken for the
 * way back (Cristian 1989), which is wrong by no more than that half.
 */
#include "allreduce/trace.h"

#include "comm/watch.h"
#include "core/profile.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAG = 32000, QUESTIONS = 16 };

typedef struct line { /* to another rank */
    comm *c;
    int peer;
    uint64_t transfer; /* all that is sent here is one, to the watch */
    FILE *file;        /* rank 0's; NULL once writing has failed */
    bool begun;
    torc_status status; /* the first that was not TORC_OK ends it */
} line;

/* ---- bytes ---- */

static void describe(const void *of_line, char *text, size_t size)
{
    const line *l = of_line;
    snprintf(text, size, "for the trace of rank %d", comm_rank(l->c) ? comm_rank(l->c) : l->peer);
}

static void missing(const void *of_line, bool *is_missing)
{
    const line *l = of_line;
    is_missing[l->peer] = true;
}

static void finish(line *l, comm_request *q)
{
    comm_awaited a = {COMM_IN_TRANSFER, l->transfer, describe, missing, l};
    comm_watch w = comm_watch_start(l->c);
    bool done = false;
    while (l->status == TORC_OK && !done) {
        l->status = comm_test(l->c, q, &done);
        if (l->status == TORC_OK && !done)
            l->status = comm_watch_turn(&w, &a);
    }
    comm_watch_end(&w);
}

static void tell(line *l, const void *what, size_t bytes)
{
    comm_request q = {NULL};
    if (l->status == TORC_OK)
        l->status = comm_send(l->c, what, bytes, l->peer, TAG, &q);
    finish(l, &q);
}

static void hear(line *l, void *what, size_t bytes)
{
    comm_request q = {NULL};
    if (l->status == TORC_OK)
        l->status = comm_receive(l->c, what, bytes, l->peer, TAG, &q);
    finish(l, &q);
}

/* ---- clocks ---- */

/* What must be added to the peer's clock to have this one. */
static double ask_time(line *l)
{
    double best = INFINITY, shift = 0;
    for (int i = 0; i < QUESTIONS && l->status == TORC_OK; i++) {
        double theirs = 0, asked = torc_seconds();
        tell(l, &asked, sizeof asked);
        hear(l, &theirs, sizeof theirs);
        double took = torc_seconds() - asked;
        if (took < best) {
            best = took;
            shift = asked + took / 2 - theirs;
        }
    }
    return shift;
}

static void answer_time(line *l)
{
    for (int i = 0; i < QUESTIONS; i++) {
        double unused, now;
        hear(l, &unused, sizeof unused);
        now = torc_seconds();
        tell(l, &now, sizeof now);
    }
}

static int lowest_rank(const comm *c, int host)
{
    int r = 0;
    while (comm_host_of(c, r) != host)
        r++;
    return r;
}

/* shift[host], on rank 0; hosts are numbered by their lowest ranks, rank 0's is the first. */
static void compare_clocks(line *l, double *shift)
{
    comm *c = l->c;
    shift[0] = 0;
    for (int host = 1; host < comm_hosts(c); host++) {
        int other = lowest_rank(c, host);
        l->peer = comm_rank(c) == 0 ? other : 0;
        if (comm_rank(c) == 0)
            shift[host] = ask_time(l);
        else if (comm_rank(c) == other)
            answer_time(l);
    }
}

/* ---- text ---- */

static void warn_of_file(line *l, const char *path)
{
    log_line(LOG_WARN, "no trace: %s cannot be written: %s", path, strerror(errno));
    if (l->file)
        fclose(l->file);
    l->file = NULL;
}

/* Every event begins with the comma that parts it from the one before. */
static void write_text(void *of_line, const char *text, size_t bytes)
{
    line *l = of_line;
    size_t skip = l->begun ? 0 : 1;
    l->begun = true;
    if (l->file && fwrite(text + skip, 1, bytes - skip, l->file) != bytes - skip)
        warn_of_file(l, profile_trace_path());
}

static void send_text(void *of_line, const char *text, size_t bytes)
{
    uint64_t length = bytes;
    tell(of_line, &length, sizeof length);
    tell(of_line, text, bytes);
}

static void copy_text(line *l, char *room)
{
    for (uint64_t length = 1; length > 0 && l->status == TORC_OK;) {
        hear(l, &length, sizeof length);
        if (l->status != TORC_OK || length == 0)
            return;
        if (length > PROFILE_PIECE)
            bug("a piece of %llu bytes of the trace", (unsigned long long)length);
        hear(l, room, length);
        if (l->status == TORC_OK)
            write_text(l, room, length);
    }
}

static void collect(line *l, double shift, double origin)
{
    comm *c = l->c;
    int rank = comm_rank(c);
    l->peer = 0;
    profile_write_events(rank, comm_host(c, rank), shift, origin, rank ? send_text : write_text, l);
    if (rank > 0) {
        tell(l, &(uint64_t){0}, sizeof(uint64_t));
        return;
    }
    char *room = base_alloc(PROFILE_PIECE, 1);
    for (l->peer = 1; l->peer < comm_size(c) && l->status == TORC_OK; l->peer++)
        copy_text(l, room);
    free(room);
}

/* ---- all of it ---- */

static double first_begin(void)
{
    int64_t count;
    const profile_record **all = profile_records(&count);
    double first = INFINITY;
    for (int64_t i = 0; i < count; i++)
        first = fmin(first, all[i]->begin);
    free(all);
    return first;
}

/* Rank 0 has the file; whether it has, and the clocks, are news to the others. */
static void write_all(line *l)
{
    comm *c = l->c;
    size_t hosts = (size_t)comm_hosts(c);
    double *terms = base_alloc(hosts + 1, sizeof *terms), *shift = terms + 1;
    compare_clocks(l, shift);
    terms[0] = l->file != NULL;
    if (l->status == TORC_OK)
        l->status = comm_broadcast(c, terms, (hosts + 1) * sizeof *terms, 0, "clocks of the trace");
    double mine = shift[comm_host_of(c, comm_rank(c))], origin = first_begin() + mine;
    if (l->status == TORC_OK)
        l->status = comm_allreduce(c, &origin, 1, TORC_F64, COMM_MIN, "begin of the trace");
    if (l->status == TORC_OK && terms[0] != 0)
        collect(l, mine, isfinite(origin) ? origin : 0);
    free(terms);
}

static void write_file(line *l, const char *path)
{
    if (!(l->file = fopen(path, "w")))
        warn_of_file(l, path);
    if (l->file)
        fputs("[", l->file);
    write_all(l);
    if (l->file && (fputs("\n]\n", l->file) < 0 || fflush(l->file) != 0))
        warn_of_file(l, path);
    if (l->file)
        fclose(l->file);
}

/* They meet in a collective first: if a rank still waits for a gradient, the watch can tell. */
void trace_write(comm *c, const char *path)
{
    line l = {.c = c, .status = comm_barrier(c, "trace")};
    if (l.status == TORC_OK) {
        l.transfer = comm_number_transfer(c);
        status_enter("writing the trace");
        if (comm_rank(c) == 0)
            write_file(&l, path);
        else
            write_all(&l);
        status_leave();
    }
    if (l.status != TORC_OK)
        log_line(LOG_WARN, "the trace is not whole: %s", torc_last_error());
}
