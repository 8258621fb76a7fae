/*
 * supervisor -- torcrun on the side of the user: one for all ranks.
 *
 *     terminal -- stdin ----> relay -----> mpirun -----> rank 0
 *              <- stdout ---- here <~~~~~~~~~~~~~~~~~~~~ all shims      (console.h, logs.h)
 *              <- stderr ---- here <~~~~~~~~~~~~~~~~~~~~ all shims      (report.h)
 *                              '<- held -- mpirun's own words     (starter.h)
 *
 * Words
 *   peer     a connection (peers.h); a shim's once it has said hello with the job's token.
 *   ending   the ranks that are left were told to end: because one failed, because mpirun is gone
 *            or because the user said so. It ends with `leave` for all, and mpirun then sees only
 *            children that exit.
 *   asked    the first thing that is done when the user says so: programs that understand it save
 *            and leave by themselves, all at the same step. It is an ending with a second part,
 *            for those that are still there after --grace seconds.
 *
 * One poll() waits for everything; nothing here is looked at twice to see whether it has changed.
 */
#define _GNU_SOURCE /* sigabbrev_np */
#include "launcher/supervisor.h"

#include "launcher/console.h"
#include "launcher/logs.h"
#include "launcher/peers.h"
#include "launcher/report.h"
#include "launcher/say.h"
#include "launcher/spawn.h"
#include "launcher/vitals.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int failure_grace = 500; /* ms from TERM to KILL for the ranks beside a failed one */
static const double beat_seconds = 1;
static const int host_patience = 10;  /* seconds of silence after which a host is cut off */
static const double push_seconds = 2; /* mpirun should be over by itself by then */
static const int spare_peers = 64;    /* strangers that may be connected beside the shims */

static const report wish_to_leave = {.kind = REPORT_SIGNAL, .signal = SIGUSR1, .milliseconds = -1};

typedef struct supervisor {
    starter mpirun; /* called so below, also where it is srun */
    session *job;
    int attempt;
    bool remote; /* some ranks are on other hosts, which can be cut off */
    vitals vitals;
    console console;
    logs logs;
    ranks ranks;
    char token[REPORT_TOKEN_SIZE];
    peers peers;
    bool ending;
    int grace; /* ms; while ending */
    outcome_wish wish;
    text out;
    double start_by, end_at, push_at, beat_at; /* torc_seconds() */
    int pushes;
} supervisor;

/* ---- the ranks ---- */

static void end_all(supervisor *s, int grace)
{
    bool any = ranks_count(&s->ranks, RANK_HERE) > 0;
    s->ending = true;
    s->grace = grace;
    s->end_at = INFINITY;
    s->push_at = torc_seconds() + (any ? 1e-3 * grace : 0) + push_seconds;
    peers_tell_all(&s->peers, &(report){.kind = REPORT_END, .milliseconds = grace});
}

/* Those whose program understands it get the time to save, the others the time to end. */
static void ask_all(supervisor *s, int grace)
{
    s->ending = true;
    s->grace = grace;
    s->end_at = torc_seconds() + 1e-3 * grace;
    peers_tell_all(&s->peers,
                   &(report){.kind = REPORT_SIGNAL, .signal = SIGUSR1, .milliseconds = grace});
}

static void release_if_over(supervisor *s)
{
    if (ranks_count(&s->ranks, RANK_HERE) > 0 ||
        (ranks_count(&s->ranks, RANK_AWAITED) > 0 && !s->ending))
        return;
    s->push_at = torc_seconds() + push_seconds;
    peers_tell_all(&s->peers, &(report){.kind = REPORT_LEAVE});
}

static void rank_is_over(supervisor *s, int r)
{
    events_rank_exit(&s->job->events, s->attempt, &s->ranks, r);
    bool cut_short = s->ranks.first_failure >= 0 || s->ranks.of[r].end.asked;
    if (cut_short && !s->ending)
        end_all(s, failure_grace);
    release_if_over(s);
}

static bool welcome(supervisor *s, peer *p, const report *hello)
{
    if (hello->kind != REPORT_HELLO || strcmp(hello->token, s->token) || hello->rank < 0 ||
        hello->rank >= s->ranks.n || s->ranks.of[hello->rank].state != RANK_AWAITED)
        return false;
    p->rank = hello->rank;
    rank *r = &s->ranks.of[p->rank];
    r->state = RANK_HERE;
    r->heard = r->alive = torc_seconds();
    memcpy(r->host, hello->host, sizeof r->host);
    peers_tell(
        p, &(report){.kind = REPORT_WELCOME, .milliseconds = s->remote ? 1000 * host_patience : 0});
    if (s->ending) /* it comes too late */
        peers_tell(p, &(report){.kind = REPORT_END, .milliseconds = s->grace});
    else if (s->job->wished)
        peers_tell(p, &wish_to_leave);
    if (ranks_count(&s->ranks, RANK_AWAITED) == 0) /* nobody else has business here */
        peers_stop_listening(&s->peers);
    return true;
}

