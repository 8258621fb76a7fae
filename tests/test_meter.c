/*
 * The examples' meter: every loss is read once, in its order, whenever that is, and the steps'
 * times are the time that passed. On a GPU, where losses are read together, with a network.
 */
#include "examples/common/gpt.h"
#include "examples/common/meter.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double sum(const double *x, long n)
{
    double s = 0;
    for (long i = 0; i < n; i++)
        s += x[i];
    return s;
}

/* Step i has the loss i + 1. `calls` of the loop make one step, as with virtual ranks. */
static meter measure(long steps, long calls)
{
    meter m = meter_new(steps, 3, 1, "samples");
    for (long i = 0; i < steps * calls; i++) {
        meter_start_step(&m);
        torc_tensor *loss = torc_full(TORC_SCALAR, (double)(i / calls + 1));
        meter_end_step(&m, loss, (i + 1) / calls);
        torc_tape_clear();
    }
    return m;
}

static void check_losses(long steps, long calls)
{
    double began = torc_seconds();
    meter m = measure(steps, calls);
    double took = torc_seconds() - began;
    CHECK_INT(m.steps, steps);
    CHECK_INT(m.read, steps);
    for (long i = 0; i < steps; i++)
        CHECK_NEAR(m.losses[i], (double)(i + 1), 0);
    CHECK(sum(m.times, steps) <= took);
    CHECK(sum(m.times, steps) > 0);
    meter_free(&m);
}

TEST(every_loss_is_read_once_in_its_order)
{
    for (long steps = 1; steps < 3 * METER_AHEAD; steps += 4)
        check_losses(steps, 1);
    check_losses(25, 3);
}

/* The reading is what waits for a GPU: there the losses of several steps are read at once. */
TEST(the_host_reads_only_now_and_then)
{
    meter m = meter_new(100, 0, 1, "samples");
    long readings = 0;
    for (long i = 0; i < 41; i++) {
        long before = m.read;
        meter_start_step(&m);
        meter_end_step(&m, torc_full(TORC_SCALAR, 1), i + 1);
        readings += m.read > before;
    }
    CHECK_INT(readings, strcmp(torc_device(), "cpu") ? 5 : 41); /* 1, 11, 21, 31, 41 */
    meter_free(&m);
}

static double after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

static void check_line(const meter *m, const char *path)
{
    char line[1024] = "", device[64];
    FILE *f = fopen(path, "r");
    CHECK(f && fgets(line, sizeof line, f));
    if (f)
        fclose(f);
    CHECK_NEAR(after(line, "\"tokens_per_s\": ") * meter_step_seconds(m), 16, 1e-2);
    CHECK(after(line, "\"max_device_mb\": ") > 0);
    CHECK_INT(after(line, "\"ranks\": "), 2);
    snprintf(device, sizeof device, "\"device\": \"%s\"", torc_device());
    CHECK(strstr(line, device) != NULL);
}

TEST_RANKS(a_small_gpt_is_measured, 2)
{
    torc_init(NULL, NULL);
    gpt_sizes s = {.vocabulary = 32, .context = 8, .layers = 1, .heads = 2, .width = 16};
    torc_module *net = torc_ddp(gpt_new(s));
    torc_optimizer *opt = torc_adamw(net, .lr = 1e-2f);
    int64_t ids[16], next[16];
    for (int i = 0; i < 16; i++) {
        ids[i] = i * 5 % 32;
        next[i] = (ids[i] + 1) % 32;
    }
    meter m = meter_new(12, 2, 16, "tokens");
    for (int i = 0; i < 12; i++) {
        torc_tape_clear();
        torc_tensor *x = torc_zeros(TORC_SHAPE(2, 8), .dtype = TORC_I64);
        torc_tensor *y = torc_zeros(TORC_SHAPE(2, 8), .dtype = TORC_I64);
        torc_write(x, TORC_I64, ids, 16);
        torc_write(y, TORC_I64, next, 16);
        meter_start_step(&m);
        torc_tensor *loss = torc_cross_entropy(torc_forward(net, x), y);
        torc_backward(loss);
        torc_step(opt);
        meter_end_step(&m, loss, (long)torc_steps(opt));
    }
    CHECK_NEAR(m.losses[0], log(32), 0.05);
    for (int i = 1; i < 12; i++)
        CHECK(m.losses[i] < m.losses[i - 1]);
    meter_write_json(&m, test_path("json"),
                     (result){.workload = "tiny", .samples = 2, .tokens = 16});
    if (torc_rank() == 0)
        check_line(&m, test_path("json"));
    meter_free(&m);
    torc_finalize();
}
