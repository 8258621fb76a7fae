/*
 * bench -- what the files of torc-op-bench share.
 *
 * Words
 *   workload   a training step with its sizes: mlp, cnn, gpt, gpt-m; or "others", a part of no step
 *   case       an op with the inputs that it has in a workload: a row of cases.def
 *   pass       a case's forward, or its backward; each is timed by itself
 *   calls      how often a step of the workload runs the case
 *   floor      the time that the work of a pass takes at least: its flops at the rate of the
 *              fastest product, or its bytes at the rate of a copy of as many, whichever is later
 *              (floor.c)
 *   share      floor / time: 100 % is as fast as can be
 *
 *     cases.def --> trial.c: inputs, probe, clock --> seconds, flops, bytes --> report.c: table
 *     floor.c: peaks, copies ----------------------------> floor ------------'
 */
#ifndef TORC_OP_BENCH_H
#define TORC_OP_BENCH_H

#include "core/torc.h" /* first: this is a program, and calls torc as a user does */

#include "core/base.h"

#include <stdio.h>

#define BENCH_PROGRAM "torc-op-bench"

/* ---- cases.c ---- */

typedef enum bench_family { FAMILY_mlp, FAMILY_cnn, FAMILY_gpt, FAMILY_others } bench_family;

typedef struct bench_workload {
    const char *name;
    bench_family family; /* whose cases it has */
    int64_t batch, context, width, heads, layers, vocabulary;
} bench_workload;

/* NULL behind the last. */
const bench_workload *bench_workload_at(int i);

typedef enum bench_kind {
    INPUT_DATA,       /* what the loader gives: f32, wants no gradient */
    INPUT_INDEX,      /* i64 below `limit` */
    INPUT_ACTIVATION, /* the result of another op: bf16 within autocast */
    INPUT_IMAGE,      /* the same, stored channels last */
    INPUT_BRANCHED,   /* an activation that another op reads too, whose gradient is in already: the
                         case adds to it */
    INPUT_WEIGHT,     /* f32, a parameter of this op */
    INPUT_TIED        /* of another op too, whose gradient is in already */
} bench_kind;

typedef struct bench_input {
    bench_kind kind;
    torc_shape shape;
    int64_t limit;
} bench_input;

enum { BENCH_INPUTS = 4 /* of a case, at most */ };

typedef struct bench_case {
    const char *name;
    bench_family family;
    int64_t (*calls)(const bench_workload *n);
    int (*inputs)(const bench_workload *n, bench_input *in); /* returns their number */
    torc_tensor *(*run)(const bench_workload *n, torc_tensor *const *x);
    /* In place of these two, for what works on all parameters of a workload. */
    void (*update)(torc_module *net, torc_optimizer *opt);
} bench_case;

/* The cases of a workload one after the other; NULL behind the last. */
const bench_case *bench_case_at(const bench_workload *n, int i);

/* ---- trial.c ---- */

typedef struct bench_pass {
    double seconds; /* of a run; 0: there is no such pass */
    int64_t flops, bytes;
} bench_pass;

enum { BENCH_FORWARD, BENCH_BACKWARD, BENCH_PASSES };

typedef struct bench_result {
    const bench_case *of;
    int64_t calls;
    torc_shape shape; /* of the first input; of an update the number of elements */
    int iterations;
    bench_pass pass[BENCH_PASSES];
    double floor[BENCH_PASSES]; /* seconds; with what is known of the machine by now */
} bench_result;

/* Runs a case for about so many seconds; tells the median of the runs, or the best one. */
bench_result bench_try(const bench_workload *n, const bench_case *c, torc_dtype dtype,
                       double seconds, bool best);

/* ---- floor.c ---- */

/* Flops a second of the fastest product, f32 or bf16; measured once. */
double bench_peak(torc_dtype dtype);
/* Bytes a second of a copy that reads and writes so many in all; the best that was seen so far for
 * this power of two. */
double bench_copy_rate(int64_t bytes);
double bench_floor(const bench_pass *p, torc_dtype dtype);
/* Does this machine compute in bf16? */
bool bench_has_bf16(void);

/* ---- report.c ---- */

typedef struct bench_report bench_report;
/* json: a path, or NULL. whole: every case is measured, so that there is a step to have shares of.
 */
torc_status bench_report_new(const char *json, bool whole, bench_report **out);
void bench_report_head(bench_report *r, bool with_bf16, bool best);
/* The table of a workload, its floors as they are known by then. */
void bench_report_table(bench_report *r, const bench_workload *n, torc_dtype dtype,
                        bench_result *results, int count);
void bench_report_worst(bench_report *r);
torc_status bench_report_free(bench_report *r);

#endif
