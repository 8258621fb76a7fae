/*
 * torc-allreduce-bench -- sums over the ranks: time, bandwidth, and whether they are right, beside
 * the MPI library's own MPI_Allreduce in the same process (bench.h says how it measures).
 *
 *     torcrun -n 4 torc-allreduce-bench --min 4K --max 16M
 *     mpirun -n 4 torc-allreduce-bench --hosts 2 --algorithms ring,mpi     pretends two hosts
 *     srun -n 4 torc-allreduce-bench --optimizer                           sum, then AdamW
 *     torcrun -n 2 torc-allreduce-bench --step                             a whole training step
 *     torcrun -n 1 torc-allreduce-bench --checkpoint DIR                   steps that save
 *
 * Exit code 1 when an element was wrong.
 */
#include "allreduce/bench.h"

#include "allreduce/job.h"
#include "allreduce/tune.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 64

static const torc_site nowhere; /* what the command line asks for has no line in a program */

/* ---- the command line: one table, from which parsing and --help are made ---- */

typedef enum kind { BYTES, COUNT, SECONDS, TEXT, DTYPE, MODE } kind;

typedef struct option_row {
    const char *name;
    kind kind;
    void *value; /* size_t *, long *, double *, const char ** */
    bench_mode mode;
    const char *help;
} option_row;

static bench_options o = {.min = 4,
                          .max = (size_t)256 << 20,
                          .factor = 4,
                          .rounds = 7,
                          .hosts = 0,
                          .threads = 1,
                          .seconds = 0.3,
                          .layers = 12,
                          .width = 1024,
                          .samples = 64,
                          .steps = 20,
                          .every = 50};

static const option_row rows[] = {
    {"min", BYTES, &o.min, 0, "smallest buffer in bytes; K, M and G are powers of 1024 [4]"},
    {"max", BYTES, &o.max, 0, "largest buffer [256M]"},
    {"factor", COUNT, &o.factor, 0, "each is so many times the one before [4]"},
    {"repetitions", COUNT, &o.rounds, 0, "rounds, of which the median is taken [7]"},
    {"seconds", SECONDS, &o.seconds, 0, "for an algorithm and a size, over all rounds [0.3]"},
    {"algorithms", TEXT, &o.algorithms, 0,
     "a list of direct (one host), auto, ring, exchange, doubling (several), sharded, mpi [all]"},
    {"dtype", DTYPE, NULL, 0, "f32, f64, or bf16-wire: f32, sent as bfloat16 between hosts [f32]"},
    {"hosts", COUNT, &o.hosts, 0, "deals the ranks out to so many hosts, as TORC_FAKE_HOSTS does"},
    {"threads", COUNT, &o.threads, 0, "of a rank [1]"},
    {"optimizer", MODE, NULL, BENCH_OPTIMIZER, "the sum and AdamW after it"},
    {"step", MODE, NULL, BENCH_STEP, "a training step with and without synchronisation"},
    {"checkpoint", TEXT, &o.checkpoint, BENCH_CHECKPOINT,
     "training with and without checkpoints, which go to this directory"},
    {"every", COUNT, &o.every, 0, "steps, --checkpoint saves one [50]"},
    {"layers", COUNT, &o.layers, 0, "of the network of --step and --checkpoint [12]"},
    {"width", COUNT, &o.width, 0, "of each of them [1024]"},
    {"samples", COUNT, &o.samples, 0, "rows a rank [64]"},
    {"steps", COUNT, &o.steps, 0, "of each kind [20]"},
    {"json", TEXT, &o.json, 0, "the results as one object into this file"},
};
enum { ROWS = ARRAY_LENGTH(rows) };

static _Noreturn void help(void)
{
    printf("%s -- sums over the ranks, timed and checked\n\n", BENCH_PROGRAM);
    for (int i = 0; i < ROWS; i++)
        printf("  --%-12s %s\n", rows[i].name, rows[i].help);
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

static bool parse_bytes(const char *text, size_t *value)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    *value = (size_t)n << shift;
    bool ended = unit ? !end[1] : !*end && end > text;
    return ended && !errno && *text != '-' && n > 0 && n <= (SIZE_MAX >> 1 >> shift);
}

static bool parse_number(const char *text, double low, double high, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end > text && !*end && *value >= low && *value <= high;
}

static bool parse_dtype(const char *text)
{
    o.compress = !strcmp(text, "bf16-wire");
    o.dtype = !strcmp(text, "f64") ? TORC_F64 : TORC_F32;
    return o.compress || o.dtype == TORC_F64 || !strcmp(text, "f32");
}

static bool take(const option_row *row, const char *text)
{
    double number = 0;
    if (row->mode != BENCH_SUM)
        o.mode = row->mode;
    switch (row->kind) {
    case BYTES:
        return parse_bytes(text, row->value);
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
    case DTYPE:
        return parse_dtype(text);
    case MODE:
        break;
    }
    return true;
}

