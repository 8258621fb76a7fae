/*
 * The profile of a GPU: kernels have spans of their own, in the order in which they ran, that
 * belong to the ops that asked for them; table and trace tell the GPU's time, not the host's.
 */
#include "core/torc.h"

#include "allreduce/job.h"
#include "core/kernels.h"
#include "core/profile.h"
#include "tests/own_gpus.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEATURES = 32, WIDTH = 64, BATCH = 16, STEPS = 6 };
enum { PARAMETERS = 2 * FEATURES * WIDTH + WIDTH + 3 * FEATURES };

/* For a trace, without a table and the limits for it, which an emulated GPU is slow to measure. */
static void start_keeping(void)
{
    setenv("TORC_TRACE", test_path("trace.json"), 1);
    profile_start_if_asked();
}

static torc_module *network(void)
{
    return torc_sequential(torc_linear(FEATURES, WIDTH), torc_relu_layer(),
                           torc_linear(WIDTH, FEATURES), torc_layer_norm(FEATURES));
}

static void train(torc_module *net, int steps)
{
    torc_optimizer *opt = torc_adamw(net, .lr = 1e-3f);
    for (int i = 0; i < steps; i++) {
        torc_tape_clear();
        torc_tensor *x = torc_randn(TORC_SHAPE(BATCH, FEATURES));
        torc_backward(torc_mse_loss(torc_forward(net, x), x));
        torc_step(opt);
    }
}

/* ---- spans ---- */

TEST(a_kernel_is_a_span_of_its_op)
{
    enum { N = 1000 };
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(N)));
    start_keeping();
    torc_relu(x);
    int line = __LINE__ - 1, kernels = 0;
    double ended = torc_seconds();
    profile_finish();
    int64_t count;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        if (all[i]->lane != PROFILE_STREAM)
            continue;
        kernels++;
        CHECK_TEXT(all[i]->name, "torc_relu");
        CHECK_TEXT(profile_kernel_name(all[i]->kernel), "elementwise");
        CHECK_INT(all[i]->at.line, line);
        CHECK_INT(all[i]->of, PROFILE_FORWARD);
        CHECK_INT(all[i]->flops, N);
        CHECK_INT(all[i]->bytes, 2 * 4 * N);
        CHECK(all[i]->end > all[i]->begin && all[i]->end < ended + 1e-3);
    }
    free(all);
    CHECK_INT(kernels, 1);
}

/* The work of an op is that of its kernels, its lane is known to them, and the stream does one
 * thing after the other, each after it was asked for. */
TEST(the_stream_is_one_lane_that_holds_all_work)
{
    int64_t count, work[PROFILE_LANE_COUNT] = {0}, streamed[PROFILE_LANE_COUNT] = {0};
    double last = 0, busy = 0;
    start_keeping();
    double began = torc_seconds();
    train(network(), STEPS);
    profile_finish();
    double took = torc_seconds() - began;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        const profile_record *r = all[i];
        if (r->lane != PROFILE_STREAM) {
            work[r->lane] += r->flops + r->bytes;
            continue;
        }
        streamed[r->of] += r->flops + r->bytes;
        CHECK(r->begin >= last && r->begin >= began && r->end >= r->begin);
        last = r->end;
        busy += r->end - r->begin;
    }
    free(all);
    CHECK(work[PROFILE_FORWARD] > 0 && work[PROFILE_BACKWARD] > 0 && work[PROFILE_OPTIMIZER] > 0);
    for (int i = 0; i < PROFILE_LANE_COUNT; i++)
        CHECK_INT(streamed[i], work[i]);
    CHECK(busy > 0 && busy <= took);
}

/* More than the ring has room for: the oldest are read on the way, and the anchor moves. */
TEST(no_kernel_is_lost)
{
    enum { CALLS = 20000 };
    start_keeping();
    for (int i = 0; i < CALLS; i++) {
        profile_enter(PROFILE_FORWARD, (torc_site){__FILE__, i}, "call");
        profile_kernel_begins(0);
        profile_kernel_ends(i, 0, false);
        profile_leave();
    }
    profile_finish();
    int64_t count, kernels = 0;
    double last = 0;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        if (all[i]->lane != PROFILE_STREAM)
            continue;
        CHECK_INT(all[i]->flops, kernels);
        CHECK_INT(all[i]->at.line, kernels);
        CHECK(all[i]->begin >= last);
        last = all[i]->end;
        kernels++;
    }
    free(all);
    CHECK_INT(kernels, CALLS);
}

