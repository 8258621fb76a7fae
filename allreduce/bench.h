/*
 * bench -- what the files of torc-allreduce-bench share.
 *
 * Words
 *   method   a way to do the work: an algorithm of torc, the MPI library's own call, or a floor
 *   task     what is done with a method: a sum; or a sum and the optimizer's step that follows it
 *   batch    so many iterations of a method back to back; its time is the mean of a rank, and of
 *            these the largest over the ranks, as nccl-tests has it
 *   round    one batch of every method, one after the other, so that noise hits all of them
 *   floor    the time in which all ranks at once read, multiply and write back a buffer of their
 *            own: the least that a sum in place can touch
 *
 *     a size    fill, once, check  ->  round  round  round  ..  ->  fill, once, check
 *     a round   [direct x 400] [mpi x 40] [floor x 900]            of each the median over rounds
 *
 * The timed iterations add zeros: a sum in place that is repeated would overflow, or decay into
 * denormal numbers. The checks add whole numbers that are exact in every order, also as bfloat16.
 */
#ifndef TORC_BENCH_H
#define TORC_BENCH_H

#include "core/torc.h" /* first: this is a program, and calls torc as a user does */

#include "allreduce/reduction.h"

#include <jansson.h>

#define BENCH_PROGRAM "torc-allreduce-bench"

typedef enum bench_mode { BENCH_SUM, BENCH_OPTIMIZER, BENCH_STEP, BENCH_CHECKPOINT } bench_mode;

typedef struct bench_options {
    bench_mode mode;
    size_t min, max; /* bytes; each size is `factor` times the one before */
    long factor, rounds, hosts, threads;
    double seconds;         /* for a method and a size, over all rounds */
    const char *algorithms; /* "ring,mpi"; NULL: all that there are */
    const char *json;       /* a path; NULL: none */
    torc_dtype dtype;
    bool compress;               /* bfloat16 between hosts */
    long layers, width, samples; /* of BENCH_STEP and BENCH_CHECKPOINT */
    long steps;                  /* of BENCH_STEP */
    long every;                  /* of BENCH_CHECKPOINT: steps */
    const char *checkpoint;      /* a directory; NULL: another mode */
} bench_options;

typedef struct bench {
    bench_options o;
    comm *c;
    team *t; /* a buffer of the largest size, and a spare one for shared parameters */
    reduction r;
    double timeout;
    char *private;    /* as large, and seen by this rank alone: what a user of MPI would pass */
    float *p, *m, *v; /* of BENCH_OPTIMIZER */
    json_t *rows;
    int64_t errors; /* over all sizes, methods and ranks */
} bench;

typedef enum bench_role { BENCH_TORC, BENCH_PEER, BENCH_FLOOR } bench_role;

typedef struct bench_method {
    const char *name;
    bench_role role;
    enum { ANYWHERE, ONE_HOST, SEVERAL_HOSTS } where;
    const wire_algorithm *by; /* NULL: plan.c chooses, or there is one host */
    /* Adds up count elements at bench_data() over the ranks, and does what the task wants then. */
    void (*once)(bench *b, const struct bench_method *m, size_t count);
} bench_method;

typedef struct bench_task {
    const char *name;
    const bench_method *method;
    int methods;
    /* Makes ready for one iteration that is checked, or for many that are timed. */
    void (*fill)(bench *b, const bench_method *m, size_t count);
    void (*rest)(bench *b, const bench_method *m, size_t count);
    /* Where the result is after one iteration, and what element i of it must be. */
    const void *(*result)(const bench *b, const bench_method *m);
    double (*expected)(int ranks, size_t i);
    double tolerance; /* relative; 0: to the bit */
} bench_task;

extern const bench_task bench_sum, bench_adamw;

enum { BENCH_METHODS = 8 /* of a task, at most */ };

typedef struct bench_result {
    const bench_method *method;
    double seconds; /* the median */
    int64_t errors, iterations;
} bench_result;

/* ---- bench_measure.c ---- */

/* Measures every method of `task` that is asked for and possible; every rank calls it alike.
 * Returns their number. */
int bench_measure(bench *b, const bench_task *task, size_t bytes, bench_result *results);
/* Elements of this rank's result that are not as expected; the first of them is told on stderr. */
int64_t bench_wrong(const bench *b, const bench_task *task, const bench_method *m, size_t count);
bool bench_asked_for(const bench *b, const bench_method *m);
double bench_median(double *values, int n); /* sorts them */

/* ---- bench_sum.c ---- */

char *bench_data(const bench *b, const bench_method *m);
/* Element i of a rank's data, and the sum of these over the ranks. */
double bench_value(int ranks, int rank, size_t i);
double bench_total(int ranks, size_t i);
void bench_fill(bench *b, const bench_method *m, size_t count);
/* Starts a reduction in b->t and waits until it is over. */
void bench_reduce(bench *b, reduction_what what);
void bench_sum_torc(bench *b, const bench_method *m, size_t count);
void bench_sum_mpi(bench *b, const bench_method *m, size_t count);
bool bench_mpi_runs(void);

/* ---- bench_step.c ---- */

/* A training step with synchronised gradients against the same step without; prints, and notes the
 * numbers in b->rows. */
void bench_step(bench *b);

/* ---- bench_checkpoint.c ---- */

/* Training that saves checkpoints against training that does not; prints, and notes the numbers in
 * b->rows. */
void bench_checkpoint(bench *b);

/* ---- bench_report.c ---- */

void bench_print_head(const bench *b);
void bench_report(bench *b, size_t bytes, const bench_result *results, int n);
/* Writes what there is to b->o.json, from rank 0. */
torc_status bench_write_json(bench *b);

#endif