static void parse(int argc, char **argv)
{
    struct option options[ROWS + 2] = {{0}};
    for (int i = 0; i < ROWS; i++)
        options[i] = (struct option){
            rows[i].name, rows[i].kind == MODE ? no_argument : required_argument, NULL, i};
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

/* ---- what goes together ---- */

/* A --max below --min is no error but a single size. */
static void check_sizes(void)
{
    size_t item = torc_dtype_size(o.dtype);
    o.min = o.min < item ? item : o.min;
    o.max = o.max < o.min ? o.min : o.max;
    if (o.max / item > INT_MAX)
        refuse("--max: more elements than MPI_Allreduce can count");
    if (o.factor < 2)
        refuse("--factor takes 2 or more: sizes grow");
    if (o.mode != BENCH_SUM && (o.dtype != TORC_F32 || o.compress))
        refuse("--optimizer, --step and --checkpoint take no --dtype but f32");
}

/* A name that is unknown, or of no use here, would only leave rows out. */
static void check_algorithms(const bench *b, const bench_task *task)
{
    bench all = *b;
    all.o.algorithms = NULL;
    char *names = base_strdup(o.algorithms ? o.algorithms : ""), *rest = names;
    for (char *name; (name = strsep(&rest, ",")) && *name;) {
        bool found = false;
        all.o.algorithms = name;
        for (int i = 0; i < task->methods; i++)
            found = found || (task->method[i].role != BENCH_FLOOR &&
                              bench_asked_for(&all, &task->method[i]));
        if (!found)
            die_at(nowhere, BENCH_PROGRAM,
                   "--algorithms: \"%s\" is none that sums over %d ranks on %d hosts here", name,
                   comm_size(b->c), b->t->hosts);
    }
    free(names);
    if (o.compress && b->t->hosts == 1)
        die_at(nowhere, BENCH_PROGRAM, "--dtype bf16-wire: there is one host, no wire");
}

/* ---- the run ---- */

static void open_bench(bench *b)
{
    bool trains = o.mode == BENCH_STEP || o.mode == BENCH_CHECKPOINT; /* in buckets of its own */
    size_t bytes = trains ? sizeof(float) : o.max, n = bytes / sizeof(float) + 1;
    b->c = job_comm(TORC_HERE, BENCH_PROGRAM);
    b->timeout = base_setting_number("TORC_TIMEOUT", 120, 0.1, 1e6);
    b->rows = json_array();
    b->private = base_alloc(n, sizeof(float));
    int spare = b->o.mode == BENCH_OPTIMIZER;
    job_check(TORC_HERE, BENCH_PROGRAM, team_open(b->c, n * sizeof(float), 0, spare, &b->t));
    if (!spare)
        return;
    b->p = base_alloc(n, sizeof *b->p);
    b->m = base_alloc(n, sizeof *b->m);
    b->v = base_alloc(n, sizeof *b->v);
}

static void close_bench(bench *b)
{
    torc_barrier(); /* nobody unmaps what another rank still looks at */
    reduction_free(&b->r);
    team_close(b->t);
    json_decref(b->rows);
    free(b->private);
    free(b->p);
    free(b->m);
    free(b->v);
}

static void measure_sizes(bench *b, const bench_task *task)
{
    bench_result results[BENCH_METHODS];
    check_algorithms(b, task);
    bench_print_head(b);
    size_t item = torc_dtype_size(o.dtype);
    for (size_t bytes = o.min; bytes <= o.max; bytes *= (size_t)o.factor) {
        size_t whole = bytes / item * item;
        bench_report(b, whole, results, bench_measure(b, task, whole, results));
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    check_sizes();
    if (o.hosts) {
        char text[24];
        snprintf(text, sizeof text, "%ld", o.hosts);
        setenv("TORC_FAKE_HOSTS", text, 1);
    }
    torc_init(&argc, &argv);
    torc_set_threads((int)o.threads);
    bench b = {.o = o};
    open_bench(&b);
    if (base_setting_number("TORC_TUNE", 0, 0, 1) != 0) /* "auto" is what training would take */
        job_check(TORC_HERE, BENCH_PROGRAM, tune(b.c));
    if (o.mode == BENCH_STEP)
        bench_step(&b);
    else if (o.mode == BENCH_CHECKPOINT)
        bench_checkpoint(&b);
    else
        measure_sizes(&b, o.mode == BENCH_SUM ? &bench_sum : &bench_adamw);
    die_unless_ok(nowhere, BENCH_PROGRAM, bench_write_json(&b));
    int64_t errors = b.errors;
    close_bench(&b);
    torc_finalize();
    return errors ? 1 : 0;
}
