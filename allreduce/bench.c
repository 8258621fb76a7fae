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
#include "core/bench/options.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const torc_site nowhere; /* what the command line asks for has no line in a program */

/* ---- the command line ---- */

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

static struct {
    const char *dtype;
    bool optimizer, step;
} asked = {.dtype = "f32"};

static const option_row rows[] = {
    {"min", OPTION_BYTES, &o.min, "smallest buffer in bytes; K, M and G are powers of 1024 [4]"},
    {"max", OPTION_BYTES, &o.max, "largest buffer [256M]"},
    {"factor", OPTION_COUNT, &o.factor, "each is so many times the one before [4]"},
    {"repetitions", OPTION_COUNT, &o.rounds, "rounds, of which the median is taken [7]"},
    {"seconds", OPTION_SECONDS, &o.seconds, "for an algorithm and a size, over all rounds [0.3]"},
    {"algorithms", OPTION_TEXT, &o.algorithms,
     "a list of direct (one host), auto, ring, exchange, doubling (several), sharded, mpi [all]"},
    {"dtype", OPTION_TEXT, &asked.dtype,
     "f32, f64, or bf16-wire: f32, sent as bfloat16 between hosts [f32]"},
    {"hosts", OPTION_COUNT, &o.hosts,
     "deals the ranks out to so many hosts, as TORC_FAKE_HOSTS does"},
    {"threads", OPTION_COUNT, &o.threads, "of a rank [1]"},
    {"optimizer", OPTION_FLAG, &asked.optimizer, "the sum and AdamW after it"},
    {"step", OPTION_FLAG, &asked.step, "a training step with and without synchronisation"},
    {"checkpoint", OPTION_TEXT, &o.checkpoint,
     "training with and without checkpoints, which go to this directory"},
    {"every", OPTION_COUNT, &o.every, "steps, --checkpoint saves one [50]"},
    {"layers", OPTION_COUNT, &o.layers, "of the network of --step and --checkpoint [12]"},
    {"width", OPTION_COUNT, &o.width, "of each of them [1024]"},
    {"samples", OPTION_COUNT, &o.samples, "rows a rank [64]"},
    {"steps", OPTION_COUNT, &o.steps, "of each kind [20]"},
    {"json", OPTION_TEXT, &o.json, "the results as one object into this file"},
};

#define REFUSE(...) options_refuse(BENCH_PROGRAM, __VA_ARGS__)

/* ---- what goes together ---- */

static void choose_mode(void)
{
    if (asked.optimizer + asked.step + (o.checkpoint != NULL) > 1)
        REFUSE("--optimizer, --step and --checkpoint: one of them");
    o.mode = asked.optimizer ? BENCH_OPTIMIZER : asked.step ? BENCH_STEP : BENCH_SUM;
    if (o.checkpoint)
        o.mode = BENCH_CHECKPOINT;
}

static void choose_dtype(void)
{
    o.compress = !strcmp(asked.dtype, "bf16-wire");
    o.dtype = !strcmp(asked.dtype, "f64") ? TORC_F64 : TORC_F32;
    if (!o.compress && o.dtype != TORC_F64 && strcmp(asked.dtype, "f32") != 0)
        REFUSE("--dtype does not take \"%s\"", asked.dtype);
}

/* A --max below --min is no error but a single size. */
static void check_sizes(void)
{
    size_t item = torc_dtype_size(o.dtype);
    o.min = o.min < item ? item : o.min;
    o.max = o.max < o.min ? o.min : o.max;
    if (o.max / item > INT_MAX)
        REFUSE("--max: more elements than MPI_Allreduce can count");
    if (o.factor < 2)
        REFUSE("--factor takes 2 or more: sizes grow");
    if (o.mode != BENCH_SUM && (o.dtype != TORC_F32 || o.compress))
        REFUSE("--optimizer, --step and --checkpoint take no --dtype but f32");
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
    options_parse(BENCH_PROGRAM, "sums over the ranks, timed and checked", rows, ARRAY_LENGTH(rows),
                  argc, argv);
    choose_mode();
    choose_dtype();
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
