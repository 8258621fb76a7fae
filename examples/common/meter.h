/*
 * meter -- what a training loop shows while it runs and tells at its end: a progress bar on a
 * terminal, plain lines elsewhere, and one JSON line of results. Rank 0 speaks for all.
 */
#ifndef EXAMPLES_METER_H
#define EXAMPLES_METER_H

#include "examples/common/options.h"
#include "torc.h"

typedef struct meter {
    long steps, total, warmup; /* done, expected (0: unknown), left out of the timing */
    long per_step;             /* samples, or tokens, of a step over all ranks */
    const char *unit;
    double started, step_started, in_step, shown, first_step; /* in_step: of calls before */
    double *times, *losses;
    long room;
} meter;

/* unit: "samples" or "tokens". */
meter meter_new(long total, long warmup, long per_step, const char *unit);
void meter_start_step(meter *m);
/* Reads the loss, and shows the progress. steps: updates so far; with virtual ranks several calls
 * make one. */
void meter_end_step(meter *m, torc_tensor *loss, long steps);
/* The median of the steps after the warm-up, in seconds. */
double meter_step_seconds(const meter *m);
double meter_peak_megabytes(void); /* of the largest rank; every rank must call it */

typedef struct result { /* what is told beside the meter's own numbers; a name of NULL is left out
                         */
    const char *workload, *metric_name;
    double metric;
    long samples, tokens; /* of a global step; tokens 0: as samples */
    int bf16;
} result;
/* One line of JSON to `path` ("-": standard output), from rank 0; every rank must call it. */
void meter_write_json(const meter *m, const char *path, result r);
void meter_free(meter *m);

#endif
