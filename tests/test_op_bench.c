/*
 * torc-op-bench, run as a user runs it, its JSON lines read back: every row is there, times are
 * positive, work is that of the formula, shares follow from the numbers beside them.
 */
#include "tests/harness.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char output[64 * 1024];

static int run(const char *arguments)
{
    const char *bin = getenv("TORC_BIN");
    if (!bin)
        test_skip("TORC_BIN is not set: no built programs to run");
    return test_command(55, output, sizeof output, "%s/torc-op-bench --json %s %s", bin,
                        test_path("json"), arguments);
}

/* The lines of --json that have `key`, as an array. */
static json_t *lines_with(const char *key)
{
    json_t *all = json_array(), *line;
    FILE *f = fopen(test_path("json"), "r");
    CHECK(f != NULL);
    while (f && (line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) {
        if (json_object_get(line, key))
            json_array_append(all, line);
        json_decref(line);
    }
    if (f)
        fclose(f);
    return all;
}

/* Runs it briefly; returns its rows. */
static json_t *results(const char *arguments)
{
    char all[512];
    snprintf(all, sizeof all, "--time 0.001 --threads 1 %s", arguments);
    int code = run(all);
    test_check(code == 0, __FILE__, __LINE__, "exit code %d\n%s", code, output);
    return lines_with("op");
}

TEST(peaks_are_told_as_json)
{
    CHECK_INT(run("--peak"), 0);
    json_t *peak = json_loads(output, JSON_DISABLE_EOF_CHECK, NULL);
    CHECK(json_number_value(json_object_get(peak, "f32")) > 1e8);
    CHECK(json_number_value(json_object_get(peak, "bytes")) > 1e8);
    json_decref(peak);
}

static double number(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text(const json_t *row, const char *key)
{
    const char *value = json_string_value(json_object_get(row, key));
    return value ? value : "";
}

static const json_t *row_of(const json_t *rows, const char *op, const char *pass)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        if (!strcmp(text(row, "op"), op) && !strcmp(text(row, "pass"), pass))
            return row;
    }
    test_check(false, __FILE__, __LINE__, "no row of %s %s", op, pass);
    return NULL;
}

static void check_rows(const json_t *rows, const char *workload)
{
    const json_t *row;
    double steps = 0;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        CHECK_TEXT(text(row, "workload"), workload);
        CHECK(number(row, "seconds") > 0);
        CHECK(number(row, "bytes") > 0);
        CHECK(number(row, "floor_seconds") > 0);
        CHECK(number(row, "iterations") >= 5);
        CHECK_NEAR(number(row, "of_floor"), number(row, "floor_seconds") / number(row, "seconds"),
                   1e-4);
        steps += number(row, "calls") > 0 ? number(row, "of_step") : 0;
    }
    CHECK_NEAR(steps, 1, 1e-4);
}

/* Of x [m, k] times a weight [n, k], with a bias and maybe an activation: a product forward, and
 * backward one for each gradient that is wanted; two more flops an element at most. */
static void check_linear(const json_t *rows, const char *op, double m, double k, double n,
                         bool data, bool act)
{
    double product = 2 * m * n * k, rest = m * n * (act ? 2 : 1);
    CHECK(number(row_of(rows, op, "forward"), "flops") == product + rest);
    CHECK(number(row_of(rows, op, "backward"), "flops") == (data ? 1 : 2) * product + rest);
}

TEST(every_row_of_a_workload)
{
    json_t *rows = results("--workload mlp --dtype f32");
    CHECK_INT(json_array_size(rows), 4 * 2 + 2); /* ops in two passes, updates in one */
    check_rows(rows, "mlp");
    check_linear(rows, "linear_784_256_relu", 256, 784, 256, true, true);
    check_linear(rows, "linear_256_128_relu", 256, 256, 128, false, true);
    check_linear(rows, "linear_128_10", 256, 128, 10, false, false);
    double parameters = 785 * 256 + 257 * 128 + 129 * 10;
    CHECK(number(row_of(rows, "adamw", "forward"), "flops") == 14 * parameters);
    CHECK(number(row_of(rows, "adamw", "forward"), "bytes") == 28 * parameters);
    CHECK(strstr(output, "of the floor: ") != NULL);
    json_decref(rows);
}

