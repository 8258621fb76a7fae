/*
 * torc-op-bench -- every op of the workloads at their sizes, forward and backward, in f32 and bf16:
 * time, rates, and how far it is from what the machine can do, so that the next slow op is found by
 * reading one table (bench.h says what the words mean, trial.c how it measures).
 *
 *     torc-op-bench                                     all of it, in about a minute
 *     torc-op-bench --workload gpt-m --op linear        some rows
 *     torc-op-bench --ranks 4 --threads 1               the share of one rank of four, alone
 *     torcrun -n 4 torc-op-bench                        the same beside three others; rank 0 tells
 *     torc-op-bench --peak                              what the device can do, also a GPU
 */
#include "core/bench/bench.h"

#include "core/bench/options.h"
#include "core/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CASES = 64 /* of a workload */ };

static const torc_site nowhere; /* what the command line asks for has no line in a program */

/* ---- the command line ---- */

static struct {
    const char *workload, *op, *dtype, *json;
    double seconds;
    long ranks, threads;
    bool best, peak;
} o = {.seconds = 0.2};

static const option_row rows[] = {
    {"workload", OPTION_TEXT, &o.workload, "mlp, cnn, gpt, gpt-m or others: ops of no step [all]"},
    {"op", OPTION_TEXT, &o.op, "only those with this in their name"},
    {"dtype", OPTION_TEXT, &o.dtype, "f32, or bf16: within torc_autocast(TORC_BF16) [both]"},
    {"time", OPTION_SECONDS, &o.seconds, "seconds for an op, both passes; 5 runs at least [0.2]"},
    {"best", OPTION_FLAG, &o.best,
     "the best run, not the median: where others use the machine too"},
    {"ranks", OPTION_COUNT, &o.ranks, "divides the batch by so many [those of the job]"},
    {"threads", OPTION_COUNT, &o.threads, "of a rank [its share of the cores]"},
    {"peak", OPTION_FLAG, &o.peak,
     "no op: the fastest products and the memory of this device, as JSON"},
    {"json", OPTION_TEXT, &o.json, "the results, one object a line, into this file"},
};

#define REFUSE(...) options_refuse(BENCH_PROGRAM, __VA_ARGS__)

/* ---- what is asked for ---- */

static bool wants_workload(const bench_workload *n)
{
    return !o.workload || !strcmp(o.workload, n->name);
}

static bool wants_case(const bench_case *c)
{
    return !o.op || strstr(c->name, o.op);
}

static bool wants_dtype(torc_dtype dtype)
{
    return !o.dtype || !strcmp(o.dtype, dtype == TORC_F32 ? "f32" : "bf16");
}

/* A name that is unknown would only leave rows out. */
static void check_names(void)
{
    const bench_workload *n;
    const bench_case *c;
    bool workload = false, op = false;
    for (int i = 0; (n = bench_workload_at(i)); i++) {
        workload = workload || wants_workload(n);
        for (int k = 0; wants_workload(n) && (c = bench_case_at(n, k)); k++)
            op = op || wants_case(c);
    }
    if (!workload)
        REFUSE("--workload: there is no \"%s\"", o.workload);
    if (!op)
        REFUSE("--op: no name here contains \"%s\"", o.op);
    if (!wants_dtype(TORC_F32) && !wants_dtype(TORC_BF16))
        REFUSE("--dtype does not take \"%s\"", o.dtype);
}

/* ---- the run ---- */

static void run_workload(bench_report *r, const bench_workload *whole, torc_dtype dtype)
{
    static bench_result results[MOST_CASES];
    bench_workload n = *whole;
    n.batch = max_i64(1, n.batch / o.ranks);
    const bench_case *c;
    int count = 0;
    for (int k = 0; (c = bench_case_at(&n, k)); k++) {
        if (count == MOST_CASES)
            bug("%s has more than %d cases", n.name, MOST_CASES);
        if (wants_case(c))
            results[count++] = bench_try(&n, c, dtype, o.seconds, o.best);
    }
    if (count > 0)
        bench_report_table(r, &n, dtype, results, count);
}

static void run(bench_report *r, bool with_bf16)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_BF16};
    const bench_workload *n;
    bench_report_head(r, with_bf16, o.best);
    for (int i = 0; (n = bench_workload_at(i)); i++)
        for (int k = 0; wants_workload(n) && k < ARRAY_LENGTH(dtypes); k++)
            if (wants_dtype(dtypes[k]) && (dtypes[k] == TORC_F32 || with_bf16))
                run_workload(r, n, dtypes[k]);
    bench_report_worst(r);
}

/* The other ranks only take their part of the machine. */
static void fall_silent(void)
{
    o.json = NULL;
    if (!freopen("/dev/null", "w", stdout))
        die_at(nowhere, BENCH_PROGRAM, "/dev/null: %s", strerror(errno));
}

/* Flops and bytes a second. On a GPU the products are up to 8192 x 8192 (profile_limits.c). */
static void print_peak(void)
{
    const profile_limits *most = profile_measure();
    printf("{\"device\": \"%s\", \"f32\": %.4g, \"bf16\": %.4g, \"bytes\": %.4g}\n", torc_device(),
           most->flops, most->low_flops, most->bytes);
}

int main(int argc, char **argv)
{
    bench_report *r;
    options_parse(BENCH_PROGRAM, "every op of the workloads, forward and backward, timed", rows,
                  ARRAY_LENGTH(rows), argc, argv);
    check_names();
    torc_init(&argc, &argv);
    if (o.threads)
        torc_set_threads((int)o.threads);
    if (o.peak) {
        print_peak();
        torc_finalize();
        return 0;
    }
    if (strcmp(torc_device(), "cpu"))
        REFUSE("ops are timed by the host's clock: TORC_DEVICE=cpu, or --peak");
    if (!o.ranks)
        o.ranks = torc_world_size();
    if (torc_rank() != 0)
        fall_silent();
    die_unless_ok(nowhere, BENCH_PROGRAM, bench_report_new(o.json, !o.op, &r));
    bool with_bf16 = wants_dtype(TORC_BF16) && bench_has_bf16();
    if (wants_dtype(TORC_BF16) && !with_bf16)
        printf("# this processor has no bf16 instructions: bf16 is left out\n");
    run(r, with_bf16);
    die_unless_ok(nowhere, BENCH_PROGRAM, bench_report_free(r));
    torc_finalize();
    return 0;
}
