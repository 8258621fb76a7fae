/* terminal -- see terminal.h. */
#define _GNU_SOURCE
#include "launcher/terminal.h"

#include "launcher/say.h"
#include "launcher/text.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A line that began before the lane was full may go on for a while; then it is cut. */
enum { LANE_MOST = 8 << 20, LANE_SLACK = 1 << 20, ATOMIC = 4096 };
static const int room_seconds = 1, flush_seconds = 5;

typedef struct lane {
    int fd; /* -1: this lane is not used */
    struct stat file;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    text queue; /* from `from` on */
    size_t from;
    long long dropped; /* lines, since that was last said */
    bool inside;       /* a line that is not ended yet */
    bool skipping;     /* the rest of the line that is being dropped */
    bool dropping;
    bool dead; /* nobody reads any more */
} lane;

static lane lanes[2] = {{.fd = -1}, {.fd = -1}};

static size_t waiting(const lane *l)
{
    return l->queue.used - l->from;
}

/* ---- the thread ---- */

/* Up to 4096 bytes a pipe takes all or nothing, so that whoever reads after the end of this process
 * finds whole lines. */
static size_t next_piece(const lane *l)
{
    const char *bytes = l->queue.bytes + l->from;
    size_t n = min_i64((int64_t)waiting(l), ATOMIC);
    const char *end = memrchr(bytes, '\n', n);
    return end ? (size_t)(end + 1 - bytes) : n;
}

static void forget_written(lane *l, size_t n)
{
    l->from += n;
    if (l->from == l->queue.used)
        l->from = l->queue.used = 0;
    if (l->from > LANE_MOST / 2) { /* room in front */
        memmove(l->queue.bytes, l->queue.bytes + l->from, waiting(l));
        l->queue.used -= l->from;
        l->from = 0;
    }
}

static void *write_lane(void *context)
{
    lane *l = context;
    char piece[ATOMIC];
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (waiting(l) == 0)
            pthread_cond_wait(&l->changed, &l->lock);
        size_t n = next_piece(l);
        memcpy(piece, l->queue.bytes + l->from, n);
        pthread_mutex_unlock(&l->lock);
        bool fine = l->dead || say_now(l->fd, piece, n);
        pthread_mutex_lock(&l->lock);
        l->dead = l->dead || !fine;
        forget_written(l, n);
        pthread_cond_broadcast(&l->changed);
    }
    return NULL;
}

/* ---- the other side ---- */

/* Waits until the lane changes; false after so many seconds. Its lock is held. */
static bool wait_for_change(lane *l, int seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    return pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0;
}

static bool has_room(lane *l, size_t n)
{
    if (l->dropping)
        return waiting(l) + n <= LANE_MOST / 2;
    double until = torc_seconds() + room_seconds;
    while (waiting(l) + n > LANE_MOST && torc_seconds() < until)
        wait_for_change(l, room_seconds);
    return waiting(l) + n <= LANE_MOST;
}

/* A line, or a part of one, to its end or the end of what is there. */
static void put_line(lane *l, const char *bytes, size_t n)
{
    bool ends = bytes[n - 1] == '\n', begins = !l->inside;
    l->inside = !ends;
    bool endless = !begins && !l->skipping && waiting(l) + n > LANE_MOST + LANE_SLACK;
    if (endless)
        text_add(&l->queue, "\n", 1);
    if (endless || (begins && !has_room(l, n))) {
        l->dropped++;
        l->dropping = l->skipping = true;
    } else if (begins) {
        l->dropping = l->skipping = false;
    }
    if (!l->skipping)
        text_add(&l->queue, bytes, n);
}

static long long put(lane *l, const char *bytes, size_t n)
{
    long long lost = 0;
    pthread_mutex_lock(&l->lock);
    while (n > 0) {
        const char *end = memchr(bytes, '\n', n);
        size_t line = end ? (size_t)(end + 1 - bytes) : n;
        put_line(l, bytes, line);
        bytes += line;
        n -= line;
    }
    if (!l->dropping) {
        lost = l->dropped;
        l->dropped = 0;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return lost;
}

static void tell_lost(long long lines)
{
    if (lines > 0)
        say("%lld lines of output were not shown, for nobody read them in time (--log-dir keeps "
            "all)",
            lines);
}

static lane *find_lane(int fd)
{
    struct stat s;
    if (fstat(fd, &s) == 0)
        for (int i = 0; i < ARRAY_LENGTH(lanes); i++)
            if (lanes[i].fd >= 0 && s.st_dev == lanes[i].file.st_dev &&
                s.st_ino == lanes[i].file.st_ino)
                return &lanes[i];
    return NULL;
}

static bool divert(int fd, const char *bytes, size_t n)
{
    lane *l = find_lane(fd);
    if (!l)
        return say_now(fd, bytes, n);
    tell_lost(put(l, bytes, n));
    return !l->dead;
}

/* ---- the start and the end ---- */

static void empty(lane *l)
{
    pthread_mutex_lock(&l->lock);
    while (waiting(l) > 0 && wait_for_change(l, flush_seconds)) {
    }
    for (size_t i = l->from; i < l->queue.used; i++)
        l->dropped += l->queue.bytes[i] == '\n';
    pthread_mutex_unlock(&l->lock);
}

/* stdout before stderr, which tells what stdout did not take. */
static void end(void)
{
    for (int i = 0; i < ARRAY_LENGTH(lanes); i++) {
        if (lanes[i].fd < 0)
            continue;
        empty(&lanes[i]);
        if (lanes[i].dropped > 0 && (i == 1 || lanes[1].fd >= 0))
            tell_lost(lanes[i].dropped);
    }
    if (lanes[1].fd >= 0)
        empty(&lanes[1]);
}

static void open_lane(lane *l, int fd)
{
    pthread_t thread;
    sigset_t all, before;
    if (fstat(fd, &l->file) != 0)
        return;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    sigfillset(&all); /* signals are for the supervisor's descriptor */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    l->fd = pthread_create(&thread, NULL, write_lane, l) == 0 ? fd : -1;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (l->fd >= 0)
        pthread_detach(thread);
}

void terminal_start(void)
{
    open_lane(&lanes[0], STDOUT_FILENO);
    if (!find_lane(STDERR_FILENO)) /* else the two keep their order */
        open_lane(&lanes[1], STDERR_FILENO);
    say_divert(divert);
    atexit(end);
}
