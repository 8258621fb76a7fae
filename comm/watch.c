/*
 * watch -- see watch.h. A letter goes to all other ranks at once; of each of them one receive is
 * under way from the first look on, and the last letter that a rank sends says that it is the last.
 */
#include "comm/watch.h"

#include "comm/collective.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_EVERY 1.0 /* seconds between two looks at the scopes of others */
#define FIRST_LOOK 64   /* turns: by then a wait sleeps between them, and the clock costs nothing */
#define LOOK_TURNS 16
#define NAMED 8 /* missing ranks with all that is known; the others are counted */

typedef struct letter {
    uint64_t collectives, transfers; /* entered, started */
    uint64_t number;                 /* what is waited for, in its stream */
    int64_t batches;
    int32_t stream, last;
    char text[STATUS_TEXT]; /* what it is: "in collective 7, ..." or "for gradient bucket 0" */
    char scope[STATUS_NAME];
} letter;

typedef struct outgoing {
    letter letter;
    struct outgoing *next;
    void *handle[]; /* by rank */
} outgoing;

struct watches {
    letter mine;    /* as the next one will be sent */
    letter *heard;  /* heard[r]: the newest of rank r; mine as it was sent */
    letter *coming; /* the receives under way */
    void **receiving;
    double *when; /* when[r] it was heard: seconds, 0 for never */
    outgoing *sent;
    bool fresh; /* something was heard that has not been judged */
};

/* ---- letters ---- */

/* True: all of it has left. */
static torc_status test_outgoing(const comm *c, outgoing *o, bool *gone)
{
    *gone = true;
    for (int r = 0; r < c->size; r++) {
        if (o->handle[r])
            PASS(c->backend->test(c->state, &o->handle[r]));
        *gone = *gone && !o->handle[r];
    }
    return TORC_OK;
}

static torc_status forget_sent(comm *c)
{
    for (outgoing **at = &c->watches->sent; *at;) {
        outgoing *o = *at;
        bool gone;
        PASS(test_outgoing(c, o, &gone));
        if (gone) {
            *at = o->next;
            free(o);
        } else {
            at = &o->next;
        }
    }
    return TORC_OK;
}

static torc_status send_letter(comm *c)
{
    watches *w = c->watches;
    outgoing *o = base_alloc(1, sizeof *o + (size_t)c->size * sizeof *o->handle);
    w->mine.collectives = c->mine.number;
    w->mine.transfers = c->transfers;
    w->mine.batches = status_here()->batches;
    memcpy(w->mine.scope, status_here()->scope, sizeof w->mine.scope);
    o->letter = w->heard[c->rank] = w->mine;
    o->next = w->sent;
    w->sent = o;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank)
            PASS(c->backend->send(c->state, COMM_WATCHES, &o->letter, sizeof o->letter, r, 0,
                                  &o->handle[r]));
    return TORC_OK;
}

static torc_status listen_to(comm *c, int r)
{
    watches *w = c->watches;
    if (!w->receiving[r])
        PASS(c->backend->receive(c->state, COMM_WATCHES, &w->coming[r], sizeof *w->coming, r, 0,
                                 &w->receiving[r]));
    PASS(c->backend->test(c->state, &w->receiving[r]));
    if (!w->receiving[r]) {
        w->heard[r] = w->coming[r];
        w->when[r] = torc_seconds();
        w->fresh = true;
    }
    return TORC_OK;
}

torc_status watches_look(comm *c)
{
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && !c->watches->heard[r].last)
            PASS(listen_to(c, r));
    return forget_sent(c);
}

/* ---- who can never meet ---- */

static bool can_never_meet(const letter *a, const letter *b)
{
    return a->stream == COMM_IN_COLLECTIVE && b->stream == COMM_IN_TRANSFER &&
           a->transfers < b->number && b->collectives < a->number;
}

static torc_status tell_both(const comm *c, int a, int b)
{
    const letter *x = &c->watches->heard[a], *y = &c->watches->heard[b];
    return fail(TORC_ERR_PEER,
                "the ranks are not in the same place: %s is %s, batch %lld; %s waits %s, "
                "batch %lld",
                comm_rank_in_words(c, a).text, x->text, (long long)x->batches,
                comm_rank_in_words(c, b).text, y->text, (long long)y->batches);
}

