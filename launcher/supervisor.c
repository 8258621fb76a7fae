/*
 * supervisor -- torcrun on the side of the user: one for all ranks.
 *
 *     terminal -- stdin ----> relay -----> mpirun -----> rank 0
 *              <- stdout ----------------- mpirun <----- all ranks
 *              <- stderr ---- here <~~~~~~~~~~~~~~~~~~~~ all shims      (report.h)
 *                              '<- held -- mpirun's own words
 *
 * Words
 *   peer     a connection (peers.h); a shim's once it has said hello with the job's token.
 *   ending   the ranks that are left were told to end: because one failed, because mpirun is gone
 *            or because the user said so. It ends with `leave` for all, and mpirun then sees only
 *            children that exit.
 *   held     mpirun explains every abnormal end at length. What it says waits a second: if by then
 *            a rank is known to have failed, that is the explanation, and mpirun's is dropped.
 *
 * One poll() waits for everything; nothing here is looked at twice to see whether it has changed.
 */
#define _GNU_SOURCE /* pipe2, sigabbrev_np */
#include "launcher/supervisor.h"

#include "launcher/peers.h"
#include "launcher/program.h"
#include "launcher/ranks.h"
#include "launcher/relay.h"
#include "launcher/report.h"
#include "launcher/say.h"
#include "launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int failure_grace = 500; /* ms from TERM to KILL for the ranks beside a failed one */
static const int user_grace = 5000;   /* ms, when the user ends the job: time for a checkpoint */
static const double held_seconds = 1;
static const double push_seconds = 2; /* mpirun should be over by itself by then */
static const int spare_peers = 64;    /* strangers that may be connected beside the shims */

typedef struct supervisor {
    const char *name; /* of the backend's program: called mpirun below, whatever it is */
    ranks ranks;
    char token[REPORT_TOKEN_SIZE];
    int signals, noise; /* noise: mpirun's stderr. -1: closed */
    relay input;
    peers peers;
    pid_t mpirun;
    ending end; /* of mpirun, once it is gone */
    bool gone, ending, late;
    int grace;  /* ms; while ending */
    int signal; /* with which the user ended the job; 0 */
    text out, held;
    double start_by, held_until, push_at; /* torc_seconds() */
    int pushes;
} supervisor;

/* ---- the ranks ---- */

static void end_all(supervisor *s, int grace)
{
    bool any = ranks_count(&s->ranks, RANK_HERE) > 0;
    s->ending = true;
    s->grace = grace;
    s->push_at = torc_seconds() + (any ? 1e-3 * grace : 0) + push_seconds;
    peers_tell_all(&s->peers, REPORT_END, grace);
}

static void release_if_over(supervisor *s)
{
    if (ranks_count(&s->ranks, RANK_HERE) > 0 ||
        (ranks_count(&s->ranks, RANK_AWAITED) > 0 && !s->ending))
        return;
    s->push_at = torc_seconds() + push_seconds;
    peers_tell_all(&s->peers, REPORT_LEAVE, 0);
}

static void rank_is_over(supervisor *s, int r)
{
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
    memcpy(r->host, hello->host, sizeof r->host);
    if (s->ending) /* it comes too late */
        peers_tell(p, REPORT_END, s->grace);
    if (ranks_count(&s->ranks, RANK_AWAITED) == 0) /* nobody else has business here */
        peers_stop_listening(&s->peers);
    return true;
}

static bool take_message(void *context, peer *p, const report *r)
{
    supervisor *s = context;
    if (p->rank < 0)
        return welcome(s, p, r);
    if (r->kind == REPORT_START)
        s->ranks.of[p->rank].pid = r->pid;
    else if (r->kind == REPORT_LINE)
        ranks_line(&s->ranks, p->rank, r->line, r->length, &s->out);
    else if (r->kind != REPORT_EXIT)
        return false;
    if (r->kind == REPORT_EXIT && s->ranks.of[p->rank].state == RANK_HERE) {
        ranks_ended(&s->ranks, p->rank, r->end);
        rank_is_over(s, p->rank);
    }
    return true;
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
    if (s->ranks.first_failure < 0 && !s->signal)
        text_add(&s->out, s->held.bytes, s->held.used);
    s->held.used = 0;
    s->held_until = INFINITY;
}

