/* status -- see status.h. */
#define _GNU_SOURCE /* memfd_create */
#include "core/status.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct writer {
    status own;   /* until there is a file */
    status *file; /* NULL: there is none */
    int fd;
    int depth;                       /* of scopes */
    const char *last_op, *last_name; /* copied already: a loop of one op copies nothing */
    double waited;                   /* for gradients, also since the last step */
    void (*tell)(void *context);
    void *context;
} writer;

static _Thread_local writer the_writer;

static status *here(void)
{
    return the_writer.file ? the_writer.file : &the_writer.own;
}

const status *status_here(void)
{
    return here();
}

/* ---- writing ---- */

/* The clock of the last tick: 4 ms late at most, and read without a system call on any machine. */
void status_beat(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    here()->heartbeat = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Cut to the size of the array; the last byte stays zero whatever a reader sees in between. */
#define COPY(array, text) copy_text(array, sizeof(array), text)

static void copy_text(char *to, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    memcpy(to, text, n);
    to[n] = 0;
}

static void copy_file(status *s, const char *path)
{
    COPY(s->file, path ? base_file_name(path) : "");
}

void status_op(status_phase phase, torc_site at, const char *op)
{
    writer *w = &the_writer;
    status *s = here();
    if (at.file != w->last_name)
        copy_file(s, at.file);
    if (op != w->last_op)
        COPY(s->op, op);
    w->last_name = at.file;
    w->last_op = op;
    s->line = at.line;
    s->phase = phase;
    status_beat();
}

void status_count_batch(void)
{
    here()->batches++;
}

/* What was waited belongs to the step that ends here, so that a reader who divides the two never
 * counts half a step. */
void status_count_step(size_t bytes_of_tensors)
{
    status *s = here();
    status_beat();
    s->step++;
    s->stepped_at = s->heartbeat;
    s->waited = the_writer.waited;
    s->bytes = (int64_t)bytes_of_tensors;
}

void status_waited(double seconds)
{
    the_writer.waited += seconds;
}

void status_loss(double value)
{
    here()->loss = value;
    here()->losses++;
}

void status_set_step(int64_t step)
{
    here()->step = step;
}

void status_wait(const char *what)
{
    COPY(here()->waits_for, what ? what : "");
    status_beat();
}

/* ---- scopes ---- */

static void tell(void)
{
    status_beat();
    if (the_writer.tell)
        the_writer.tell(the_writer.context);
}

void status_enter(const char *scope)
{
    if (the_writer.depth++ > 0)
        return;
    COPY(here()->scope, scope);
    tell();
}

void status_leave(void)
{
    if (the_writer.depth <= 0)
        bug("a scope is left that was not entered");
    if (--the_writer.depth > 0)
        return;
    COPY(here()->scope, "");
    tell();
}

static void leave(void *unused)
{
    (void)unused;
    status_leave();
}

torc_scope torc_long_enter(const char *what)
{
    status_enter(what);
    return (torc_scope){leave, NULL, 1};
}

void status_on_scope(void (*tell_others)(void *context), void *context)
{
    the_writer.tell = tell_others;
    the_writer.context = context;
}

/* ---- the file ---- */

/* -1 where the system refuses: then nobody can look, which is no reason not to train. */
static int make_file(void)
{
    const char *path = getenv("TORC_STATUS_FILE");
    int fd = path && *path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
                           : memfd_create("torc status", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, sizeof(status)) == 0)
        return fd;
    log_line(LOG_WARN, "the status of this rank cannot be read by others: no file %s",
             path && *path ? path : "in memory");
    if (fd >= 0)
        close(fd);
    return -1;
}

int status_open(void)
{
    writer *w = &the_writer;
    if (w->file)
        return w->fd;
    int fd = make_file();
    if (fd < 0)
        return -1;
    void *at = mmap(NULL, sizeof(status), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        close(fd);
        return -1;
    }
    status *s = at;
    *s = w->own;
    s->layout = STATUS_LAYOUT;
    s->pid = getpid();
    w->file = s;
    w->fd = fd;
    status_beat();
    return fd;
}

bool status_read(const char *path, status *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool whole = pread(fd, out, sizeof *out, 0) == (ssize_t)sizeof *out;
    close(fd);
    out->op[sizeof out->op - 1] = out->file[sizeof out->file - 1] = 0;
    out->scope[sizeof out->scope - 1] = out->waits_for[sizeof out->waits_for - 1] = 0;
    return whole && out->layout == STATUS_LAYOUT;
}

/* The number within: in another container this pid may be somebody else's. */
bool status_read_of(int pid, int fd, status *out)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    return fd >= 0 && status_read(path, out) && out->pid == pid;
}

/* ---- in words ---- */

void status_in_words(const status *s, char *text, size_t size)
{
#define PHASE_TEXT(id, words) words,
    static const char *const phases[] = {STATUS_PHASES(PHASE_TEXT)};
    unsigned phase = (unsigned)s->phase < STATUS_PHASE_COUNT ? (unsigned)s->phase : STATUS_IDLE;
    char op[128] = "", site[96] = "", wait[STATUS_TEXT + 16] = "", scope[64] = "";
    if (s->op[0])
        snprintf(op, sizeof op, ", %s%s", phases[phase], s->op);
    if (s->file[0])
        snprintf(site, sizeof site, " at %s:%d", s->file, s->line);
    if (s->scope[0])
        snprintf(scope, sizeof scope, ", %s", s->scope);
    if (s->waits_for[0])
        snprintf(wait, sizeof wait, ", waiting %s", s->waits_for);
    snprintf(text, size, "step %lld%s%s%s%s, %.1f s ago", (long long)s->step, scope, op, site, wait,
             torc_seconds() - s->heartbeat);
}