static torc_status judge(comm *c)
{
    const letter *heard = c->watches->heard;
    for (int a = 0; c->watches->fresh && a < c->size; a++)
        for (int b = 0; b < c->size; b++)
            if (can_never_meet(&heard[a], &heard[b]))
                return tell_both(c, a, b);
    c->watches->fresh = false;
    return TORC_OK;
}

/* ---- who is missing ---- */

comm_words comm_rank_in_words(const comm *c, int rank)
{
    comm_words w;
    const comm_peer *p = &c->peers[rank];
    if (p->pid)
        snprintf(w.text, sizeof w.text, "rank %d (%s, pid %d)", rank, p->host, p->pid);
    else /* still joining: nothing is known of it */
        snprintf(w.text, sizeof w.text, "rank %d", rank);
    return w;
}

static bool read_status(const comm *c, int rank, status *s)
{
    const comm_peer *p = &c->peers[rank];
    return p->pid && c->host_of[rank] == c->host_of[c->rank] &&
           status_read_of(p->pid, p->status_fd, s);
}

comm_words comm_site_of(const comm *c, int rank)
{
    comm_words w = {""};
    status other;
    const status *s = rank == c->rank                ? status_here()
                      : read_status(c, rank, &other) ? &other
                                                     : NULL;
    if (s && s->file[0])
        snprintf(w.text, sizeof w.text, ", at %s:%d", s->file, s->line);
    return w;
}

/* ", in step 12, backward of torc_matmul at train.c:41, 3.2 s ago": from its status if that can be
 * read, else what it wrote last. */
static void add_status(const comm *c, int rank, FILE *f)
{
    status s;
    char text[2 * STATUS_TEXT];
    const watches *w = c->watches;
    if (read_status(c, rank, &s)) {
        status_in_words(&s, text, sizeof text);
        fprintf(f, "in %s", text);
    } else if (w->when[rank] && w->heard[rank].stream) {
        fprintf(f, "waiting %s, %.1f s ago", w->heard[rank].text, torc_seconds() - w->when[rank]);
    } else {
        fprintf(f, "when the job was joined");
    }
}

/* In a collective also where its last arrival was from. */
static void add_missing(const comm_watch *w, int rank, FILE *f)
{
    const comm *c = w->c;
    const comm_arrival *last = &c->heard[rank];
    fprintf(f, "%s, ", comm_rank_in_words(c, rank).text);
    if (w->stream == COMM_IN_TRANSFER)
        fprintf(f, "last seen ");
    else if (!last->number) {
        fprintf(f, "which was never heard of");
        return;
    } else if (last->number == c->mine.number)
        fprintf(f, "which has entered it but sends no data; it was last seen ");
    else
        fprintf(f, "last seen in %s; ", comm_arrival_in_words(last).text);
    add_status(c, rank, f);
}

static torc_status fail_late(const comm_watch *w, const comm_awaited *a, const bool *missing)
{
    const comm *c = w->c;
    char what[STATUS_TEXT], *who = NULL;
    size_t size;
    int named = 0, more = 0;
    FILE *f = open_memstream(&who, &size);
    for (int r = 0; f && r < c->size; r++) {
        if (!missing[r] || r == c->rank)
            continue;
        if (named == NAMED) {
            more++;
            continue;
        }
        fprintf(f, "%s", named++ ? "; " : "");
        add_missing(w, r, f);
    }
    if (f && more > 0)
        fprintf(f, "; and %d more ranks", more);
    if (!f || fclose(f) != 0)
        bug("no memory to tell who is missing");
    a->describe(a->context, what, sizeof what);
    double waited = w->extended ? round(torc_seconds() - w->began) : c->timeout;
    torc_status s = fail(TORC_ERR_TIMEOUT, "%s: %s waited %g s for %s", what,
                         comm_rank_in_words(c, c->rank).text, waited, named ? who : "nobody");
    free(who);
    return s;
}

/* ---- scopes ---- */

static bool is_in_scope(const comm *c, int rank)
{
    status s;
    return read_status(c, rank, &s) ? s.scope[0] : c->watches->heard[rank].scope[0];
}

/* Somebody who is awaited does something long: the deadline is counted from now. */
static bool extend(comm_watch *w, const bool *missing, double now)
{
    const comm *c = w->c;
    double last = w->began + c->long_timeout;
    for (int r = 0; r < c->size && now < last; r++)
        if (missing[r] && r != c->rank && is_in_scope(c, r)) {
            w->wait.deadline = fmin(now + c->timeout, fmax(last, w->wait.deadline));
            w->extended = true;
            return true;
        }
    return false;
}

