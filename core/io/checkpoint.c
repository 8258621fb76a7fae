/*
 * checkpoint -- the calls that save and load (checkpoint.h), and what the ranks agree on.
 *
 * Rank 0 alone sees the directory when something is written; when something is read every rank
 * looks for itself, and a checkpoint counts when all of them could verify it.
 */
#define _GNU_SOURCE /* gettid */
#include "core/io/checkpoint.h"

#include "core/optim/optimizer.h"
#include "core/peers.h"
#include "core/status.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* What rank 0 is writing. */
static struct {
    snapshot s;
    pthread_t thread;
    bool running;
    torc_status status; /* how the last one ended, until told */
    char *why;
} writer;

/* ---- what all ranks get to know ---- */

/* Rank 0's status, on all of them. */
static torc_status agree(const call *c, torc_status mine, const char *dir)
{
    bool first = base_world()->rank == 0;
    double status = first ? (double)mine : 0;
    peers_sum(c->at, c->op, &status, 1);
    if (status != TORC_OK && !first)
        return fail((torc_status)status, "%s: rank 0 could not write there, and said why", dir);
    return (torc_status)status;
}

/* The lowest rank to whom something else than TORC_OK happened tells what; all return its status.
 */
static torc_status agree_all(const call *c, torc_status mine, const char *path)
{
    const world *w = base_world();
    double *all = base_alloc((size_t)w->size, sizeof *all);
    int r = 0;
    all[w->rank] = (double)mine;
    peers_sum(c->at, c->op, all, w->size);
    while (r < w->size && all[r] == TORC_OK)
        r++;
    torc_status status = r < w->size ? (torc_status)all[r] : TORC_OK;
    free(all);
    if (r == w->rank)
        log_line(LOG_WARN, "rejected a checkpoint: %s", torc_last_error());
    else if (status != TORC_OK && mine == TORC_OK)
        fail(status, "%s: rank %d could not take it, and said why", path, r);
    return status;
}

/* ---- saving ---- */

#define NICE 10 /* a tenth of what a thread that computes gets, where they share a core */

static void write_snapshot(void)
{
    writer.status = snapshot_write(&writer.s);
    if (writer.status != TORC_OK) {
        writer.why = base_strdup(torc_last_error());
        log_line(LOG_WARN,
                 "checkpoint of step %lld NOT saved: %s; training goes on, what was saved "
                 "before stays",
                 (long long)writer.s.step, writer.why);
    }
}

/* Linux has priorities of threads, not only of processes. */
static void *write_on_thread(void *unused)
{
    (void)unused;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    write_snapshot();
    return NULL;
}

/* Signals are the training loop's. */
static void start_writing(void)
{
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &before);
    writer.running = pthread_create(&writer.thread, NULL, write_on_thread, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!writer.running) /* no room for a thread: training waits, then */
        write_snapshot();
}

static void wait_for_thread(void)
{
    if (writer.running)
        pthread_join(writer.thread, NULL);
    writer.running = false;
}

/* How the last save ended that nobody has heard of yet. */
static torc_status finish_writing(void)
{
    wait_for_thread();
    torc_status s = writer.status;
    if (s != TORC_OK)
        fail(s, "%s", writer.why);
    free(writer.why);
    writer.why = NULL;
    writer.status = TORC_OK;
    return s;
}

static void check_options(const call *c, torc_module *net, const char *dir,
                          torc_checkpoint_options o)
{
    if (!net)
        call_die(c, "expected a module, found NULL");
    if (!dir || !*dir)
        call_die(c, "expected a directory, found none");
    if (o.keep < 0)
        call_die(c, "expected .keep of 1 or more, found %d", o.keep);
}

static torc_status save(const call *c, torc_module *net, const char *dir, torc_checkpoint_options o)
{
    check_options(c, net, dir, o);
    if (!o.optimizer)
        call_die(c, ".optimizer is required: its steps number the checkpoints; torc_save() writes "
                    "weights alone");
    if (optimizer_must_wait(net))
        return TORC_OK;
    status_enter("saving a checkpoint");
    torc_status status = finish_writing();
    snapshot_clear(&writer.s);
    snapshot_take(c, &writer.s, net, dir, o);
    if (base_world()->rank == 0)
        start_writing();
    if (o.wait)
        status = finish_writing();
    status = agree(c, status, dir);
    status_leave();
    return status;
}

torc_status torc_try_checkpoint_save(torc_module *net, const char *dir, torc_checkpoint_options o)
{
    return save(&(call){{0}, "torc_checkpoint_save"}, net, dir, o);
}

/* What went wrong was said when it did: nobody loses a training run to a full disk. */
void torc_checkpoint_save(torc_site at, torc_module *net, const char *dir,
                          torc_checkpoint_options o)
{
    status_op(STATUS_IDLE, at, __func__);
    save(&(call){at, __func__}, net, dir, o);
}

torc_status torc_checkpoint_flush(torc_site at)
{
    const call c = {at, __func__};
    status_op(STATUS_IDLE, at, __func__);
    status_enter("saving a checkpoint");
    torc_status status = agree(&c, finish_writing(), "checkpoints");
    status_leave();
    return status;
}