/* What the program printed is a sign of life, too. */
static void take_output(supervisor *s, int r, const report *m)
{
    bool newline = m->kind != REPORT_PART;
    s->ranks.of[r].alive = torc_seconds();
    logs_add(&s->logs, r, m->kind == REPORT_LINE ? LOG_ERR : LOG_OUT, m->line, m->length, newline);
    if (m->kind != REPORT_LINE) {
        console_stdout(&s->console, r, m->line, m->length, newline);
        return;
    }
    ranks_line(&s->ranks, r, m->line, m->length);
    console_stderr(&s->console, r, m->line, m->length);
}

static void take_exit(supervisor *s, int r, const report *m)
{
    if (s->ranks.of[r].state != RANK_HERE)
        return;
    ranks_ended(&s->ranks, r, m->end);
    rank_is_over(s, r);
}

static bool take_message(void *context, peer *p, const report *r)
{
    supervisor *s = context;
    if (p->rank < 0)
        return welcome(s, p, r);
    s->ranks.of[p->rank].heard = torc_seconds();
    switch (r->kind) {
    case REPORT_START:
        s->ranks.of[p->rank].pid = r->pid;
        events_rank_start(&s->job->events, s->attempt, &s->ranks, p->rank);
        return true;
    case REPORT_LINE:
    case REPORT_OUT:
    case REPORT_PART:
        take_output(s, p->rank, r);
        return true;
    case REPORT_BEAT:
        ranks_beat(&s->ranks, p->rank, r);
        return true;
    case REPORT_EXIT:
        take_exit(s, p->rank, r);
        return true;
    default:
        return false;
    }
}

static void shim_is_gone(void *context, int r)
{
    supervisor *s = context;
    if (s->ranks.of[r].state == RANK_HERE) { /* it should have told how the program ended */
        ranks_lost(&s->ranks, r);
        rank_is_over(s, r);
    }
}

/* ---- mpirun ---- */

static void show_held(supervisor *s)
{
    bool explained = s->ranks.first_failure >= 0 || s->wish.signal;
    starter_release(&s->mpirun, explained ? NULL : &s->out);
}

static void reap_mpirun(supervisor *s)
{
    if (!starter_reap(&s->mpirun))
        return;
    relay_close(&s->job->input);
    if (!s->ending)
        end_all(s, failure_grace);
    release_if_over(s);
}

/* What should have ended by itself is helped along, a little harder each time. */
static void push(supervisor *s)
{
    s->push_at = torc_seconds() + push_seconds;
    if (!s->mpirun.gone && s->pushes < 2) {
        kill(-s->mpirun.pid, s->pushes++ ? SIGKILL : SIGTERM);
        return;
    }
    peers_drop_all(&s->peers); /* a keeper without supervisor kills and exits */
}

/* ---- signals and deadlines ---- */

static void user_ends(supervisor *s, int signal)
{
    int grace = s->job->options->grace;
    if (s->ending) { /* the second time they mean it */
        end_all(s, 0);
        return;
    }
    s->wish.signal = signal;
    say("SIG%s: ending the ranks, within %d s; again: at once", sigabbrev_np(signal), grace);
    ask_all(s, 1000 * grace);
    release_if_over(s);
}

static void hear_signals(supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->job->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap_mpirun(s);
        else if (info.ssi_signo == SIGUSR1)
            s->job->wished = true;
        else
            user_ends(s, (int)info.ssi_signo);
        if (info.ssi_signo == SIGUSR1 && !s->ending)
            peers_tell_all(&s->peers, &wish_to_leave);
    }
}

static void start_is_late(supervisor *s)
{
    int missing = ranks_count(&s->ranks, RANK_AWAITED);
    s->start_by = INFINITY;
    if (missing == 0 || s->ending)
        return;
    s->wish.late = true;
    say("%d of %d ranks did not start in time (--start-timeout)", missing, s->ranks.n);
    end_all(s, failure_grace);
}

static void beat(supervisor *s, double now)
{
    s->beat_at = now + beat_seconds;
    if (s->remote)
        peers_tell_all(&s->peers, &(report){.kind = REPORT_BEAT, .age = -1});
    if (!s->ending && vitals_look(&s->vitals, &s->ranks, now))
        end_all(s, failure_grace);
    for (int r = 0; r < s->ranks.n; r++)
        if (vitals_cut_off(&s->vitals, &s->ranks.of[r], now))
            peers_drop_rank(&s->peers, r);
    board_note(&s->job->board, &s->ranks, false);
}

