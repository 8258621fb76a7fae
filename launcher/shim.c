/*
 * shim -- torcrun on the side of one rank.
 *
 *     mpirun -- front            is what mpirun sees: lives as long as the keeper, dies with mpirun
 *                 |
 *               keeper ~~~~~~~~ supervisor        (report.h)
 *                 |
 *               program          in a process group of its own, dies with the keeper
 *
 * Words
 *   front    the process that mpirun started. mpirun ends a job by killing its children without
 *            warning, and whoever is killed so cannot tidy up. Hence two processes:
 *   keeper   out of reach of that kill, in a group of its own. It notices the front's death by the
 *            end of a pipe and ends the program with all the program's children.
 *   leave    a keeper whose program is over stays until the supervisor says that all are: else
 *            mpirun would see one rank gone and kill the others, also those still writing.
 *
 * stdin is mpirun's own descriptor, handed on untouched. stdout and stderr are read here, cut into
 * whole lines and reported, so that nothing mpirun says can be taken for a rank's, and two ranks
 * cannot write into one line (outputs.h).
 */
#define _GNU_SOURCE /* pipe2 */
#include "launcher/shim.h"

#include "launcher/backend.h"
#include "launcher/bind.h"
#include "launcher/catchers.h"
#include "launcher/outputs.h"
#include "launcher/probe.h"
#include "launcher/program.h"
#include "launcher/pulse.h"
#include "launcher/report.h"
#include "launcher/say.h"
#include "launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const int orphan_patience = 100; /* ms: mpirun killed the front; see front_is_gone() */
static const int orphan_grace = 500;    /* ms from TERM to KILL when nobody is left to ask */
static const double beat_seconds = 1;

typedef struct keeper {
    int rank;
    pid_t program;                  /* 0: not running */
    ending end;                     /* once it is over */
    int supervisor, front, signals; /* descriptors; -1: closed */
    outputs outputs;
    pace pace;                        /* of the program's steps */
    double term_at, kill_at, beat_at; /* torc_seconds() */
    double patience, heard;           /* seconds; when the supervisor last said something */
    text out, message_rest;
    int wish;     /* a signal that the program is to get once it catches it; 0 */
    bool ending;  /* the program was told to end, or is about to be */
    bool leaving; /* the supervisor knows all and lets go */
    bool alone;   /* there is no supervisor any more */
} keeper;

/* ---- to the supervisor ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void end_program(keeper *k, int patience, int grace)
{
    double term_at = torc_seconds() + 1e-3 * patience;
    k->ending = true;
    k->term_at = fmin(k->term_at, term_at);
    k->kill_at = fmin(k->kill_at, term_at + 1e-3 * grace);
}

/* Without a supervisor there is no job: the program goes, and nobody is waited for. */
static void supervisor_is_gone(keeper *k)
{
    close_fd(&k->supervisor);
    k->alone = true;
    end_program(k, 0, orphan_grace);
}

static void flush_reports(keeper *k)
{
    if (k->supervisor >= 0 && !report_send(k->supervisor, &k->out))
        supervisor_is_gone(k);
    k->out.used = 0;
}

static void hand_on_wish(keeper *k)
{
    if (k->wish && k->program && catchers_tell(k->program, k->wish) > 0)
        k->wish = 0;
}

static void beat(keeper *k)
{
    hand_on_wish(k); /* it may catch it by now */
    report r;
    char words[PULSE_TEXT];
    pulse_read(&r, words, &k->pace, k->program);
    report_write(&k->out, &r);
    k->beat_at = torc_seconds() + beat_seconds;
    flush_reports(k);
}

static void report_sentence(void *context, const char *sentence)
{
    keeper *k = context;
    text line = {0};
    text_format(&line, "torcrun: %s", sentence);
    report_write(&k->out, &(report){.kind = REPORT_LINE, .line = line.bytes, .length = line.used});
    text_free(&line);
}

static void say_hello(keeper *k, const char *token)
{
    report hello = {.kind = REPORT_HELLO, .rank = k->rank};
    strncpy(hello.token, token, sizeof hello.token - 1);
    if (gethostname(hello.host, sizeof hello.host - 1) != 0 || !hello.host[0])
        strcpy(hello.host, "?");
    report_write(&k->out, &hello);
    flush_reports(
        k); /* now: from here on a death of this process is a rank lost, not one missing */
}

