/*
 * events -- what happens in a job, for other programs: --json-events FILE, an object a line.
 *
 *     {"event": "job_start", "time": ..., "program": [...], "backend": ..., "ranks": [...]}
 *     {"event": "rank_start", ..., "attempt": 0, "rank": 1, "host": "n0", "pid": 17}
 *     {"event": "rank_exit", ..., "end": "exit", "code": 3, "signal": 0, "step": 12, ...}
 *     {"event": "attempt_end", ..., "code": 3, "cause": {"rank": 1, "kind": "end", ...}}
 *     {"event": "restart", ..., "attempt": 1, "restart": 1, "of": 5, "wait": 1.0, "ranks": [...]}
 *     {"event": "job_end", ..., "code": 0}
 *
 * `time` is in seconds since 1970. `end` is exit, signal, asked (torcrun ended it) or lost; the
 * `kind` of a cause is end, silent, hang or left (ranks.h), and the cause is null where no rank was
 * to blame. A step of -1: the program does not say.
 */
#ifndef LAUNCHER_EVENTS_H
#define LAUNCHER_EVENTS_H

#include "launcher/plan.h"
#include "launcher/ranks.h"

typedef struct events {
    int fd; /* -1: nobody asked for them */
    bool failed;
} events;

/* `path` may be NULL, and "-" is stdout. False with a sentence. */
bool events_open(events *e, const char *path);
void events_close(events *e);

void events_job_start(events *e, const plan *p);
void events_rank_start(events *e, int attempt, const ranks *all, int r);
void events_rank_exit(events *e, int attempt, const ranks *all, int r);
void events_attempt_end(events *e, int attempt, const ranks *all, int code);
/* The next attempt, and the restarts used of those there are without progress. */
void events_restart(events *e, const plan *p, int attempt, int used, int most, double wait);
void events_job_end(events *e, int code);

#endif
