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

#include "core/profile.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 64
enum { MOST_CASES = 64 /* of a workload */ };

static const torc_site nowhere; /* what the command line asks for has no line in a program */

/* ---- the command line: one table, from which parsing and --help are made ---- */

typedef enum kind { COUNT, SECONDS, TEXT, FLAG } kind;

typedef struct option_row {
    const char *name;
    kind kind;
    void *value; /* long *, double *, const char **, bool * */
    const char *help;
} option_row;

static struct {
    const char *workload, *op, *dtype, *json;
    double seconds;
    long ranks, threads;
    bool best, peak;
} o = {.seconds = 0.2};

static const option_row rows[] = {
    {"workload", TEXT, &o.workload, "mlp, cnn, gpt, gpt-m or others: ops of no step [all]"},
    {"op", TEXT, &o.op, "only those with this in their name"},
    {"dtype", TEXT, &o.dtype, "f32, or bf16: within torc_autocast(TORC_BF16) [both]"},
    {"time", SECONDS, &o.seconds, "seconds for an op, both passes; 5 runs at least [0.2]"},
    {"best", FLAG, &o.best, "the best run, not the median: where others use the machine too"},
    {"ranks", COUNT, &o.ranks, "divides the batch by so many [those of the job]"},
    {"threads", COUNT, &o.threads, "of a rank [its share of the cores]"},
    {"peak", FLAG, &o.peak, "no op: the fastest products and the memory of this device, as JSON"},
    {"json", TEXT, &o.json, "the results, one object a line, into this file"},
};
enum { ROWS = ARRAY_LENGTH(rows) };

static _Noreturn void help(void)
{
    printf("%s -- every op of the workloads, forward and backward, timed\n\n", BENCH_PROGRAM);
    for (int i = 0; i < ROWS; i++)
        printf("  --%-10s %s\n", rows[i].name, rows[i].help);
    exit(0);
}

PRINTF_LIKE(1, 2) static _Noreturn void refuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", BENCH_PROGRAM);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; --help lists the options\n");
    va_end(args);
    exit(EXIT_USAGE);
}

static bool parse_number(const char *text, double low, double high, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end > text && !*end && *value >= low && *value <= high;
}

static bool take(const option_row *row, const char *text)
{
    double number = 0;
    switch (row->kind) {
    case COUNT:
        if (!parse_number(text, 1, 1000000, &number))
            return false;
        *(long *)row->value = (long)number;
        return number == (double)(long)number;
    case SECONDS:
        return parse_number(text, 1e-6, 3600, row->value);
    case TEXT:
        *(const char **)row->value = text;
        return true;
    case FLAG:
        *(bool *)row->value = true;
    }
    return true;
}

static void parse(int argc, char **argv)
{
    struct option options[ROWS + 2] = {{0}};
    for (int i = 0; i < ROWS; i++)
        options[i] = (struct option){
            rows[i].name, rows[i].kind == FLAG ? no_argument : required_argument, NULL, i};
    options[ROWS] = (struct option){"help", no_argument, NULL, ROWS};
    for (int i; (i = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (i == ROWS)
            help();
        if (i == '?') /* getopt has told */
            exit(EXIT_USAGE);
        if (!take(&rows[i], optarg))
            refuse("--%s does not take \"%s\"", rows[i].name, optarg);
    }
    if (optind < argc)
        refuse("\"%s\" is no option", argv[optind]);
}

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
        refuse("--workload: there is no \"%s\"", o.workload);
    if (!op)
        refuse("--op: no name here contains \"%s\"", o.op);
    if (!wants_dtype(TORC_F32) && !wants_dtype(TORC_BF16))
        refuse("--dtype does not take \"%s\"", o.dtype);
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
    parse(argc, argv);
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
        refuse("ops are timed by the host's clock: TORC_DEVICE=cpu, or --peak");
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