/* ---- the program ---- */

/* Once the program is over: all that is left there. */
static void read_to_the_end(keeper *k)
{
    while (outputs_read_out(&k->outputs, &k->out))
        flush_reports(k);
    while (outputs_read_err(&k->outputs, &k->out))
        flush_reports(k);
    outputs_rest(&k->outputs, &k->out);
}

static void report_exit(keeper *k)
{
    if (k->program)
        beat(k); /* what it did last */
    k->program = 0;
    report_write(&k->out, &(report){.kind = REPORT_EXIT, .end = k->end});
    flush_reports(k);
}

static void reap_program(keeper *k)
{
    if (!k->program || !spawn_reap(k->program, false, &k->end))
        return;
    spawn_end_orphans();
    read_to_the_end(k);
    report_exit(k);
}

static void run_program(keeper *k, char **words)
{
    char *path;
    int output = -1, errors = -1, code = program_find(words[0], &path);
    if (!code && !outputs_open(&k->outputs, &output, &errors))
        code = EXIT_LAUNCHER;
    pulse_open();
    bind_as_told(report_sentence, k); /* the program inherits it */
    spawn s = {path, words, -1, output, errors, .death_signal = SIGKILL};
    if (!code && (k->program = spawn_start(&s)) < 0) {
        k->program = 0;
        code = EXIT_CANNOT_RUN;
        fail(TORC_ERR_IO, "cannot run %s: %s", path, strerror(errno));
    }
    free(path);
    close_fd(&output);
    close_fd(&errors);
    if (code) {
        k->end.code = code;
        report_sentence(k, torc_last_error());
        report_exit(k);
        return;
    }
    report_write(&k->out, &(report){.kind = REPORT_START, .pid = k->program});
    flush_reports(k);
}

/* ---- what may happen ---- */

/* Who does not catch the signal cannot do what it asks for. */
static void ask_program(keeper *k, const report *r)
{
    k->wish = r->signal;
    hand_on_wish(k);
    if (k->wish && r->milliseconds >= 0) {
        k->wish = 0;
        end_program(k, 0, r->milliseconds);
    }
    if (k->wish && k->program)
        report_sentence(k, "SIGUSR1 is kept until the program catches it (torc_should_stop)");
}

static bool obey(void *context, const char *line, size_t length)
{
    keeper *k = context;
    report r;
    if (!report_read(line, length, &r))
        return true;
    if (r.kind == REPORT_WELCOME && r.milliseconds > 0) {
        k->patience = 1e-3 * r.milliseconds;
        report_set_patience(k->supervisor, (int)ceil(k->patience));
    }
    if (r.kind == REPORT_SIGNAL)
        ask_program(k, &r);
    if (r.kind == REPORT_END)
        end_program(k, 0, r.milliseconds);
    if (r.kind == REPORT_LEAVE)
        k->leaving = true;
    return true;
}

static void hear_supervisor(keeper *k)
{
    char piece[4096];
    ssize_t n = recv(k->supervisor, piece, sizeof piece, MSG_DONTWAIT);
    k->heard = torc_seconds();
    if (n > 0)
        text_lines(&k->message_rest, piece, (size_t)n, REPORT_LIMIT, obey, k);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        supervisor_is_gone(k);
}

/* mpirun is ending the job. Perhaps because this very program called MPI_Abort(3) and is about to
 * exit with 3: it is given a moment to do so, else its own exit code would never be known. */
static void front_is_gone(keeper *k)
{
    close_fd(&k->front);
    if (!k->ending) /* else a longer grace may be running */
        end_program(k, orphan_patience, orphan_grace);
}

static void keep_deadlines(keeper *k)
{
    double now = torc_seconds();
    if (k->program && now >= k->term_at) {
        k->end.asked = true;
        kill(-k->program, SIGTERM);
        kill(-k->program, SIGCONT); /* a stopped one could not hear it */
        k->term_at = INFINITY;
    }
    if (k->program && now >= k->kill_at) {
        kill(-k->program, SIGKILL);
        k->kill_at = INFINITY;
    }
    if (now >= k->outputs.part_at)
        outputs_part(&k->outputs, &k->out);
    if (now >= k->beat_at)
        beat(k);
    if (!k->alone && now >= k->heard + k->patience) /* this host is cut off from torcrun's */
        supervisor_is_gone(k);
}

