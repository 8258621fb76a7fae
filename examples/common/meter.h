/*
 * meter -- what a training loop shows while it runs and tells at its end: a progress bar on a
 * terminal, plain lines elsewhere, and one JSON line of results. Rank 0 speaks for all.
 *
 * A GPU computes behind the host, and who reads a loss waits until it is there. So the losses of up
 * to METER_AHEAD steps are kept and read together, when progress is shown, and the time since the
 * last reading is that of these steps in equal parts:
 *
 *     host   | step 2 | step 3 | step 4 |      waits       | step 5 | ...
 *     GPU        |    step 2    |    step 3    |    step 4    |    step 5 ...
 *            read: loss 1                              read: losses 2 to 4
 */
#ifndef EXAMPLES_METER_H
#define EXAMPLES_METER_H

#include "examples/common/options.h"
#include "torc.h"

enum { METER_AHEAD = 10 };

typedef struct meter {
    long steps, total, warmup; /* done, expected (0: unknown), left out of the timing */
    long read;                 /* of the steps done: those whose loss has been read */
    torc_tensor *unread[METER_AHEAD];
    long per_step; /* samples, or tokens, of a step over all ranks */
    const char *unit;
    double started, step_started, in_step, shown, first_step; /* in_step: of what is unread */
    double *times, *losses;
    long room;
} meter;

/* unit: "samples" or "tokens". */
meter meter_new(long total, long warmup, long per_step, const char *unit);
void meter_start_step(meter *m);
/* Reads the loss, on a GPU sooner or later, and shows the progress. steps: updates so far; with
 * virtual ranks several calls make one. */
void meter_end_step(meter *m, torc_tensor *loss, long steps);
/* The median of the steps after the warm-up, in seconds. */
double meter_step_seconds(const meter *m);
/* Speed, memory, and what communication took, to standard output; every rank must call it. */
void meter_print(const meter *m, torc_module *net);

typedef struct result { /* beside the meter's own numbers; a metric without a name is left out */
    const char *workload, *metric_name;
    double metric;
    long samples, tokens; /* of a global step; tokens 0: as samples */
    torc_dtype dtype;     /* of torc_autocast() */
    int graph;
} result;
/* One line of JSON to `path` ("-": standard output), from rank 0; every rank must call it. */
void meter_write_json(const meter *m, const char *path, result r);
void meter_free(meter *m);

#endif
