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

void pulse_read(report *beat, char words[PULSE_TEXT])
{
    const char *path = getenv(REPORT_STATUS);
    status s;
    *beat = (report){.kind = REPORT_BEAT, .age = -1, .step = -1, .line = words};
    words[0] = 0;
    if (!path || !status_read(path, &s))
        return;
    status_in_words(&s, words, PULSE_TEXT);
    beat->step = s.step;
    beat->length = strlen(words);
    beat->age = (int64_t)(1e3 * fmax(0, torc_seconds() - s.heartbeat));
    if (s.scope[0]) /* something long that it does alone, as saving: that is no silence */
        beat->age = 0;
    beat->waits = s.waits_for[0] && !s.scope[0];
}
