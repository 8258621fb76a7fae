/*
 * report -- the results as tables for people, workload by workload, a last table of what is slow,
 * and one JSON object a line for programs.
 */
#include "core/bench/bench.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW 0.5 /* a share below is told again at the end */

/* A pass, as the last table has it. */
typedef struct line {
    const char *workload, *op, *dtype, *pass;
    double seconds, share, of_step; /* NAN: it has no work, it is in no step */
} line;

struct bench_report {
    const char *path;
    FILE *json;
    bool whole;
    line *slow;
    size_t slow_count;
};

static const char *const pass_names[BENCH_PASSES] = {"forward", "backward"};

/* As --dtype has it. */
static const char *name_of(torc_dtype dtype)
{
    return dtype == TORC_BF16 ? "bf16" : "f32";
}

/* ---- beginning and end ---- */

torc_status bench_report_new(const char *json, bool whole, bench_report **out)
{
    bench_report *r = base_alloc(1, sizeof *r);
    *r = (bench_report){.path = json, .json = json ? fopen(json, "w") : NULL, .whole = whole};
    *out = r;
    return json && !r->json ? fail(TORC_ERR_IO, "%s: %s", json, strerror(errno)) : TORC_OK;
}

torc_status bench_report_free(bench_report *r)
{
    torc_status status = TORC_OK;
    bool bad = r->json && ferror(r->json);
    if (r->json && (fclose(r->json) != 0 || bad))
        status = fail(TORC_ERR_IO, "%s: %s", r->path, strerror(errno));
    free(r->slow);
    free(r);
    return status;
}

static void write_line(const bench_report *r, json_t *object)
{
    if (r->json && json_dumpf(object, r->json, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0)
        fputc('\n', r->json);
    json_decref(object);
}

/* ---- the head: the machine, and how to read the columns ---- */

static void print_peak(const bench_report *r, torc_dtype dtype)
{
    printf("%s products %.1f GF/s; ", name_of(dtype), 1e-9 * bench_peak(dtype));
    write_line(
        r, json_pack("{s:s, s:f}", "peak", name_of(dtype), "flops_per_second", bench_peak(dtype)));
}

static void print_copies(const bench_report *r)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } sizes[] = {{"64K", 1 << 16}, {"1M", 1 << 20}, {"16M", 1 << 24}, {"256M", 1 << 28}};
    printf("copies of");
    for (int i = 0; i < ARRAY_LENGTH(sizes); i++) {
        double rate = bench_copy_rate(sizes[i].bytes);
        printf("%s %s %.1f", i ? "," : "", sizes[i].name, 1e-9 * rate);
        write_line(r, json_pack("{s:I, s:f}", "copy", (json_int_t)sizes[i].bytes,
                                "bytes_per_second", rate));
    }
    printf(" GB/s\n");
}

void bench_report_head(bench_report *r, bool with_bf16, bool best)
{
    printf("# %ld cores, %d threads; ", sysconf(_SC_NPROCESSORS_ONLN), torc_threads());
    print_peak(r, TORC_F32);
    if (with_bf16)
        print_peak(r, TORC_BF16);
    print_copies(r);
    printf("# n: calls a step; us: a call, %s of warm runs; GF/s, GB/s: flops of the formula,"
           " bytes that must move;\n# floor: the time at the fastest product's rate, or at that of"
           " a copy of as many bytes, by this one's;\n# step: all calls, both passes, of the step's"
           " time\n",
           best ? "best" : "median");
}

/* ---- a table ---- */

static double seconds_of(const bench_result *r)
{
    return (double)r->calls * (r->pass[BENCH_FORWARD].seconds + r->pass[BENCH_BACKWARD].seconds);
}

static double step_of(const bench_report *r, const bench_result *results, int count)
{
    double step = 0;
    for (int i = 0; i < count; i++)
        step += seconds_of(&results[i]);
    return r->whole && step > 0 ? step : NAN;
}

static void print_share(double share, int width)
{
    if (isnan(share))
        printf("%*s ", width, "-");
    else
        printf("%*.*f%%", width, share < 0.0995 ? 1 : 0, 100 * share);
}

static const char *text_of(torc_shape shape)
{
    static char text[64];
    int used = snprintf(text, sizeof text, "[");
    for (int i = 0; i < shape.ndim; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)shape.dim[i]);
    snprintf(text + used, sizeof text - (size_t)used, "]");
    return text;
}

static void print_rate(int64_t work, double seconds)
{
    if (work > 0)
        printf("%8.1f", 1e-9 * (double)work / seconds);
    else
        printf("%8s", "");
}

/* What only passes a gradient on has no floor. */
static double share_of(const bench_result *r, int pass)
{
    return r->floor[pass] > 0 ? r->floor[pass] / r->pass[pass].seconds : NAN;
}