void checkpoint_finish(void)
{
    if (!writer.running && !writer.s.values)
        return;
    status_enter("saving a checkpoint");
    finish_writing();
    snapshot_free(&writer.s);
    status_leave();
}

/* ---- loading ---- */

typedef struct search { /* what rank 0 sees */
    checkpoint_name *names;
    int64_t count, next;
    int64_t rejected; /* the highest number among those, -1: none was */
    torc_status status;
} search;

/* The next candidate, the same on every rank. */
static torc_status next_candidate(const call *c, search *s, const char *dir, checkpoint_name *name,
                                  bool *found)
{
    double told[4] = {0};
    if (base_world()->rank == 0) {
        *name = s->next < s->count ? s->names[s->next] : (checkpoint_name){0};
        told[0] = (double)s->status;
        told[1] = s->next++ < s->count;
        told[2] = (double)name->step;
        told[3] = (double)name->number;
    }
    peers_sum(c->at, c->op, told, 4);
    *found = told[1] > 0;
    *name = (checkpoint_name){(int64_t)told[2], (int64_t)told[3]};
    if (told[0] != TORC_OK && base_world()->rank != 0)
        fail((torc_status)told[0], "%s: rank 0 could not read it", dir);
    return (torc_status)told[0];
}

/* From here on no older attempt writes. A directory that cannot be written may still be read. */
static torc_status take_directory(const call *c, const char *dir, int64_t rejected)
{
    int64_t number;
    torc_status s = TORC_OK;
    if (base_world()->rank == 0) {
        s = checkpoint_make_directory(dir);
        if (s == TORC_OK)
            s = checkpoint_fence_take(dir, rejected, &number);
    }
    if (s != TORC_OK && s != TORC_ERR_PEER) {
        log_line(LOG_WARN, "no checkpoint will be saved: %s", torc_last_error());
        s = TORC_OK;
    }
    return agree(c, s, dir);
}

static torc_status take_image(const call *c, torc_module *net, const char *dir,
                              torc_checkpoint_options o, const search *found,
                              const checkpoint_image *image)
{
    torc_status s = o.optimizer ? take_directory(c, dir, found->rejected) : TORC_OK;
    if (s != TORC_OK)
        return s;
    image_take(c, image, net, o);
    double all_have = 0; /* where ranks share memory, nobody computes before all have written */
    peers_sum(c->at, c->op, &all_have, 1);
    if (base_world()->rank == 0)
        manifest_tell_differences(image->manifest, image->path);
    return TORC_OK;
}

/* One candidate on every rank; TORC_OK: it is taken. *rejected: it was not, on some rank. */
static torc_status try_candidate(const call *c, torc_module *net, const char *dir,
                                 torc_checkpoint_options o, search *s, checkpoint_name name,
                                 bool *rejected)
{
    checkpoint_image image;
    torc_status mine = image_open(dir, name, net, o, &image);
    torc_status status = agree_all(c, mine, dir);
    *rejected = status != TORC_OK;
    if (*rejected)
        s->rejected = max_i64(s->rejected, name.number);
    else
        status = take_image(c, net, dir, o, s, &image);
    if (mine == TORC_OK)
        image_close(&image);
    return status;
}

/* The newest that every rank could verify. *step stays -1 where there are none at all. */
static torc_status load_newest(const call *c, torc_module *net, const char *dir,
                               torc_checkpoint_options o, search *s, int64_t *step)
{
    checkpoint_name name;
    bool found, rejected = true;
    char *why = NULL; /* the newest was not taken */
    torc_status reason = TORC_OK, status = next_candidate(c, s, dir, &name, &found);
    while (status == TORC_OK && found && rejected) {
        torc_status one = try_candidate(c, net, dir, o, s, name, &rejected);
        if (rejected && !why) {
            reason = one;
            why = base_strdup(torc_last_error());
        }
        if (rejected)
            status = next_candidate(c, s, dir, &name, &found);
        else
            status = one;
    }
    if (status == TORC_OK && !rejected)
        *step = name.step;
    else if (status == TORC_OK && why)
        status = fail(reason, "%s: no checkpoint can be loaded: %s", dir, why);
    else if (status == TORC_OK && o.optimizer)
        status = take_directory(c, dir, -1);
    free(why);
    return status;
}

static torc_status load(const call *c, torc_module *net, const char *dir, torc_checkpoint_options o,
                        int64_t *step)
{
    check_options(c, net, dir, o);
    search s = {.rejected = -1};
    *step = -1;
    status_enter("loading a checkpoint");
    wait_for_thread();
    if (base_world()->rank == 0)
        s.status = checkpoint_list(dir, &s.names, &s.count);
    torc_status status = load_newest(c, net, dir, o, &s, step);
    free(s.names);
    status_leave();
    return status;
}

torc_status torc_try_checkpoint_load(torc_module *net, const char *dir, torc_checkpoint_options o,
                                     int64_t *step)
{
    int64_t unused;
    return load(&(call){{0}, "torc_checkpoint_load"}, net, dir, o, step ? step : &unused);
}

int64_t torc_checkpoint_load(torc_site at, torc_module *net, const char *dir,
                             torc_checkpoint_options o)
{
    int64_t step;
    status_op(STATUS_IDLE, at, __func__);
    die_unless_ok(at, __func__, load(&(call){at, __func__}, net, dir, o, &step));
    return step;
}
