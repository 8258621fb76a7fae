/* events -- see events.h. */
#include "launcher/events.h"

#include "launcher/json_put.h"
#include "launcher/say.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool events_open(events *e, const char *path)
{
    *e = (events){.fd = -1};
    if (!path)
        return true;
    e->fd = strcmp(path, "-")
                ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644)
                : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (e->fd < 0)
        fail(TORC_ERR_IO, "cannot write --json-events %s: %s", path, strerror(errno));
    return e->fd >= 0;
}

void events_close(events *e)
{
    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
}

/* ---- one line ---- */

static text start(const char *name)
{
    text t = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_put_open(&t, NULL, '{');
    json_put_string(&t, "event", name);
    json_put_seconds(&t, "time", (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    return t;
}

/* Who reads along may go: the job goes on. */
static void end(events *e, text *t)
{
    json_put_close(t, '}');
    text_add(t, "\n", 1);
    if (!e->failed && !say_bytes(e->fd, t->bytes, t->used)) {
        e->failed = true;
        say("--json-events ends here: %s", strerror(errno));
    }
    text_free(t);
}

/* ---- pieces ---- */

static void put_table(text *t, const job *j)
{
    json_put_open(t, "ranks", '[');
    for (int r = 0; r < j->ranks; r++) {
        json_put_open(t, NULL, '{');
        json_put_int(t, "rank", r);
        json_put_string(t, "host", plan_host(j, r)->name);
        json_put_close(t, '}');
    }
    json_put_close(t, ']');
}

static void put_rank(text *t, const ranks *all, int r)
{
    const rank *one = &all->of[r];
    json_put_int(t, "rank", r);
    json_put_string(t, "host", one->host);
    json_put_int(t, "pid", one->pid);
}

static const char *end_word(const rank *r)
{
    if (r->state == RANK_LOST)
        return "lost";
    if (r->end.asked)
        return "asked";
    return r->end.signal ? "signal" : "exit";
}

static void put_end(text *t, const rank *r)
{
    json_put_string(t, "end", end_word(r));
    json_put_int(t, "code", r->end.code);
    json_put_int(t, "signal", r->end.signal);
    json_put_bool(t, "core", r->end.core);
    json_put_int(t, "step", r->step);
    json_put_bytes(t, "seen", r->seen.bytes, r->seen.used);
}

static void put_last_lines(text *t, const rank *r)
{
    json_put_open(t, "last_lines", '[');
    for (int64_t i = max_i64(0, r->lines - RANKS_LAST_LINES); i < r->lines; i++) {
        const text *line = &r->last[i % RANKS_LAST_LINES];
        json_put_bytes(t, NULL, line->bytes, line->used);
    }
    json_put_close(t, ']');
}

static void put_cause(text *t, const ranks *all)
{
    static const char *const kinds[] = {"end", "silent", "hang", "left"};
    if (all->first_failure < 0) {
        json_put_null(t, "cause");
        return;
    }
    const rank *r = &all->of[all->first_failure];
    json_put_open(t, "cause", '{');
    put_rank(t, all, all->first_failure);
    json_put_string(t, "kind", kinds[all->cause]);
    put_end(t, r);
    put_last_lines(t, r);
    json_put_close(t, '}');
}

/* ---- the events ---- */

void events_job_start(events *e, const plan *p)
{
    if (e->fd < 0)
        return;
    text t = start("job_start");
    json_put_open(&t, "program", '[');
    for (char **word = p->job.program; *word; word++)
        json_put_string(&t, NULL, *word);
    json_put_close(&t, ']');
    json_put_string(&t, "backend", p->backend->name);
    put_table(&t, &p->job);
    end(e, &t);
}

void events_rank_start(events *e, int attempt, const ranks *all, int r)
{
    if (e->fd < 0)
        return;
    text t = start("rank_start");
    json_put_int(&t, "attempt", attempt);
    put_rank(&t, all, r);
    end(e, &t);
}

void events_rank_exit(events *e, int attempt, const ranks *all, int r)
{
    if (e->fd < 0)
        return;
    text t = start("rank_exit");
    json_put_int(&t, "attempt", attempt);
    put_rank(&t, all, r);
    put_end(&t, &all->of[r]);
    end(e, &t);
}

void events_attempt_end(events *e, int attempt, const ranks *all, int code)
{
    if (e->fd < 0)
        return;
    text t = start("attempt_end");
    json_put_int(&t, "attempt", attempt);
    json_put_int(&t, "code", code);
    put_cause(&t, all);
    end(e, &t);
}

void events_restart(events *e, const plan *p, int attempt, int used, int most, double wait)
{
    if (e->fd < 0)
        return;
    text t = start("restart");
    json_put_int(&t, "attempt", attempt);
    json_put_int(&t, "restart", used);
    json_put_int(&t, "of", most);
    json_put_seconds(&t, "wait", wait);
    put_table(&t, &p->job);
    end(e, &t);
}

void events_job_end(events *e, int code)
{
    if (e->fd < 0)
        return;
    text t = start("job_end");
    json_put_int(&t, "code", code);
    end(e, &t);
}
