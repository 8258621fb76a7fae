/*
 * doctor_host -- memory, limits and cores of this host.
 *
 * How ranks of one host exchange gradients, fastest way first; each needs the kernel's consent:
 *
 *     memory of others   rank A makes a memfd, rank B opens /proc/A/fd/N     torc's own way
 *     single copy        rank B reads A's pages (process_vm_readv)           Open MPI's, if allowed
 *     shared memory      files in /dev/shm                                   Open MPI's, always
 */
#define _GNU_SOURCE /* memfd_create, process_vm_readv */
#include "launcher/doctor.h"
#include "launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB 1048576.0
#define GIB (1024 * MIB)

static void print_size(double bytes, char *line, size_t size)
{
    if (isinf(bytes))
        snprintf(line, size, "unlimited");
    else if (bytes >= GIB)
        snprintf(line, size, "%.1f GiB", bytes / GIB);
    else
        snprintf(line, size, "%.1f MiB", bytes / MIB);
}

/* ---- cores ---- */

finding doctor_cores(const machine *m)
{
    int quota = (int)fmax(1, floor(fmin(m->quota, 1e6)));
    char many[48] = "";
    if (m->node_count > 1)
        snprintf(many, sizeof many, " on %d NUMA nodes", m->node_count);
    if (quota < m->core_count)
        return finding_make("cores", DOCTOR_WARN,
                            "%d%s may be used, but the cgroup grants the time of %.1f only: more "
                            "than %d rank%s would be stopped again and again",
                            m->core_count, many, m->quota, quota, quota == 1 ? "" : "s");
    return finding_make("cores", DOCTOR_OK, "%d%s may be used", m->core_count, many);
}

/* ---- /dev/shm ---- */

finding doctor_shared_memory(double size, double available)
{
    const double least = 16 * MIB, usual = 256 * MIB; /* Open MPI takes 4 MiB a rank and more */
    char all[32], left[32];
    if (size < 0)
        return finding_make("shared memory", DOCTOR_BAD,
                            "/dev/shm is not there or may not be written to: MPI needs it");
    print_size(size, all, sizeof all);
    print_size(available, left, sizeof left);
    if (available < least)
        return finding_make("shared memory", DOCTOR_BAD,
                            "/dev/shm is full: %s of %s are free; remove what is left of old jobs "
                            "there",
                            left, all);
    if (available < usual)
        return finding_make("shared memory", DOCTOR_WARN,
                            "/dev/shm is small: %s of %s are free (a container's is set with "
                            "--shm-size)",
                            left, all);
    return finding_make("shared memory", DOCTOR_OK, "/dev/shm: %s, %s free", all, left);
}

/* ---- memory of another process ---- */

/* What a rank shows to another, and what the other needs to know. */
typedef struct shown {
    pid_t owner;
    int fd;
    volatile int word; /* in the owner's pages, read without its help */
} shown;

enum { SECRET = 0x70ca };

/* The child's exit code: 0, or the errno. */
static int read_memfd(const shown *s)
{
    char path[64];
    int word = 0;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)s->owner, s->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    return pread(fd, &word, sizeof word, 0) == sizeof word && word == SECRET ? 0 : EIO;
}

static int read_pages(const shown *s)
{
    int word = 0;
    struct iovec to = {&word, sizeof word}, from = {(void *)&s->word, sizeof s->word};
    if (process_vm_readv(s->owner, &to, 1, &from, 1, 0) != sizeof word)
        return errno;
    return word == SECRET ? 0 : EIO;
}

/* A child looks at its parent, which no kernel is more generous with than with a stranger of the
 * same user. Returns 0, or why it could not, as an errno. */
static int try_in_child(int (*look)(const shown *), const shown *s)
{
    ending end = {0};
    pid_t child = fork();
    if (child < 0)
        return errno;
    if (child == 0)
        _exit(look(s) & 0xff);
    spawn_reap(child, true, &end);
    return end.signal ? EIO : end.code;
}

finding doctor_memory_of_others(void)
{
    int secret = SECRET, why;
    shown s = {.owner = getpid(), .fd = memfd_create("torc-doctor", MFD_CLOEXEC)};
    if (s.fd < 0 || write(s.fd, &secret, sizeof secret) != sizeof secret)
        why = errno;
    else
        why = try_in_child(read_memfd, &s);
    if (s.fd >= 0)
        close(s.fd);
    if (why)
        return finding_make("memory of others", DOCTOR_WARN,
                            "ranks cannot open each other's memory under /proc (%s), and take "
                            "files in /dev/shm instead",
                            strerror(why));
    return finding_make("memory of others", DOCTOR_OK, "ranks can open each other's memory");
}

