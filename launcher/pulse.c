/* pulse -- see pulse.h. */
#define _GNU_SOURCE /* memfd_create */
#include "launcher/pulse.h"

#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Stays open as long as this process: the program opens it through /proc. */
void pulse_open(void)
{
    if (getenv(REPORT_STATUS))
        return;
    int fd = memfd_create("torc status", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof(status)) != 0) /* then nobody knows, and nothing is worse */
        return;
    char *path = base_format("/proc/%d/fd/%d", (int)getpid(), fd);
    setenv(REPORT_STATUS, path, 1);
    free(path);
}

/* The second number of /proc/PID/statm is in pages. -1: there is no such process. */
static int64_t resident_bytes(int pid)
{
    char path[64];
    long long pages = -1;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "re");
    bool found = f && fscanf(f, "%*s %lld", &pages) == 1;
    if (f)
        fclose(f);
    return found ? pages * sysconf(_SC_PAGESIZE) : -1;
}

/* Of the process that trains, where what was started is a script around it. */
static void read_figures(figures *f, const status *s, pace *p)
{
    if (s->stepped_at > 0)
        pace_note(p, s->step, s->stepped_at, s->waited);
    f->rate = pace_rate(p, torc_seconds());
    f->waiting = pace_waiting(p);
    if (s->losses > 0)
        snprintf(f->loss, sizeof f->loss, "%.6g", s->loss);
    f->tensors = s->stepped_at > 0 ? s->bytes : -1;
    f->resident = resident_bytes(s->pid);
}

void pulse_read(report *beat, char words[PULSE_TEXT], pace *p, int pid)
{
    const char *path = getenv(REPORT_STATUS);
    status s;
    *beat =
        (report){.kind = REPORT_BEAT, .age = -1, .step = -1, .figures = NO_FIGURES, .line = words};
    words[0] = 0;
    beat->figures.resident = resident_bytes(pid);
    if (!path || !status_read(path, &s))
        return;
    read_figures(&beat->figures, &s, p);
    status_in_words(&s, words, PULSE_TEXT);
    beat->step = s.step;
    beat->length = strlen(words);
    beat->age = (int64_t)(1e3 * fmax(0, torc_seconds() - s.heartbeat));
    if (s.scope[0]) /* something long that it does alone, as saving: that is no silence */
        beat->age = 0;
    beat->waits = s.waits_for[0] && !s.scope[0];
}