static void tell_scope(void *of)
{
    comm *c = of;
    if (send_letter(c) != TORC_OK)
        log_line(LOG_WARN, "the other ranks do not know what keeps this one: %s",
                 torc_last_error());
}

/* ---- waiting ---- */

comm_watch comm_watch_start(comm *c)
{
    return (comm_watch){.c = c};
}

static void announce_end(comm_watch *w)
{
    if (!w->announced)
        return;
    w->announced = false;
    w->c->watches->mine.stream = COMM_NOWHERE;
    status_wait(NULL);
}

static void begin(comm_watch *w, const comm_awaited *a)
{
    announce_end(w);
    w->stream = a->stream;
    w->number = a->number;
    w->began = 0;
    w->wait = wait_start(w->c->timeout);
    w->extended = false;
}

static torc_status announce(comm_watch *w, const comm_awaited *a)
{
    static const char *const preposition[] = {"", "in ", "for "};
    char text[STATUS_TEXT - 4];
    watches *all = w->c->watches;
    all->mine.stream = (int32_t)a->stream;
    all->mine.number = a->number;
    a->describe(a->context, text, sizeof text);
    snprintf(all->mine.text, sizeof all->mine.text, "%s%s", preposition[a->stream], text);
    w->announced = all->fresh = true;
    status_wait(all->mine.text);
    return send_letter(w->c);
}

/* Too late, unless somebody who is missing does something long. */
static torc_status check(comm_watch *w, const comm_awaited *a, double now, bool too_late)
{
    torc_status s = TORC_OK;
    bool *missing = base_alloc((size_t)w->c->size, sizeof *missing);
    w->next_check = now + CHECK_EVERY;
    a->missing(a->context, missing);
    if (!extend(w, missing, now) && too_late)
        s = fail_late(w, a, missing);
    free(missing);
    return s;
}

static torc_status look(comm_watch *w, const comm_awaited *a, bool too_late)
{
    double now = torc_seconds(), quiet = w->c->quiet;
    if (w->began == 0) {
        w->began = now;
        w->next_check = now + quiet;
    }
    if (now - w->began < quiet && !too_late)
        return TORC_OK;
    if (!w->announced)
        PASS(announce(w, a));
    status_beat();
    PASS(watches_look(w->c));
    PASS(judge(w->c));
    return now >= w->next_check || too_late ? check(w, a, now, too_late) : TORC_OK;
}

torc_status comm_watch_turn(comm_watch *w, const comm_awaited *a)
{
    if (w->stream != a->stream || w->number != a->number)
        begin(w, a);
    bool too_late = !wait_once(&w->wait);
    if (!too_late && (w->wait.turns < FIRST_LOOK || w->wait.turns % LOOK_TURNS != 0))
        return TORC_OK;
    return look(w, a, too_late);
}

void comm_watch_end(comm_watch *w)
{
    announce_end(w);
}

uint64_t comm_number_transfer(comm *c)
{
    return ++c->transfers;
}

/* ---- joining and leaving ---- */

void watches_open(comm *c)
{
    size_t n = (size_t)c->size;
    watches *w = c->watches = base_alloc(1, sizeof *w);
    w->heard = base_alloc(n, sizeof *w->heard);
    w->coming = base_alloc(n, sizeof *w->coming);
    w->receiving = base_alloc(n, sizeof *w->receiving);
    w->when = base_alloc(n, sizeof *w->when);
    status_on_scope(tell_scope, c);
}

torc_status watches_leave(comm *c)
{
    watches *w = c->watches;
    w->mine.last = true;
    PASS(send_letter(c));
    for (wait t = wait_start(c->timeout);;) {
        bool all = true;
        PASS(watches_look(c));
        for (int r = 0; r < c->size; r++)
            all = all && w->heard[r].last;
        if (all && !w->sent)
            return TORC_OK;
        if (!wait_once(&t))
            return fail(TORC_ERR_TIMEOUT, "rank %d waited %g s for the others to leave", c->rank,
                        c->timeout);
    }
}

void watches_free(watches *w)
{
    if (!w)
        return;
    free(w->heard);
    free(w->coming);
    free(w->receiving);
    free(w->when);
    free(w);
}
