/*
 * torc-allreduce-bench, run as a user runs it, its JSON read back; and its check of the sums: a
 * wrong element must be found, or a row without errors says nothing.
 */
#include "allreduce/bench.h"

#include "allreduce/job.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char output[64 * 1024];

static int run(int ranks, const char *arguments)
{
    const char *bin = getenv("TORC_BIN");
    if (!bin)
        test_skip("TORC_BIN is not set: no built programs to run");
    return test_command(55, output, sizeof output,
                        "%s/torcrun -n %d --oversubscribe %s/torc-allreduce-bench %s --json %s",
                        bin, ranks, bin, arguments, test_path("json"));
}

/* Runs it briefly; returns what it wrote to --json. */
static json_t *results(int ranks, const char *arguments)
{
    char all[512];
    snprintf(all, sizeof all, "--repetitions 3 --seconds 0.006 %s", arguments);
    int code = run(ranks, all);
    test_check(code == 0, __FILE__, __LINE__, "exit code %d\n%s", code, output);
    json_t *object = json_load_file(test_path("json"), 0, NULL);
    CHECK(json_is_object(object));
    return object;
}

static double number(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *name(const json_t *row)
{
    return json_string_value(json_object_get(row, "algorithm"));
}

static double seconds_of(const json_t *rows, double bytes, const char *algorithm)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (number(row, "bytes") == bytes && !strcmp(name(row), algorithm))
            return number(row, "seconds");
    }
    return NAN;
}

/* Bandwidths and ratios follow from the times by the formulas of the header. */
static void check_row(const json_t *rows, const json_t *row, int ranks, const char *peer)
{
    double bytes = number(row, "bytes"), seconds = number(row, "seconds");
    CHECK(seconds > 0);
    CHECK(number(row, "errors") == 0);
    CHECK(number(row, "iterations") >= 1);
    CHECK_NEAR(number(row, "algbw"), bytes / seconds / 1e9, 1e-9);
    CHECK_NEAR(number(row, "busbw"), number(row, "algbw") * 2 * (ranks - 1) / ranks, 1e-9);
    CHECK_NEAR(number(row, "times_mpi"), seconds_of(rows, bytes, peer) / seconds, 1e-9);
    if (json_object_get(row, "of_floor"))
        CHECK_NEAR(number(row, "of_floor"), number(row, "floor_seconds") / seconds, 1e-9);
}

static void check_rows(const json_t *all, int ranks, const char *peer, int expected)
{
    const json_t *rows = json_object_get(all, "rows"), *row;
    size_t i;
    CHECK_INT(json_array_size(rows), expected);
    CHECK(number(json_object_get(all, "machine"), "ranks") == ranks);
    json_array_foreach(rows, i, row)
    {
        check_row(rows, row, ranks, peer);
    }
}

TEST(sums_on_one_host)
{
    json_t *all = results(3, "--min 4 --max 64K --factor 64"); /* 4, 256, 16K */
    check_rows(all, 3, "mpi", 6);
    CHECK(seconds_of(json_object_get(all, "rows"), 16384, "direct") > 0);
    json_decref(all);
}

TEST(sums_between_hosts)
{
    json_t *all = results(4, "--min 1K --max 1K --hosts 2");
    const char *const algorithms[] = {"auto", "ring", "exchange", "doubling", "mpi"};
    check_rows(all, 4, "mpi", ARRAY_LENGTH(algorithms));
    for (int i = 0; i < ARRAY_LENGTH(algorithms); i++)
        CHECK(seconds_of(json_object_get(all, "rows"), 1024, algorithms[i]) > 0);
    CHECK(number(json_object_get(all, "machine"), "hosts") == 2);
    json_decref(all);
}

TEST(doubles_and_bfloat16)
{
    json_t *all = results(2, "--min 4 --max 4K --factor 1000 --dtype f64"); /* 8 is the least */
    check_rows(all, 2, "mpi", 2);
    CHECK(seconds_of(json_object_get(all, "rows"), 8, "direct") > 0);
    json_decref(all);
    all = results(3, "--min 4K --max 4K --hosts 3 --dtype bf16-wire --algorithms ring,mpi");
    check_rows(all, 3, "mpi", 2);
    json_decref(all);
}

TEST(the_optimizer_after_it)
{
    json_t *all = results(2, "--min 64K --max 64K --optimizer");
    const json_t *rows = json_object_get(all, "rows");
    check_rows(all, 2, "mpi + AdamW", (int)json_array_size(rows));
    CHECK(seconds_of(rows, 65536, "direct + AdamW") > 0);
    CHECK(seconds_of(rows, 65536, "sharded + AdamW") > 0);
    json_decref(all);
    all = results(4, "--min 100 --max 300K --factor 3072 --optimizer --hosts 3");
    check_rows(all, 4, "mpi + AdamW", 6); /* auto, sharded, mpi; 100 and 307200 bytes */
    json_decref(all);
}

TEST(a_training_step)
{
    json_t *all = results(2, "--step --layers 2 --width 32 --samples 4 --steps 3");
    const json_t *row = json_array_get(json_object_get(all, "rows"), 0);
    CHECK(number(row, "parameters") == 2 * (32 * 32 + 32));
    CHECK(number(row, "steps") == 3);
    CHECK(number(row, "plain_seconds") > 0);
    CHECK_NEAR(number(row, "exposed"),
               number(row, "ddp_seconds") / number(row, "plain_seconds") - 1, 1e-9);
    json_decref(all);
}