static void print_pass(const bench_pass *p, double share)
{
    if (p->seconds == 0) {
        printf("%36s", "");
        return;
    }
    printf("%12.1f", 1e6 * p->seconds);
    print_rate(p->flops, p->seconds);
    print_rate(p->bytes, p->seconds);
    print_share(share, 7);
}

static double of_step(const bench_result *r, double seconds, double step)
{
    return r->calls > 0 ? (double)r->calls * seconds / step : NAN;
}

static void print_row(const bench_result *r, double step)
{
    printf("%-20s %-18s %3lld", r->of->name, text_of(r->shape), (long long)r->calls);
    for (int i = 0; i < BENCH_PASSES; i++)
        print_pass(&r->pass[i], share_of(r, i));
    print_share(r->calls > 0 ? seconds_of(r) / step : NAN, 8);
    printf("\n");
}

/* ---- a pass by itself ---- */

static void write_pass(const bench_report *r, const bench_result *result, int i, const line *l)
{
    const bench_pass *p = &result->pass[i];
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:f, s:I, s:I, s:f}", "workload", l->workload, "op",
        l->op, "shape", text_of(result->shape), "dtype", l->dtype, "pass", l->pass, "calls",
        (json_int_t)result->calls, "iterations", result->iterations, "seconds", p->seconds, "flops",
        (json_int_t)p->flops, "bytes", (json_int_t)p->bytes, "floor_seconds", result->floor[i]);
    if (!isnan(l->share)) /* JSON has no NaN */
        json_object_set_new(row, "of_floor", json_real(l->share));
    if (!isnan(l->of_step))
        json_object_set_new(row, "of_step", json_real(l->of_step));
    write_line(r, row);
}

static void note_slow(bench_report *r, const line *l)
{
    if (!(l->share < SLOW))
        return;
    r->slow = base_grow(r->slow, r->slow_count + 1, sizeof *r->slow);
    r->slow[r->slow_count++] = *l;
}

static void tell_passes(bench_report *r, const bench_workload *n, torc_dtype dtype,
                        const bench_result *result, double step)
{
    for (int i = 0; i < BENCH_PASSES; i++) {
        double seconds = result->pass[i].seconds;
        if (seconds == 0)
            continue;
        const line l = {.workload = n->name,
                        .op = result->of->name,
                        .pass = pass_names[i],
                        .dtype = name_of(dtype),
                        .seconds = seconds,
                        .share = share_of(result, i),
                        .of_step = of_step(result, seconds, step)};
        write_pass(r, result, i, &l);
        note_slow(r, &l);
    }
}

static void settle_floors(torc_dtype dtype, bench_result *results, int count)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < BENCH_PASSES; k++)
            results[i].floor[k] = bench_floor(&results[i].pass[k], dtype);
}

void bench_report_table(bench_report *r, const bench_workload *n, torc_dtype dtype,
                        bench_result *results, int count)
{
    settle_floors(dtype, results, count);
    double step = step_of(r, results, count);
    printf("\n%s, %s, batch %lld", n->name, name_of(dtype), (long long)n->batch);
    if (!isnan(step))
        printf(": a step of %.2f ms", 1e3 * step);
    printf("\n%-20s %-18s %3s", "op", "of", "n");
    for (int i = 0; i < BENCH_PASSES; i++)
        printf("%9s us%8s%8s%8s", pass_names[i], "GF/s", "GB/s", "floor");
    printf("%9s\n", "step");
    for (int i = 0; i < count; i++) {
        print_row(&results[i], step);
        tell_passes(r, n, dtype, &results[i], step);
    }
    fflush(stdout);
}

/* ---- the last table ---- */

/* The part of a step that would be gone if the pass ran at its floor. */
static double lost(const line *l)
{
    return isnan(l->of_step) ? 0 : l->of_step * (1 - l->share);
}

static int by_loss(const void *a, const void *b)
{
    const line *x = a, *y = b;
    double order = lost(y) - lost(x), shares = x->share - y->share;
    return order != 0 ? (order > 0) - (order < 0) : (shares > 0) - (shares < 0);
}

void bench_report_worst(bench_report *r)
{
    printf("\nbelow %.0f %% of the floor: %zu; first what a step loses most by (lost: the part of"
           " the step above the floor)\n",
           100 * SLOW, r->slow_count);
    if (r->slow_count == 0)
        return;
    qsort(r->slow, r->slow_count, sizeof *r->slow, by_loss);
    printf("%-9s %-9s %-20s %-9s %11s %8s %8s %8s\n", "workload", "dtype", "op", "pass", "us",
           "floor", "step", "lost");
    for (size_t i = 0; i < r->slow_count; i++) {
        const line *l = &r->slow[i];
        printf("%-9s %-9s %-20s %-9s %11.1f", l->workload, l->dtype, l->op, l->pass,
               1e6 * l->seconds);
        print_share(l->share, 8);
        print_share(l->of_step, 8);
        print_share(isnan(l->of_step) ? NAN : lost(l), 8);
        printf("\n");
    }
}
