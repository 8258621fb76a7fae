/*
 * survey -- every host of a list asked what it is, by a probe (probe.h) that mpirun or srun starts
 * there as it would start a rank.
 *
 *     n0 --> n1 --> n2          streams, all at once for a third of a second: this is what the
 *      ^------------'           gradients do, and it takes no longer for many hosts than for two
 */
#ifndef LAUNCHER_SURVEY_H
#define LAUNCHER_SURVEY_H

#include "launcher/backend.h"
#include "launcher/probe.h"

typedef struct survey_host {
    bool answered; /* all its facts are there but the rate */
    facts facts;
    int from; /* whose stream came here: an index; -1: there was none */
} survey_host;

/* Starts as {0}. */
typedef struct survey {
    survey_host *of;    /* [n], as the hosts of the job */
    const char **names; /* [n] of the job's */
    int n;
    char why[160]; /* the first words of mpirun or srun where a host did not answer; "" */
} survey;

/* `j` has one rank on each host and a program that is PROBE_WORD. Hosts that have not answered
 * after so many seconds are not waited for. Quits where the backend itself cannot be run. */
void survey_run(survey *s, const backend *b, const job *j, double seconds, bool streams);
/* Adds this very host, where it is none of them: it takes part in every job. */
void survey_add_this_host(survey *s);
void survey_free(survey *s);

#endif
