/* survey -- see survey.h. */
#include "launcher/survey.h"

#include "launcher/peers.h"
#include "launcher/report.h"
#include "launcher/say.h"
#include "launcher/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double stream_seconds = 4, leave_seconds = 2; /* at most */

typedef struct asking {
    survey *result;
    starter mpirun; /* or srun */
    peers peers;
    char token[REPORT_TOKEN_SIZE];
    text noise;
    int rates; /* that were told */
} asking;

/* ---- what probes say ---- */

static bool take_fact(asking *r, peer *p, const report *m)
{
    survey_host *h = &r->result->of[p->rank];
    fact which;
    if (m->kind != REPORT_LINE)
        return false;
    if (facts_read(&h->facts, m->line, m->length, &which)) {
        h->answered = h->answered || which == FACT_STREAM;
        r->rates += which == FACT_RATE;
    }
    return true;
}

static bool take_message(void *context, peer *p, const report *m)
{
    asking *r = context;
    if (p->rank >= 0)
        return take_fact(r, p, m);
    if (m->kind != REPORT_HELLO || strcmp(m->token, r->token) || m->rank < 0 ||
        m->rank >= r->result->n)
        return false;
    p->rank = m->rank;
    return true;
}

static void probe_is_gone(void *context, int rank)
{
    (void)context;
    (void)rank; /* what it had told stays; what it had not is missing */
}

static void hear_once(asking *r, double until)
{
    int size = 1 + peers_poll_size(&r->peers);
    struct pollfd *on = base_alloc((size_t)size, sizeof *on);
    on[0] = (struct pollfd){.fd = r->mpirun.noise, .events = POLLIN};
    peers_watch(&r->peers, &on[1]);
    if (poll(on, (nfds_t)size, (int)ceil(1e3 * fmax(0, until - torc_seconds()))) >= 0) {
        peers_hear(&r->peers, &on[1], size - 1);
        if (on[0].revents)
            starter_hear(&r->mpirun);
    }
    free(on);
}

/* ---- three rounds, each with its deadline ---- */

static int count_answered(const survey *s)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        n += s->of[i].answered;
    return n;
}

/* mpirun's stderr ends with mpirun. */
static void await_answers(asking *r, double seconds)
{
    double until = torc_seconds() + seconds;
    while (count_answered(r->result) < r->result->n && r->mpirun.noise >= 0 &&
           torc_seconds() < until)
        hear_once(r, until);
}

static peer *find_peer(asking *r, int rank)
{
    for (int i = 0; i < r->peers.n; i++)
        if (r->peers.of[i].rank == rank)
            return &r->peers.of[i];
    return NULL;
}

/* The next after `i` that can be sent to; `i` itself where there is no other. */
static int next_in_ring(const survey *s, int i)
{
    int next = i;
    do
        next = (next + 1) % s->n;
    while (next != i && !(s->of[next].answered && *s->of[next].facts.of[FACT_STREAM]));
    return next;
}

static void measure_streams(asking *r)
{
    survey *s = r->result;
    double until = torc_seconds() + stream_seconds;
    int streams = 0;
    for (int i = 0; i < s->n; i++) {
        int to = next_in_ring(s, i);
        peer *p = s->of[i].answered && to != i ? find_peer(r, i) : NULL;
        if (!p)
            continue;
        const char *where = s->of[to].facts.of[FACT_STREAM];
        peers_tell(p, &(report){.kind = REPORT_LINE, .line = where, .length = strlen(where)});
        s->of[to].from = i;
        streams++;
    }
    while (r->rates < streams && torc_seconds() < until)
        hear_once(r, until);
}

static void let_go(asking *r)
{
    double until = torc_seconds() + leave_seconds;
    peers_stop_listening(&r->peers);
    peers_tell_all(&r->peers, &(report){.kind = REPORT_LEAVE});
    for (int pushes = 0; !starter_reap(&r->mpirun) && pushes < 2;) {
        hear_once(r, fmin(until, torc_seconds() + 0.02));
        if (torc_seconds() < until)
            continue;
        kill(-r->mpirun.pid, SIGTERM); /* it then removes its folders */
        until += leave_seconds;
        pushes++;
    }
    if (!r->mpirun.gone) {
        kill(-r->mpirun.pid, SIGKILL);
        spawn_reap(r->mpirun.pid, true, &r->mpirun.end);
    }
    spawn_end_orphans(); /* mpirun puts every ssh into a group of its own */
    spawn_adopt_orphans(false);
    starter_hear(&r->mpirun);
    starter_release(&r->mpirun, &r->noise);
}

/* ---- around them ---- */

/* mpirun frames what it says with lines of dashes. */
static void keep_first_words(const text *noise, char *why, size_t size)
{
    size_t at = 0, n = 0;
    *why = 0;
    for (; at < noise->used && strchr("-\r\n ", noise->bytes[at]); at++) {
    }
    while (at + n < noise->used && noise->bytes[at + n] != '\n')
        n++;
    if (n > 0)
        snprintf(why, size, "%.*s", (int)n, noise->bytes + at);
}

static void start(asking *r, const backend *b, const job *j)
{
    char address[64];
    command c = {0};
    r->peers = (peers){.listener = report_listen(j->address, address, sizeof address),
                       .most = j->ranks + 16, /* strangers may knock, too */
                       .owner = r,
                       .message = take_message,
                       .gone = probe_is_gone};
    if (r->peers.listener < 0)
        quit(EXIT_LAUNCHER, "%s", torc_last_error());
    report_new_token(r->token);
    b->build(j, &c);
    command_apply(&c);
    setenv(REPORT_ADDRESS, address, 1);
    setenv(REPORT_TOKEN, r->token, 1);
    setenv(REPORT_WORLD_SIZE, "0", 1); /* mpirun hands on all of these, and wants them set */
    setenv(REPORT_ATTEMPT, "0", 1);
    setenv(REPORT_LAUNCHED, "0", 1);
    spawn_adopt_orphans(true);
    r->mpirun = starter_start(b, &c, open("/dev/null", O_RDONLY | O_CLOEXEC));
    command_free(&c);
}

void survey_run(survey *s, const backend *b, const job *j, double seconds, bool streams)
{
    asking r = {.result = s};
    s->n = j->hosts.n;
    s->of = base_alloc((size_t)s->n, sizeof *s->of);
    s->names = base_alloc((size_t)s->n, sizeof *s->names);
    for (int i = 0; i < s->n; i++) {
        s->names[i] = base_strdup(j->hosts.of[i].name);
        s->of[i].from = -1;
    }
    start(&r, b, j);
    await_answers(&r, seconds);
    if (streams)
        measure_streams(&r);
    let_go(&r);
    keep_first_words(&r.noise, s->why, sizeof s->why);
    peers_free(&r.peers);
    starter_free(&r.mpirun);
    text_free(&r.noise);
}

void survey_add_this_host(survey *s)
{
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    for (int i = 0; i < s->n; i++)
        if (host_is_here(s->names[i]))
            return;
    s->of = base_grow(s->of, (size_t)s->n + 1, sizeof *s->of);
    s->names = base_grow(s->names, (size_t)s->n + 1, sizeof *s->names);
    s->names[s->n] = base_strdup(name);
    s->of[s->n] = (survey_host){.answered = true, .from = -1};
    facts_here(&s->of[s->n++].facts);
}

void survey_free(survey *s)
{
    for (int i = 0; i < s->n; i++)
        free((char *)s->names[i]);
    free(s->names);
    free(s->of);
    *s = (survey){0};
}
