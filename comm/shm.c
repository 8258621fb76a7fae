/*
 * shm -- see shm.h. Each way is two steps with an exchange between them: make my part and say how
 * to find it, then open those of the others and say whether that went well.
 */
#define _GNU_SOURCE /* memfd_create */
#include "comm/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE ((uintptr_t)2 << 20)
#define HUGE_WINDOW (4 * HUGE_PAGE) /* what is less does not pay with one page of it left over */

/* Where a part is to be found; device and inode tell that what was opened is what was meant, for
 * two containers may each have a process of this number. */
typedef struct place {
    int32_t pid, fd; /* fd: -1 when the part could not be made */
    uint64_t device, inode;
    char *address; /* in its own process: of use to ranks that are threads of it */
    char file[48];
} place;

typedef struct way {
    const char *name;
    int (*make)(place *p, size_t bytes);     /* -> fd, or -1 with errno */
    int (*open_peer)(const place *p);        /* the same */
    void (*everyone_has_it)(const place *p); /* or has failed to */
    bool reserves; /* pages are there for certain, as long as they are kept */
} way;

/* ---- memfd ---- */

static int make_memfd(place *p, size_t bytes)
{
    (void)p;
    int fd = memfd_create("torc", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int open_memfd(const place *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", p->pid, p->fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

static void keep(const place *p)
{
    (void)p;
}

/* ---- a file of /dev/shm ---- */

/* Reserved in full: a page that cannot be had later would be a SIGBUS in the middle of a step. */
static int make_file(place *p, size_t bytes)
{
    static int number;
    snprintf(p->file, sizeof p->file, "/torc-%d-%d", (int)getpid(), number++);
    int fd = shm_open(p->file, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return -1;
    int refused = posix_fallocate(fd, 0, (off_t)bytes);
    if (!refused)
        return fd;
    close(fd);
    shm_unlink(p->file);
    errno = refused;
    return -1;
}

static int open_file(const place *p)
{
    return shm_open(p->file, O_RDWR, 0600);
}

static void unlink_file(const place *p)
{
    shm_unlink(p->file);
}

static const way ways[] = {{"memfd", make_memfd, open_memfd, keep, false},
                           {"file", make_file, open_file, unlink_file, true}};

/* ---- one attempt ---- */

static char *map(int fd, size_t bytes)
{
    int how = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, how, fd, 0);
    if (at == MAP_FAILED)
        return NULL;
    madvise(at, bytes, MADV_HUGEPAGE); /* a wish: where it is not granted nothing is lost */
    return at;
}

/* Makes and maps my part; returns the fd, to be closed when all have opened it. */
static int make_mine(const way *by, comm_window *w, place *p)
{
    struct stat s;
    *p = (place){.pid = getpid(), .fd = -1};
    int fd = by->make(p, w->bytes);
    if (fd < 0 || fstat(fd, &s) != 0 || !(w->part[w->me] = map(fd, w->bytes))) {
        log_line(LOG_INFO, "shared memory (%s): %s", by->name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    p->fd = fd;
    p->address = w->part[w->me];
    p->device = s.st_dev;
    p->inode = s.st_ino;
    return fd;
}

static char *map_peer(const way *by, const place *p, size_t bytes)
{
    struct stat s;
    if (p->fd >= 0 && p->pid == getpid()) /* two pointers to one page would hide races from tools */
        return p->address;
    int fd = p->fd >= 0 ? by->open_peer(p) : -1;
    if (fd < 0)
        return NULL;
    bool meant = fstat(fd, &s) == 0 && s.st_dev == p->device && s.st_ino == p->inode;
    char *at = meant ? map(fd, bytes) : NULL;
    close(fd);
    return at;
}

static bool map_host(const comm *c, const way *by, comm_window *w, const place *places)
{
    int host = comm_host_of(c, comm_rank(c));
    bool all = w->part[w->me];
    for (int r = 0, i = 0; r < comm_size(c); r++) {
        if (comm_host_of(c, r) != host)
            continue;
        if (i != w->me) {
            w->part[i] = map_peer(by, &places[r], w->bytes);
            w->of_threads = places[r].pid == getpid();
        }
        all = all && w->part[i];
        i++;
    }
    return all;
}

static void unmap(comm_window *w)
{
    for (int i = 0; i < w->ranks; i++) {
        if (w->part[i] && !(w->of_threads && i != w->me))
            munmap(w->part[i], w->bytes);
        w->part[i] = NULL;
    }
}

static torc_status attempt(comm *c, const way *by, comm_window *w, const char *name)
{
    place mine, *places = base_alloc((size_t)comm_size(c), sizeof mine);
    int fd = make_mine(by, w, &mine), good = 0;
    torc_status s = comm_allgather(c, &mine, places, sizeof mine, name);
    if (s == TORC_OK) {
        good = map_host(c, by, w, places);
        s = comm_allreduce(c, &good, 1, TORC_I32, COMM_MIN, name);
    }
    if (fd >= 0) {
        close(fd);
        by->everyone_has_it(&mine);
    }
    free(places);
    w->shared = s == TORC_OK && good;
    w->reserved = w->shared && by->reserves;
    if (!w->shared)
        unmap(w);
    return s;
}

/* ---- the window ---- */

static torc_status check_size(comm *c, size_t bytes, const char *name)
{
    int64_t most = (int64_t)bytes, least = -(int64_t)bytes;
    torc_status s = comm_allreduce(c, &most, 1, TORC_I64, COMM_MAX, name);
    if (s == TORC_OK)
        s = comm_allreduce(c, &least, 1, TORC_I64, COMM_MAX, name);
    if (s == TORC_OK && most != -least)
        s = fail(TORC_ERR_PEER, "%s: the ranks ask for windows from %lld to %lld bytes", name,
                 (long long)-least, (long long)most);
    return s;
}

static bool asked_for(const char *way)
{
    const char *wish = getenv("TORC_SHM");
    return !wish || !*wish || !strcmp(wish, way);
}

torc_status comm_window_open(comm *c, size_t bytes, const char *name, comm_window **out)
{
    *out = NULL;
    torc_status s = check_size(c, bytes, name);
    if (s != TORC_OK)
        return s;
    comm_window *w = base_alloc(1, sizeof *w);
    *w = (comm_window){.ranks = comm_local_size(c), .me = comm_local_rank(c), .bytes = bytes};
    w->part = base_alloc((size_t)w->ranks, sizeof *w->part);
    /* with nobody to share with it has huge pages, too, which shared memory seldom gets */
    w->shared = w->private = comm_hosts(c) == comm_size(c);
    for (int i = 0; i < ARRAY_LENGTH(ways) && s == TORC_OK && !w->shared; i++)
        if (asked_for(ways[i].name))
            s = attempt(c, &ways[i], w, name);
    w->private |= !w->shared;
    if (s == TORC_OK && w->private && !(w->part[w->me] = map(-1, bytes)))
        s = fail(TORC_ERR_MEMORY, "%s: no memory for %zu bytes of gradients", name, bytes);
    if (s != TORC_OK) {
        comm_window_close(w);
        return s;
    }
    if (!w->shared && comm_size(c) > 1)
        log_line(LOG_INFO, "the ranks of a host share no memory: gradients travel as messages");
    *out = w;
    return TORC_OK;
}

/* Of memory that is shared the system makes small ones (map()). */
static uintptr_t page_size(const comm_window *w, bool huge)
{
    bool has_huge = w->private && w->bytes >= HUGE_WINDOW;
    return huge && has_huge ? HUGE_PAGE : (uintptr_t)sysconf(_SC_PAGESIZE);
}

size_t comm_window_discard(const comm_window *w, char *from, size_t bytes, bool again)
{
    uintptr_t page = page_size(w, again);
    uintptr_t first = ((uintptr_t)from + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)from + bytes) / page * page;
    /* of shared memory the others have the pages too: it is the file that they must leave */
    if (w->reserved || first >= end)
        return 0;
    if (madvise((void *)first, end - first, w->private ? MADV_DONTNEED : MADV_REMOVE) == 0)
        return end - first;
    log_line(LOG_INFO, "unused gradient memory stays: %s", strerror(errno));
    return 0;
}

void comm_window_close(comm_window *w)
{
    if (!w)
        return;
    unmap(w);
    free(w->part);
    free(w);
}
