/*
 * bench_measure -- methods take turns: how long each needs, and whether what it computes is right.
 *
 * How many iterations make a batch is found once a size: four times as many until a batch takes a
 * fair part of its time. All ranks see the same times, those of the slowest, so they agree on it.
 */
#include "allreduce/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ITERATIONS 1000000

/* ---- which methods ---- */

/* Is `name` one of a list, "ring,mpi"? Up to its first blank: "ring + AdamW" is a ring. */
static bool listed(const char *list, const char *name)
{
    size_t length = strcspn(name, " ");
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && !strncmp(at, name, length))
            return true;
    return false;
}

bool bench_asked_for(const bench *b, const bench_method *m)
{
    bool several = b->t->hosts > 1;
    if (m->role == BENCH_PEER && !bench_mpi_runs()) /* one rank alone */
        return false;
    if (m->where != ANYWHERE && (m->where == SEVERAL_HOSTS) != several)
        return false;
    return m->role == BENCH_FLOOR || !b->o.algorithms || listed(b->o.algorithms, m->name);
}

/* ---- right or wrong ---- */

static double element(const void *data, torc_dtype dtype, size_t i)
{
    return dtype == TORC_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

int64_t bench_wrong(const bench *b, const bench_task *task, const bench_method *m, size_t count)
{
    const void *found = task->result(b, m);
    int64_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double is = element(found, b->o.dtype, i);
        double should = task->expected(comm_size(b->c), i);
        if (fabs(is - should) <= task->tolerance * fabs(should)) /* false for NaN */
            continue;
        if (wrong++ == 0)
            log_line(LOG_ERROR, "%s, %zu elements: element %zu is %.9g, expected %.9g", m->name,
                     count, i, is, should);
    }
    return wrong;
}

static int64_t check(bench *b, const bench_task *task, const bench_method *m, size_t count)
{
    if (m->role == BENCH_FLOOR) /* computes nothing */
        return 0;
    task->fill(b, m, count);
    m->once(b, m, count);
    return (int64_t)torc_sum_over_ranks((double)bench_wrong(b, task, m, count));
}

/* ---- time ---- */

/* Seconds of an iteration. The one before the clock starts brings the buffer back into the caches
 * that the other methods have taken. */
static double batch(bench *b, const bench_method *m, size_t count, int64_t iterations)
{
    torc_barrier();
    m->once(b, m, count);
    double start = torc_seconds();
    for (int64_t i = 0; i < iterations; i++)
        m->once(b, m, count);
    return torc_max_over_ranks((torc_seconds() - start) / (double)iterations);
}

static int64_t iterations_for(bench *b, const bench_method *m, size_t count)
{
    double goal = b->o.seconds / (double)b->o.rounds;
    int64_t n = 1;
    double each = batch(b, m, count, n);
    while (each * (double)n < goal / 4 && n < MOST_ITERATIONS)
        each = batch(b, m, count, n *= 4);
    double fitting = goal / each;
    return fitting < 1 ? 1 : (int64_t)fmin(fitting, MOST_ITERATIONS);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static int choose(const bench *b, const bench_task *task, bench_result *results)
{
    int n = 0;
    for (int i = 0; i < task->methods; i++)
        if (bench_asked_for(b, &task->method[i]))
            results[n++] = (bench_result){.method = &task->method[i]};
    return n;
}

int bench_measure(bench *b, const bench_task *task, size_t bytes, bench_result *results)
{
    size_t count = bytes / torc_dtype_size(b->o.dtype);
    int n = choose(b, task, results), rounds = (int)b->o.rounds;
    double *times = base_alloc((size_t)(n * rounds), sizeof *times);
    for (int i = 0; i < n; i++) {
        const bench_method *m = results[i].method;
        results[i].errors = check(b, task, m, count);
        task->rest(b, m, count);
        results[i].iterations = iterations_for(b, m, count);
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < n; i++)
            times[i * rounds + round] = batch(b, results[i].method, count, results[i].iterations);
    for (int i = 0; i < n; i++) {
        results[i].seconds = bench_median(times + i * rounds, rounds);
        results[i].errors += check(b, task, results[i].method, count);
        b->errors += results[i].errors;
    }
    free(times);
    return n;
}