/* Yama, a guard of the kernel's, says in this file who may look into whom: 0 all of one user. */
static int yama_scope(void)
{
    int scope = 0;
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (f && fscanf(f, "%d", &scope) != 1)
        scope = 0;
    if (f)
        fclose(f);
    return scope;
}

finding doctor_single_copy(void)
{
    shown s = {.owner = getpid(), .fd = -1, .word = SECRET};
    int why = try_in_child(read_pages, &s), scope = yama_scope();
    if (why && scope > 0)
        return finding_make("single copy", DOCTOR_WARN,
                            "/proc/sys/kernel/yama/ptrace_scope is %d: MPI copies twice between "
                            "ranks of this host",
                            scope);
    if (why)
        return finding_make("single copy", DOCTOR_WARN,
                            "process_vm_readv: %s: MPI copies twice between ranks of this host",
                            strerror(why));
    return finding_make("single copy", DOCTOR_OK, "MPI can copy straight between ranks");
}

/* ---- limits ---- */

finding doctor_locked_memory(double limit, const machine *m)
{
    char size[32];
    bool rdma = m->nic_count > 0 && m->nics[0].rdma;
    print_size(limit, size, sizeof size);
    if (rdma && limit < GIB)
        return finding_make("locked memory", DOCTOR_BAD,
                            "a process may lock %s, and RDMA over %s needs the size of all "
                            "gradients: ulimit -l unlimited (limits.conf, or systemd's "
                            "LimitMEMLOCK)",
                            size, m->nics[0].name);
    return finding_make("locked memory", DOCTOR_OK, "%s%s", size,
                        rdma || isinf(limit) ? "" : "; there is no RDMA card that needs more");
}

finding doctor_open_files(double limit)
{
    const double least = 64, usual = 1024; /* mpirun takes several for every rank it starts */
    if (isinf(limit))
        return finding_make("open files", DOCTOR_OK, "unlimited");
    if (limit < usual)
        return finding_make("open files", limit < least ? DOCTOR_BAD : DOCTOR_WARN,
                            "a process may open %.0f, too few for many ranks: ulimit -n 4096",
                            limit);
    return finding_make("open files", DOCTOR_OK, "%.0f", limit);
}

/* ---- memory bandwidth ---- */

enum { COPIER_BYTES = 32 << 20 }; /* beyond what the caches hold */
static const double copying_seconds = 0.25;

typedef struct copier {
    pthread_t thread;
    double start, bytes, seconds; /* bytes read and written */
} copier;

static void *copy(void *context)
{
    copier *c = context;
    char *from = base_alloc(COPIER_BYTES, 2), *to = from + COPIER_BYTES;
    memset(from, 1, 2 * (size_t)COPIER_BYTES); /* the pages become real, and this node's */
    double begin = torc_seconds(), now = begin;
    for (; now - begin < copying_seconds; now = torc_seconds()) {
        memcpy(to, from, COPIER_BYTES);
        __asm__ volatile("" : : "r"(to) : "memory"); /* or it would be optimised away */
        c->bytes += 2.0 * COPIER_BYTES;
    }
    c->seconds = now - begin;
    free(from);
    return NULL;
}

finding doctor_bandwidth(int threads)
{
    const double poor = 4e9; /* less than any memory channel of the last 15 years, a core */
    copier all[64] = {0};
    double sum = 0;
    int started = 0;
    threads = (int)min_i64(threads, ARRAY_LENGTH(all));
    while (started < threads &&
           pthread_create(&all[started].thread, NULL, copy, &all[started]) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        pthread_join(all[i].thread, NULL);
        sum += all[i].bytes / all[i].seconds;
    }
    if (sum < poor)
        return finding_make("memory bandwidth", DOCTOR_WARN,
                            "%.1f GB/s with %d threads: somebody else is using the memory, or the "
                            "host",
                            1e-9 * sum, started);
    return finding_make("memory bandwidth", DOCTOR_OK, "%.1f GB/s with %d thread%s", 1e-9 * sum,
                        started, started == 1 ? "" : "s");
}