/* Milliseconds until the next deadline, rounded up. */
static int next_deadline(const keeper *k)
{
    double at = fmin(k->beat_at, k->outputs.part_at);
    if (k->program)
        at = fmin(at, fmin(k->term_at, k->kill_at));
    return (int)ceil(1e3 * fmax(0, at - torc_seconds()));
}

static void keep_once(keeper *k)
{
    struct pollfd on[] = {{.fd = k->signals, .events = POLLIN},
                          {.fd = k->supervisor, .events = POLLIN},
                          {.fd = k->outputs.err, .events = POLLIN},
                          {.fd = k->outputs.out, .events = POLLIN},
                          {.fd = k->front, .events = POLLIN}};
    if (poll(on, ARRAY_LENGTH(on), next_deadline(k)) < 0)
        return;
    if (on[1].revents) /* before the front: an `end` already here has the longer grace */
        hear_supervisor(k);
    if (on[2].revents)
        outputs_read_err(&k->outputs, &k->out);
    if (on[3].revents)
        outputs_read_out(&k->outputs, &k->out);
    if (on[4].revents)
        front_is_gone(k);
    char drain[1024];
    if (on[0].revents && read(k->signals, drain, sizeof drain) > 0)
        reap_program(k);
    keep_deadlines(k);
    flush_reports(k);
}

/* ---- the two processes ---- */

static _Noreturn void keep(keeper *k, const char *address, const char *token, char **words)
{
    setpgid(0, 0);
    k->supervisor = report_connect(address);
    if (k->supervisor < 0) { /* it is gone already: as if it went later, but nothing was started */
        say("%s", torc_last_error());
        _exit(EXIT_LAUNCHER);
    }
    k->heard = torc_seconds();
    k->beat_at = k->heard + beat_seconds;
    say_hello(k, token);
    unsetenv(REPORT_ADDRESS);
    unsetenv(REPORT_TOKEN);
    k->signals = spawn_signal_fd(false);
    spawn_adopt_orphans(true);
    run_program(k, words);
    /* The program has them now. Held here as well, their end could not be seen. */
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    while (k->program || !(k->leaving || k->alone))
        keep_once(k);
    if (k->leaving) /* mpirun need not hear of a failure that the supervisor tells better */
        _exit(0);
    _exit(spawn_exit_code(&k->end));
}

static _Noreturn void be_front(pid_t keeper_pid)
{
    ending end = {.code = EXIT_LAUNCHER};
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    spawn_adopt_orphans(true);
    spawn_reap(keeper_pid, true, &end);
    spawn_end_orphans(); /* a keeper that was killed could not */
    _exit(spawn_exit_code(&end));
}

/* A command line that --dry-run printed, started by hand, has no supervisor: then there is nothing
 * to keep, and the program takes the shim's place. */
static _Noreturn void run_alone(char **words)
{
    char *path;
    int code = program_find(words[0], &path);
    if (code)
        quit(code, "%s", torc_last_error());
    execv(path, words);
    quit(EXIT_CANNOT_RUN, "cannot run %s: %s", path, strerror(errno));
}

void shim_main(char **words)
{
    const backend *b = words[0] ? backend_find(words[0]) : NULL;
    const char *rank = b ? getenv(b->rank_variable) : NULL;
    if (!rank || !words[1])
        quit(EXIT_USAGE, "--shim is for torcrun itself, which starts it through %s",
             b ? b->name : "mpirun");
    for (char **word = ++words; *word; word++)
        command_restore(*word);
    const char *address = getenv(REPORT_ADDRESS), *token = getenv(REPORT_TOKEN);
    if (!address || !token)
        run_alone(words);
    if (!strcmp(words[0], PROBE_WORD)) /* no program's name: it would have been looked up */
        probe_main(atoi(rank), address, token);

    int ends[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    spawn_block_signals();
    if (pipe2(ends, O_CLOEXEC) != 0)
        quit(EXIT_LAUNCHER, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        quit(EXIT_LAUNCHER, "cannot start another process: %s", strerror(errno));
    if (child > 0) {
        close(ends[0]); /* the writing end stays open until this process ends, however it does */
        be_front(child);
    }
    close(ends[1]);
    keeper k = {.rank = atoi(rank), .front = ends[0], .signals = -1};
    outputs_none(&k.outputs);
    k.term_at = k.kill_at = k.patience = INFINITY;
    keep(&k, address, token, words);
}
