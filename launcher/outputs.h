/*
 * outputs -- stdout and stderr of the program, cut into reports.
 *
 *     program -- stdout, a terminal --> whole lines: out    what stands long without end: part
 *             -- stderr, a pipe ------> whole lines: line
 *
 * stdout is a terminal of its own where the system gives one: behind a pipe, programs keep what
 * they print until they have 4 KiB of it.
 */
#ifndef LAUNCHER_OUTPUTS_H
#define LAUNCHER_OUTPUTS_H

#include "launcher/report.h"

typedef struct outputs {
    int out, err; /* our ends; -1: closed */
    text out_rest, err_rest;
    double part_at; /* torc_seconds() when a line without end is reported; infinite: none */
} outputs;

void outputs_none(outputs *o); /* nothing is open */
/* Sets the program's ends, the caller's to close. False with a sentence in torc_last_error(). */
bool outputs_open(outputs *o, int *out, int *err);
/* Reads once, and reports into `to`; false when nothing more is there now. */
bool outputs_read_out(outputs *o, text *to);
bool outputs_read_err(outputs *o, text *to);
void outputs_part(outputs *o, text *to); /* reports the line of stdout that has no end yet */
void outputs_rest(outputs *o, text *to); /* and of both, at the end of the program */

#endif
