/* attempts -- see attempts.h. */
#define _GNU_SOURCE /* sigabbrev_np */
#include "launcher/attempts.h"

#include "launcher/budget.h"
#include "launcher/net.h"
#include "launcher/requeue.h"
#include "launcher/say.h"
#include "launcher/spawn.h"
#include "launcher/supervisor.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static const double answer_seconds = 2;
static const useconds_t second_look = 1000000;

typedef struct attempts {
    session job;
    plan *plan;
    const options *options;
    budget budget;
    bool *gone; /* [hosts that are known] */
    int number; /* of the attempt that runs, or ran last */
} attempts;

static const int go_on = -1; /* beside exit codes */

/* ---- hosts ---- */

static int known_number(const attempts *a, const char *name)
{
    int i = 0;
    while (strcmp(a->plan->known.of[i].name, name))
        i++;
    return i;
}

static bool any(const bool *flags, int n)
{
    bool found = false;
    for (int i = 0; i < n; i++)
        found = found || flags[i];
    return found;
}

/* A host whose ranks have all gone without a word is asked whether it is still there. Returns how
 * many hosts were lost. */
static int look_for_hosts(attempts *a, const outcome *end)
{
    const hosts *h = &a->plan->job.hosts;
    const char **names = base_alloc((size_t)h->n, sizeof *names);
    bool *there = base_alloc((size_t)h->n, sizeof *there);
    int asked = 0, lost = 0;
    for (int i = 0; i < h->n; i++)
        if (end->silent[i] && !host_is_here(h->of[i].name))
            names[asked++] = h->of[i].name;
    net_answers(names, asked, answer_seconds, there);
    if (any(there, asked)) { /* one that is just going down may answer once more */
        usleep(second_look);
        net_answers(names, asked, answer_seconds, there);
    }
    for (int i = 0; i < asked; i++) {
        int k = known_number(a, names[i]);
        if (there[i] || a->gone[k])
            continue;
        a->gone[k] = true;
        lost++;
        say("host %s does not answer and is left out from now on", names[i]);
    }
    free(names);
    free(there);
    return lost;
}

/* ---- again or not ---- */

static int refuse(const attempts *a, verdict v, const outcome *end)
{
    if (v == VERDICT_LOOP)
        say("rank %d failed %d times in a row at step %lld: a crash loop, not restarted", end->rank,
            BUDGET_LOOP, (long long)end->step);
    else
        say("not restarted: %d restart%s without progress (--max-restarts)",
            a->options->max_restarts, a->options->max_restarts == 1 ? "" : "s");
    return end->code;
}

/* Returns go_on, with the plan changed, or the exit code of the job. */
static int decide(attempts *a, const outcome *end)
{
    if (!end->failed || a->options->max_restarts == 0)
        return end->code;
    if (a->job.wished) { /* the time is nearly over: this is no moment to begin again */
        say("not restarted, for SIGUSR1 asked for the end: the last checkpoint goes on later");
        return EXIT_AGAIN;
    }
    int lost = look_for_hosts(a, end);
    if (end->nobody_came && lost == 0)
        return end->code;
    verdict v = budget_failure(&a->budget, end->rank, end->step, end->best_step);
    if (v != VERDICT_RESTART)
        return refuse(a, v, end);
    if (lost > 0 && !plan_again(a->plan, a->gone)) {
        say("not restarted: %s", torc_last_error());
        return EXIT_FEW_HOSTS;
    }
    return go_on;
}

static void announce(const attempts *a, double seconds)
{
    int hosts = hosts_different(&a->plan->job.hosts), ranks = a->plan->job.ranks;
    say("restarting %d rank%s on %d host%s, restart %d of %d, from the last checkpoint, in %g s",
        ranks, ranks == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s", a->budget.used, a->budget.most,
        seconds);
}

/* ---- the time between ---- */

/* Returns go_on, or the exit code that a signal asks for. */
static int hear_signals(attempts *a)
{
    struct signalfd_siginfo info;
    int code = go_on;
    while (read(a->job.signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGUSR1)
            code = EXIT_AGAIN;
        else if (info.ssi_signo != SIGCHLD)
            code = EXIT_SIGNAL + (int)info.ssi_signo;
    return code;
}

static int wait_between(attempts *a, double seconds)
{
    double until = torc_seconds() + seconds, left;
    int code = go_on;
    while (code == go_on && (left = until - torc_seconds()) > 0) {
        struct pollfd on = {.fd = a->job.signals, .events = POLLIN};
        if (poll(&on, 1, (int)ceil(1e3 * left)) > 0)
            code = hear_signals(a);
    }
    return code;
}

/* ---- the chain ---- */

static int run_one(attempts *a)
{
    command c = {0};
    a->job.board.now.attempt = a->number;
    a->job.board.now.restarts_left = a->budget.most - a->budget.used;
    a->plan->backend->build(&a->plan->job, &c);
    outcome end = supervise(a->plan, &c, a->number, &a->job);
    command_free(&c);
    int code = decide(a, &end);
    outcome_free(&end);
    return code;
}

/* The same in all attempts and in no other job. */
static void note_launch(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char *text = base_format("%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    setenv(REPORT_LAUNCHED, text, 1);
    free(text);
}

int attempts_run(plan *p, const options *o)
{
    attempts a = {.plan = p,
                  .options = o,
                  .budget = budget_new(o->max_restarts, o->restart_delay),
                  .gone = base_alloc((size_t)p->known.n, sizeof(bool))};
    note_launch();
    spawn_block_signals();
    a.job = (session){.options = o, .signals = spawn_signal_fd(true), .input = {.to = -1}};
    if (!events_open(&a.job.events, o->json_events))
        quit(EXIT_USAGE, "%s", torc_last_error());
    events_job_start(&a.job.events, p);
    board_open(&a.job.board, o->program[0], o->log_dir);
    int code;
    while ((code = run_one(&a)) == go_on) {
        double seconds = budget_wait(&a.budget);
        announce(&a, seconds);
        events_restart(&a.job.events, p, a.number + 1, a.budget.used, a.budget.most, seconds);
        board_between(&a.job.board, seconds);
        code = wait_between(&a, seconds);
        if (code != go_on)
            break;
        a.number++;
    }
    if (code == EXIT_AGAIN && o->requeue && !requeue())
        say("not requeued: %s", torc_last_error());
    board_close(&a.job.board, code);
    events_job_end(&a.job.events, code);
    events_close(&a.job.events);
    close(a.job.signals);
    relay_free(&a.job.input);
    free(a.gone);
    return code;
}