/* False when nothing more is there now. */
static bool hear_noise(supervisor *s)
{
    char piece[4096];
    ssize_t n = s->noise < 0 ? -1 : read(s->noise, piece, sizeof piece);
    if (n > 0) {
        text_add(&s->held, piece, (size_t)n);
        s->held_until = fmin(s->held_until, torc_seconds() + held_seconds);
    } else if (n == 0) {
        close(s->noise);
        s->noise = -1;
    }
    return n > 0;
}

static void reap_mpirun(supervisor *s)
{
    if (s->gone || !spawn_reap(s->mpirun, false, &s->end))
        return;
    s->gone = true;
    relay_close(&s->input);
    if (!s->ending)
        end_all(s, failure_grace);
    release_if_over(s);
}

/* What should have ended by itself is helped along, a little harder each time. */
static void push(supervisor *s)
{
    s->push_at = torc_seconds() + push_seconds;
    if (!s->gone && s->pushes < 2) {
        kill(-s->mpirun, s->pushes++ ? SIGKILL : SIGTERM);
        return;
    }
    peers_drop_all(&s->peers); /* a keeper without supervisor kills and exits */
}

/* ---- signals and deadlines ---- */

static void user_ends(supervisor *s, int signal)
{
    if (s->ending) { /* the second time they mean it */
        end_all(s, 0);
        return;
    }
    s->signal = signal;
    say("SIG%s: ending the ranks, within %d s; again: at once", sigabbrev_np(signal),
        user_grace / 1000);
    end_all(s, user_grace);
    release_if_over(s);
}

static void hear_signals(supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap_mpirun(s);
        else
            user_ends(s, (int)info.ssi_signo);
    }
}

static void start_is_late(supervisor *s)
{
    int missing = ranks_count(&s->ranks, RANK_AWAITED);
    s->start_by = INFINITY;
    if (missing == 0 || s->ending)
        return;
    s->late = true;
    say("%d of %d ranks did not start in time (--start-timeout)", missing, s->ranks.n);
    end_all(s, failure_grace);
}

static void keep_deadlines(supervisor *s)
{
    double now = torc_seconds();
    if (now >= s->held_until)
        show_held(s);
    if (now >= s->start_by)
        start_is_late(s);
    if (now >= s->push_at)
        push(s);
}

static int next_deadline(const supervisor *s)
{
    double at = fmin(fmin(s->held_until, s->start_by), s->push_at);
    return isinf(at) ? -1 : (int)ceil(1e3 * fmin(3600, fmax(0, at - torc_seconds())));
}

/* ---- the loop ---- */

enum { ON_SIGNALS, ON_NOISE, ON_INPUT, ON_INPUT_TO, ON_PEERS };

static struct pollfd *watch(supervisor *s, int size)
{
    struct pollfd *on = base_alloc((size_t)size, sizeof *on);
    on[ON_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    on[ON_NOISE] = (struct pollfd){.fd = s->noise, .events = POLLIN};
    relay_watch(&s->input, &on[ON_INPUT]);
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
        relay_move(&s->input, &on[ON_INPUT]);
        if (on[ON_NOISE].revents)
            hear_noise(s);
        if (on[ON_SIGNALS].revents)
            hear_signals(s);
    }
    free(on);
    keep_deadlines(s);
    say_bytes(STDERR_FILENO, s->out.bytes, s->out.used);
    s->out.used = 0;
}

/* ---- the end ---- */