TEST(checkpoints)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             "--checkpoint %s --layers 2 --width 32 --samples 4 --every 2 --repetitions 2",
             test_path("saved"));
    json_t *all = results(2, arguments);
    const json_t *row = json_array_get(json_object_get(all, "rows"), 0);
    CHECK(number(row, "bytes") == 12 * (2 * (32 * 32 + 32) + 32 * 10 + 10));
    CHECK(number(row, "call_seconds") > 0);
    CHECK(number(row, "copy_floor_seconds") > 0);
    CHECK_NEAR(number(row, "share"),
               (number(row, "excess_saving_seconds") - number(row, "excess_seconds")) /
                   number(row, "lap_seconds"),
               1e-9);
    json_decref(all);
}

static void check_refused(const char *arguments, int code, const char *says)
{
    CHECK_INT(run(1, arguments), code);
    test_check(strstr(output, says), __FILE__, __LINE__, "%s: \"%s\" is not in\n%s", arguments,
               says, output);
}

TEST(what_cannot_be_is_refused)
{
    check_refused("--max 1Q", 64, "--max does not take \"1Q\"");
    check_refused("--min -4", 64, "--min does not take \"-4\"");
    check_refused("--max 99999999999999999999", 64, "--max does not take");
    check_refused("--factor 1", 64, "--factor takes 2 or more");
    check_refused("--dtype f16", 64, "--dtype does not take \"f16\"");
    check_refused("--optimizer --dtype f64", 64, "no --dtype but f32");
    check_refused("--hosts 1.5", 64, "--hosts does not take \"1.5\"");
    check_refused("--rounds 3", 64, "unrecognized option");
    check_refused("4096", 64, "\"4096\" is no option");
    check_refused("--algorithms direct,ring", 1, "\"ring\" is none that sums over 1 ranks");
    check_refused("--dtype bf16-wire", 1, "there is one host, no wire");
}

/* ---- the check itself ---- */

enum { ELEMENTS = 1000, SPOILED = 777 };

/* A world of one, whose sum is its own data. */
static bench opened(torc_dtype dtype)
{
    unsetenv("OMPI_COMM_WORLD_SIZE");
    torc_init(NULL, NULL);
    bench b = {.o = {.dtype = dtype, .rounds = 2, .seconds = 1e-4, .threads = 1}, .timeout = 10};
    size_t bytes = ELEMENTS * torc_dtype_size(dtype);
    b.c = job_comm(TORC_HERE, "test");
    b.private = base_alloc(bytes, 1);
    b.p = base_alloc(ELEMENTS, sizeof *b.p);
    b.m = base_alloc(ELEMENTS, sizeof *b.m);
    b.v = base_alloc(ELEMENTS, sizeof *b.v);
    CHECK(team_open(b.c, bytes, 0, 0, &b.t) == TORC_OK);
    return b;
}

static void closed(bench *b)
{
    reduction_free(&b->r);
    team_close(b->t);
    free(b->private);
    free(b->p);
    free(b->m);
    free(b->v);
    torc_finalize();
}

static void spoil_f32(bench *b, const bench_method *m, size_t count)
{
    (void)count;
    ((float *)bench_data(b, m))[SPOILED] += 1;
}

static void spoil_f64(bench *b, const bench_method *m, size_t count)
{
    (void)count;
    ((double *)bench_data(b, m))[SPOILED] = NAN;
}

static void forget_to_update(bench *b, const bench_method *m, size_t count)
{
    bench_sum_torc(b, m, count);
}

/* `task`, done by one method that does it wrong. */
static int64_t errors_of(bench *b, bench_task task,
                         void (*once)(bench *, const bench_method *, size_t))
{
    const bench_method wrong = {"wrong", BENCH_TORC, ANYWHERE, NULL, once};
    bench_result result;
    task.method = &wrong;
    task.methods = 1;
    CHECK_INT(bench_measure(b, &task, ELEMENTS * torc_dtype_size(b->o.dtype), &result), 1);
    CHECK_INT(b->errors, result.errors);
    return result.errors;
}

TEST(a_wrong_element_is_an_error)
{
    bench b = opened(TORC_F32);
    CHECK_INT(errors_of(&b, bench_sum, spoil_f32), 2); /* before the timing and after it */
    b.errors = 0;
    CHECK_INT(errors_of(&b, bench_sum, bench_sum_torc), 0);
    closed(&b);
    b = opened(TORC_F64);
    CHECK_INT(errors_of(&b, bench_sum, spoil_f64), 2);
    closed(&b);
}

TEST(a_missing_update_is_an_error)
{
    bench b = opened(TORC_F32);
    int64_t without = 0; /* elements whose gradient is 0 stay (but for the decay) where they are */
    for (size_t i = 0; i < ELEMENTS; i++)
        without += bench_value(1, 0, i) == 0;
    CHECK(without < ELEMENTS / 10);
    CHECK_INT(errors_of(&b, bench_adamw, forget_to_update), 2 * (ELEMENTS - without));
    closed(&b);
}

/* Nobody's part may be left out of a sum unseen, nor a rank's data be mistaken for another's. */
TEST(values_differ_between_ranks)
{
    for (int ranks = 2; ranks <= 64; ranks *= 2)
        for (int r = 1; r < ranks; r++) {
            int same = 0;
            for (size_t i = 0; i < ELEMENTS; i++)
                same += bench_value(ranks, r, i) == bench_value(ranks, r - 1, i);
            test_check(same < ELEMENTS * 3 / 4, __FILE__, __LINE__, "ranks %d and %d of %d", r - 1,
                       r, ranks);
            CHECK(bench_total(ranks, (size_t)r) <= 256);
        }
}