/* What every step sums is told by spans beside the kernels, a bucket each, one after the other and
 * within the time of the run. */
static void check_beside(const char *name, int buckets, double began)
{
    int64_t count, moved = 0;
    double last = began, now = torc_seconds();
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        const profile_record *r = all[i];
        if (r->lane != PROFILE_BESIDE)
            continue;
        CHECK_TEXT(r->name, name);
        CHECK(!r->at.file && r->at.line >= 0 && r->at.line < buckets);
        CHECK(r->begin >= last && r->end >= r->begin && r->end <= now);
        last = r->end;
        moved += r->bytes;
    }
    free(all);
    CHECK_INT(moved, STEPS * PARAMETERS * (int64_t)sizeof(float));
}

static void profile_buckets(const char *name)
{
    torc_module *net = torc_ddp(network(), .bucket_bytes = 4096, .first_bucket_bytes = 4096);
    start_keeping();
    double began = torc_seconds();
    train(net, STEPS);
    profile_finish();
    check_beside(name, torc_ddp_statistics(net).buckets, began);
    torc_finalize();
}

TEST_RANKS(buckets_between_gpus_are_spans, 2)
{
    ask_for_own_gpus();
    torc_init(NULL, NULL);
    skip_if_shared(job_comm((torc_site){0}, "test"));
    profile_buckets("all-reduce");
}

TEST_RANKS(buckets_to_the_host_are_spans, 2)
{
    torc_init(NULL, NULL);
    profile_buckets("copy to the host");
}

TEST(off_no_stamp_is_set)
{
    start_keeping();
    profile_finish();
    device_current()->stamp(0, false);
    device_current()->stamp(1, false);
    double apart = device_current()->between(0, 1);
    train(network(), 2);
    CHECK(device_current()->between(0, 1) == apart);
    CHECK(kernels_here() == device_current()->kernels());
}

/* ---- what is made of them ---- */

static double number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

TEST(the_table_tells_the_time_of_the_gpu)
{
    static char text[1 << 16];
    const char *path = test_path("table");
    CHECK(freopen(path, "w", stderr) != NULL);
    torc_profile_start();
    double began = torc_seconds();
    train(network(), STEPS);
    double took = torc_seconds() - began;
    torc_profile_stop();
    fflush(stderr);
    FILE *f = fopen(path, "r");
    CHECK(f && fread(text, 1, sizeof text - 1, f) > 0);
    if (f)
        fclose(f);
    CHECK(number_after(text, "this GPU: ") > 0);
    CHECK(number_after(text, " steps of ") < 1e3 * took);
    CHECK(strstr(text, "GPU ms") && strstr(text, "host ms"));
    double busy = number_after(text, "the GPU computed: "), rows = 0, gpu_ms;
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strlen(line) > 90 && sscanf(line + 69, "%*d %lf", &gpu_ms) == 1)
            rows += gpu_ms;
    CHECK(busy > 0 && busy <= 1e3 * took);
    CHECK_NEAR(rows, busy, 0.02); /* of numbers with two decimals */
}

TEST(the_trace_has_a_lane_of_the_stream)
{
    const char *path = test_path("trace.json");
    setenv("TORC_TRACE", path, 1);
    torc_init(NULL, NULL);
    train(network(), STEPS);
    torc_finalize();
    json_t *trace = json_load_file(path, 0, NULL), *e;
    json_t *events = json_is_array(trace) ? trace : json_object_get(trace, "traceEvents");
    size_t i, kernels = 0, lane = 0;
    double last = 0;
    json_array_foreach(events, i, e)
    {
        json_t *args = json_object_get(e, "args");
        const char *name = json_string_value(json_object_get(args, "name"));
        if (name && !strcmp(name, "GPU stream"))
            lane = (size_t)json_integer_value(json_object_get(e, "tid"));
        if (!lane || !json_object_get(e, "ts") ||
            (size_t)json_integer_value(json_object_get(e, "tid")) != lane)
            continue;
        double begin = json_number_value(json_object_get(e, "ts"));
        CHECK(begin >= last);
        last = begin + json_number_value(json_object_get(e, "dur"));
        CHECK(json_string_value(json_object_get(args, "op")) != NULL);
        kernels++;
    }
    json_decref(trace);
    CHECK(lane > 0);
    CHECK(kernels > 10 * STEPS);
}