static void keep_deadlines(supervisor *s)
{
    double now = torc_seconds();
    if (now >= s->mpirun.held_until)
        show_held(s);
    if (now >= s->beat_at)
        beat(s, now);
    if (now >= s->start_by)
        start_is_late(s);
    if (now >= s->end_at)
        end_all(s, failure_grace);
    if (now >= s->push_at)
        push(s);
}

static int next_deadline(const supervisor *s)
{
    double at = fmin(fmin(s->mpirun.held_until, s->start_by), fmin(s->push_at, s->beat_at));
    at = fmin(fmin(at, s->end_at), console_next(&s->console));
    return (int)ceil(1e3 * fmax(0, at - torc_seconds()));
}

/* ---- the loop ---- */

enum { ON_SIGNALS, ON_NOISE, ON_INPUT, ON_INPUT_TO, ON_PEERS };

static struct pollfd *watch(supervisor *s, int size)
{
    struct pollfd *on = base_alloc((size_t)size, sizeof *on);
    on[ON_SIGNALS] = (struct pollfd){.fd = s->job->signals, .events = POLLIN};
    on[ON_NOISE] = (struct pollfd){.fd = s->mpirun.noise, .events = POLLIN};
    relay_watch(&s->job->input, &on[ON_INPUT]);
    peers_watch(&s->peers, &on[ON_PEERS]);
    return on;
}

/* The peers come first: what a rank said of itself explains what mpirun says and does next. */
static void supervise_once(supervisor *s)
{
    int size = ON_PEERS + peers_poll_size(&s->peers);
    struct pollfd *on = watch(s, size);
    if (poll(on, (nfds_t)size, next_deadline(s)) >= 0) {
        peers_hear(&s->peers, &on[ON_PEERS], size - ON_PEERS);
        relay_move(&s->job->input, &on[ON_INPUT]);
        if (on[ON_NOISE].revents)
            starter_hear(&s->mpirun);
        if (on[ON_SIGNALS].revents)
            hear_signals(s);
    }
    free(on);
    keep_deadlines(s);
    console_release(&s->console, false);
    console_write(&s->console);
    say_bytes(STDERR_FILENO, s->out.bytes, s->out.used);
    s->out.used = 0;
}

/* ---- the end ---- */

static outcome conclude(supervisor *s, const plan *p)
{
    console_end(&s->console); /* before any word of torcrun's */
    starter_hear(&s->mpirun);
    show_held(s);
    outcome o = outcome_of(p, &s->ranks, &s->mpirun, s->wish, &s->out);
    say_bytes(STDERR_FILENO, s->out.bytes, s->out.used);
    board_note(&s->job->board, &s->ranks, true);
    events_attempt_end(&s->job->events, s->attempt, &s->ranks, o.code);
    return o;
}

/* ---- the start ---- */

static void clean_up(supervisor *s)
{
    starter_free(&s->mpirun);
    relay_close(&s->job->input);
    peers_free(&s->peers);
    ranks_free(&s->ranks);
    logs_end(&s->logs);
    text_free(&s->out);
}

/* Sets the address for the shims. */
static void start_listening(supervisor *s, const plan *p, char *address, size_t size)
{
    s->peers = (peers){.listener = report_listen(p->job.address, address, size),
                       .most = p->job.ranks + spare_peers,
                       .owner = s,
                       .message = take_message,
                       .gone = shim_is_gone};
    if (s->peers.listener < 0)
        quit(EXIT_LAUNCHER, "%s", torc_last_error());
}

outcome supervise(const plan *p, const command *c, int attempt, session *job)
{
    const options *o = job->options;
    supervisor s = {
        .ranks = ranks_new(p->job.ranks), .job = job, .attempt = attempt, .remote = p->job.remote};
    char address[64];
    s.beat_at = torc_seconds() + beat_seconds;
    s.vitals = (vitals){s.remote ? host_patience : 0, o->hang_timeout, o->grace, s.beat_at};
    if (!console_start(&s.console, &s.ranks, o->console_ranks, o->prefix) ||
        !logs_start(&s.logs, o->log_dir, attempt, p->job.ranks))
        quit(EXIT_USAGE, "%s", torc_last_error());
    s.push_at = s.end_at = INFINITY;
    s.start_by = torc_seconds() + o->start_timeout;
    start_listening(&s, p, address, sizeof address);
    report_new_token(s.token);
    command_apply(c);
    report_tell_shims(s.ranks.n, attempt, address, s.token);
    int input = relay_open(&job->input);
    s.mpirun = starter_start(p->backend, c, input);
    board_note(&job->board, &s.ranks, true);
    while (!s.mpirun.gone || peers_any(&s.peers))
        supervise_once(&s);
    outcome end = conclude(&s, p);
    clean_up(&s);
    return end;
}