/* A gradient that is added to is read before it is written. */
TEST(gradients_arrive_as_in_training)
{
    double index = 8 * 12 * 64, x = 4 * 12 * 64 * 128;
    json_t *rows = results("--workload gpt --dtype f32 --ranks 4 --op embedding_token");
    CHECK_INT(json_array_size(rows), 2);
    CHECK(number(row_of(rows, "embedding_token", "backward"), "bytes") == 3 * x + index);
    json_decref(rows);
    rows = results("--workload gpt --dtype f32 --ranks 4 --op layer_norm");
    double first = number(row_of(rows, "layer_norm", "backward"), "bytes");
    CHECK(first == number(row_of(rows, "layer_norm_last", "backward"), "bytes") + x);
    CHECK(number(row_of(rows, "layer_norm", "forward"), "calls") == 8);
    CHECK(isnan(number(row_of(rows, "layer_norm", "forward"), "of_step")));
    json_decref(rows);
}

TEST(convolutions_and_attention)
{
    json_t *rows = results("--workload cnn --dtype f32 --ranks 32 --op conv_32");
    double product = 2.0 * 8 * 64 * 24 * 24 * 32 * 9, bias = 8 * 64 * 24 * 24;
    CHECK(number(row_of(rows, "conv_32_64_relu", "forward"), "flops") == product + 2 * bias);
    CHECK(number(row_of(rows, "conv_32_64_relu", "backward"), "flops") == 2 * product + 2 * bias);
    json_decref(rows);
    rows = results("--workload gpt --dtype f32 --ranks 12 --op attention");
    double pairs = 4.0 * 4 * 64 * 65 / 2; /* batch, heads, row i sees i + 1 columns */
    CHECK(number(row_of(rows, "attention", "forward"), "flops") == 4 * pairs * 32);
    CHECK(number(row_of(rows, "attention", "backward"), "flops") == 10 * pairs * 32);
    json_decref(rows);
}

/* A processor without it says so. */
TEST(bf16_moves_half_the_bytes)
{
    json_t *rows = results("--workload others --ranks 16 --dtype bf16 --op relu");
    if (json_array_size(rows) == 0) {
        CHECK(strstr(output, "no bf16 instructions: bf16 is left out") != NULL);
    } else {
        CHECK(number(row_of(rows, "relu", "forward"), "bytes") == 2.0 * 2 * 256 * 384);
        CHECK_TEXT(text(row_of(rows, "relu", "backward"), "dtype"), "bf16");
    }
    json_decref(rows);
}

static void check_refused(const char *arguments, int code, const char *says)
{
    CHECK_INT(run(arguments), code);
    test_check(strstr(output, says), __FILE__, __LINE__, "%s: \"%s\" is not in\n%s", arguments,
               says, output);
}

TEST(what_cannot_be_is_refused)
{
    check_refused("--workload vgg", 64, "--workload: there is no \"vgg\"");
    check_refused("--workload mlp --op conv", 64, "--op: no name here contains \"conv\"");
    check_refused("--dtype f64", 64, "--dtype does not take \"f64\"");
    check_refused("--time 0", 64, "--time does not take \"0\"");
    check_refused("--threads 1.5", 64, "--threads does not take \"1.5\"");
    check_refused("--seconds 3", 64, "unrecognized option");
    check_refused("mlp", 64, "\"mlp\" is no option");
    check_refused("--json /nowhere/x --workload mlp --op relu", 1, "/nowhere/x: No such file");
}

TEST(help_names_every_option)
{
    static const char *const names[] = {"workload", "op",    "dtype",   "time",
                                        "best",     "ranks", "threads", "json"};
    CHECK_INT(run("--help"), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        test_check(strstr(output, names[i]) != NULL, __FILE__, __LINE__, "no --%s", names[i]);
}