/* No rank is to blame and the user neither. */
static int blame_mpirun(supervisor *s)
{
    int asked = 0, awaited = ranks_count(&s->ranks, RANK_AWAITED);
    for (int r = 0; r < s->ranks.n; r++)
        asked += s->ranks.of[r].end.asked;
    int code = spawn_exit_code(&s->end);
    if (code == 0 && awaited == 0 && asked == 0)
        return 0;
    if (awaited > 0)
        text_format(&s->out, "torcrun: %s started %d of %d ranks and ended with exit code %d\n",
                    s->name, s->ranks.n - awaited, s->ranks.n, code);
    else
        text_format(&s->out, "torcrun: %s ended the job with exit code %d\n", s->name, code);
    return code == 0 || awaited > 0 ? EXIT_LAUNCHER : code;
}

static int conclude(supervisor *s)
{
    while (hear_noise(s)) {
    }
    show_held(s);
    int code;
    if (s->signal) {
        code = EXIT_SIGNAL + s->signal;
    } else if (s->ranks.first_failure >= 0) {
        code = ranks_exit_code(&s->ranks);
        ranks_tell(&s->ranks, &s->out);
    } else {
        code = s->late ? EXIT_LAUNCHER : blame_mpirun(s);
    }
    say_bytes(STDERR_FILENO, s->out.bytes, s->out.used);
    return code;
}

/* ---- the start ---- */

static void set_environment(const command *c, int n, const char *address, const char *token)
{
    char *size = base_format("%d", n);
    for (int i = 0; i < c->setting_count; i++) {
        char *setting = base_strdup(c->settings[i]), *value = strchr(setting, '=');
        *value++ = 0;
        setenv(setting, value, 1);
        free(setting);
    }
    setenv(REPORT_WORLD_SIZE, size, 1);
    free(size);
    setenv(REPORT_ADDRESS, address, 1);
    setenv(REPORT_TOKEN, token, 1);
}

static void start_mpirun(supervisor *s, const command *c)
{
    char *path;
    int ends[2], input = relay_open(&s->input);
    if (program_find(c->words[0], &path) != 0)
        quit(EXIT_LAUNCHER, "%s starts the ranks and is not here: %s", s->name, torc_last_error());
    if (input < 0 || pipe2(ends, O_CLOEXEC) != 0)
        quit(EXIT_LAUNCHER, "cannot make a pipe: %s", strerror(errno));
    spawn plan = {path, c->words, input, ends[1], .session = true, .death_signal = SIGTERM};
    s->mpirun = spawn_start(&plan);
    if (s->mpirun < 0)
        quit(EXIT_LAUNCHER, "cannot run %s: %s", path, strerror(errno));
    close(input);
    close(ends[1]);
    s->noise = ends[0];
    fcntl(s->noise, F_SETFL, O_NONBLOCK);
    free(path);
}

static void clean_up(supervisor *s)
{
    if (s->noise >= 0)
        close(s->noise);
    close(s->signals);
    relay_close(&s->input);
    peers_free(&s->peers);
    ranks_free(&s->ranks);
    text_free(&s->out);
    text_free(&s->held);
}

int supervise(const backend *b, const command *c, int n, int start_timeout)
{
    supervisor s = {.name = b->name, .ranks = ranks_new(n), .noise = -1};
    char address[64];
    s.held_until = s.push_at = INFINITY;
    s.start_by = torc_seconds() + start_timeout;
    s.peers = (peers){.listener = report_listen(address, sizeof address),
                      .most = n + spare_peers,
                      .owner = &s,
                      .message = take_message,
                      .gone = shim_is_gone};
    if (s.peers.listener < 0)
        quit(EXIT_LAUNCHER, "%s", torc_last_error());
    report_new_token(s.token);
    set_environment(c, n, address, s.token);
    spawn_block_signals();
    s.signals = spawn_signal_fd(true);
    start_mpirun(&s, c);
    while (!s.gone || peers_any(&s.peers))
        supervise_once(&s);
    int code = conclude(&s);
    clean_up(&s);
    return code;
}
