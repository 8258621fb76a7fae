/*
 * The profile: what is recorded is what happened, the lanes are the step, the table names the
 * program's lines, and the trace of all ranks is one picture.
 */
#include "core/torc.h"

#include "core/profile.h"
#include "core/profile_costs.h"
#include "tests/harness.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLES = 512, FEATURES = 128, CLASSES = 8, BATCH = 64 };

/* Sends what goes to stderr to a file, from here to the end of the case. */
static const char *redirected(void)
{
    const char *path = test_path("table");
    CHECK(freopen(path, "w", stderr) != NULL);
    return path;
}

/* Spans are kept for a trace only. */
static void start_keeping(void)
{
    setenv("TORC_TRACE", test_path("trace.json"), 1);
    torc_profile_start();
}

static profile_record found(profile_lane lane, const char *name)
{
    profile_record sum = {.name = NULL};
    int64_t count;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++)
        if (all[i]->lane == (uint32_t)lane && !strcmp(all[i]->name, name))
            sum = *all[i];
    free(all);
    CHECK(sum.name);
    return sum;
}

static torc_tensor *numbers(torc_shape shape)
{
    return torc_randn(shape);
}

/* ---- what is counted ---- */

TEST(off_records_nothing_and_wraps_nothing)
{
    torc_tensor *x = numbers(TORC_SHAPE(4, 5));
    torc_set_requires_grad(torc_keep(x), true);
    torc_backward(torc_sum(torc_relu(x)));
    int64_t count;
    const profile_record **all = profile_records(&count);
    CHECK_INT(count, 0);
    CHECK(kernels_here() == device_current()->kernels());
    torc_profile_start();
    CHECK(kernels_here() != device_current()->kernels());
    torc_profile_stop();
    CHECK(kernels_here() == device_current()->kernels());
    free(all);
}

/* y = x w^T + b of [rows, in] and [out, in]: 2 rows in out and a bias each; backward makes both
 * products again, and adds up the bias' gradient. */
TEST(flops_of_a_linear_layer_are_those_of_its_formula)
{
    enum { ROWS = 7, IN = 5, OUT = 3 };
    torc_tensor *x = torc_keep(numbers(TORC_SHAPE(ROWS, IN)));
    torc_tensor *w = torc_keep(numbers(TORC_SHAPE(OUT, IN)));
    torc_tensor *b = torc_keep(numbers(TORC_SHAPE(OUT)));
    torc_set_requires_grad(x, true);
    torc_set_requires_grad(w, true);
    torc_set_requires_grad(b, true);
    start_keeping();
    torc_tensor *y = torc_linear_op(x, w, b);
    int line = __LINE__ - 1;
    torc_backward(torc_sum(y));
    torc_profile_stop();
    profile_record f = found(PROFILE_FORWARD, "torc_linear_op");
    profile_record g = found(PROFILE_BACKWARD, "torc_linear_op");
    CHECK_INT(f.flops, 2 * ROWS * IN * OUT + ROWS * OUT);
    CHECK_INT(f.bytes, 4 * (ROWS * IN + OUT * IN + OUT + ROWS * OUT));
    CHECK_INT(g.flops, 2 * (2 * ROWS * IN * OUT) + ROWS * OUT);
    CHECK_INT(f.at.line, line);
    CHECK_INT(g.at.line, line);
    CHECK(g.begin >= f.end);
}

TEST(flops_of_a_convolution_are_those_of_its_formula)
{
    enum { N_ = 2, C = 4, O = 6, SIDE = 8, K = 3, OUTPUT = SIDE - K + 1, GROUPS = 2 };
    torc_tensor *x = torc_keep(numbers(TORC_SHAPE(N_, C, SIDE, SIDE)));
    torc_tensor *w = torc_keep(numbers(TORC_SHAPE(O, C / GROUPS, K, K)));
    torc_set_requires_grad(x, true);
    torc_set_requires_grad(w, true);
    start_keeping();
    torc_backward(torc_sum(torc_conv2d_op(x, w, NULL, .groups = GROUPS)));
    torc_profile_stop();
    int64_t products = 2 * N_ * O * OUTPUT * OUTPUT * (C / GROUPS) * K * K;
    CHECK_INT(found(PROFILE_FORWARD, "torc_conv2d_op").flops, products);
    CHECK_INT(found(PROFILE_BACKWARD, "torc_conv2d_op").flops, 2 * products);
}

TEST(causal_attention_counts_the_pairs_that_see_each_other)
{
    for (int64_t rows = 0; rows < 6; rows++)
        for (int64_t columns = 0; columns < 6; columns++) {
            tensor q = {.ndim = 4, .shape = {2, 3, rows, 5}};
            tensor k = {.ndim = 4, .shape = {2, 3, columns, 5}};
            int64_t pairs = 0;
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++)
                    pairs += j <= i + columns - rows;
            CHECK_INT(attention_products(&q, &k, true), 2 * 3 * 5 * pairs);
            CHECK_INT(attention_products(&q, &k, false), 2 * 3 * 5 * rows * columns);
        }
}

/* The user's own work between two ops is in none of them. */
TEST(what_the_program_does_itself_is_in_no_span)
{
    torc_tensor *x = torc_keep(numbers(TORC_SHAPE(4)));
    start_keeping();
    torc_relu(x);
    usleep(20000);
    torc_exp(x);
    torc_profile_stop();
    profile_record before = found(PROFILE_FORWARD, "torc_relu");
    profile_record after = found(PROFILE_FORWARD, "torc_exp");
    CHECK(after.begin - before.end >= 0.0199);
    CHECK(after.end - after.begin < 0.0199);
}

/* ---- lanes ---- */

static torc_module *network(void)
{
    return torc_sequential(torc_linear(FEATURES, 256), torc_relu_layer(), torc_linear(256, 256),
                           torc_relu_layer(), torc_linear(256, CLASSES));
}

static torc_loader *batches(void)
{
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(SAMPLES, FEATURES)));
    torc_tensor *y = torc_keep(torc_zeros(TORC_SHAPE(SAMPLES), .dtype = TORC_I64));
    return torc_loader_new(torc_arrays(x, y), .batch_size = BATCH, .endless = true);
}

static void train(torc_module *net, int steps)
{
    torc_optimizer *opt = torc_adamw(net, .lr = 1e-3f);
    torc_loader *loader = batches();
    torc_batch batch;
    for (int i = 0; i < steps && torc_loader_next(loader, &batch); i++) {
        torc_backward(torc_cross_entropy(torc_forward(net, batch.x), batch.y));
        torc_clip_grad_norm(net, 1e-3);
        torc_step(opt);
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Of the middle one of the steps, because a machine may give the core to others in between. */
TEST(lanes_of_the_trainer_add_up_to_the_step)
{
    enum { STEPS = 41 };
    double share[STEPS], told = 0, last = 0;
    int steps = 0;
    torc_module *net = network();
    start_keeping();
    train(net, STEPS);
    torc_profile_stop();
    int64_t count;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        const profile_record *r = all[i];
        if (profile_is_trainers(r->lane))
            told += r->end - r->begin - (double)r->nested;
        if (strcmp(r->name, "torc_step"))
            continue;
        if (last > 0)
            share[steps++] = told / (r->end - last);
        last = r->end;
        told = 0;
    }
    free(all);
    CHECK_INT(steps, STEPS - 1);
    qsort(share, (size_t)steps, sizeof *share, descending);
    CHECK_NEAR(share[steps / 2], 1, 0.02 / 2);
    CHECK(share[0] <= 1 + 1e-6); /* nothing is told twice */
}

/* ---- other threads ---- */

enum { TOLD = 20000 };

/* Its kernels are in no frame of the trainer's; what it tells itself is not lost. */
static void *tell_and_fill(void *of_kernel_output)
{
    for (int i = 0; i < TOLD; i++) {
        profile_span(PROFILE_TRAVEL, profile_bucket(i), "told", i + 1, i + 2);
        kernels_here()->fill(of_kernel_output, 1);
    }
    return NULL;
}

TEST(another_thread_may_tell_spans)
{
    float values[256];
    storage s = {.data = values, .bytes = sizeof values};
    tensor t = {.ndim = 1, .shape = {256}, .stride = {1}, .store = &s};
    torc_tensor *x = torc_keep(numbers(TORC_SHAPE(16)));
    pthread_t thread;
    redirected(); /* a row a span */
    start_keeping();
    CHECK_INT(pthread_create(&thread, NULL, tell_and_fill, &t), 0);
    for (int i = 0; i < TOLD; i++)
        torc_relu(x);
    pthread_join(thread, NULL);
    torc_profile_stop();
    int64_t count, told = 0, own = 0;
    const profile_record **all = profile_records(&count);
    for (int64_t i = 0; i < count; i++) {
        if (all[i]->lane != PROFILE_TRAVEL) {
            CHECK_INT(all[i]->bytes, 2 * 16 * 4);
            own++;
        } else {
            CHECK_INT(all[i]->at.line, told);
            told++;
        }
    }
    free(all);
    CHECK_INT(told, TOLD);
    CHECK_INT(own, TOLD);
}

/* ---- the table ---- */

/* The first line of the file that holds both; false: there is none. */
static bool line_with(const char *path, const char *one, const char *other, char *line, int size)
{
    bool there = false;
    fflush(stderr);
    FILE *f = fopen(path, "r");
    while (f && !there && fgets(line, size, f))
        there = strstr(line, one) && strstr(line, other);
    if (f)
        fclose(f);
    return there;
}

/* More spans than a chunk has room for, so that rows are added up on the way. */
TEST(rows_name_the_line_and_count_calls)
{
    enum { CALLS = 10000 };
    char line[256], at[64];
    const char *path = redirected();
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(16)));
    torc_set_requires_grad(x, true);
    torc_profile_start();
    for (int i = 0; i < CALLS; i++)
        torc_relu(x);
    snprintf(at, sizeof at, "test_profile.c:%d ", __LINE__ - 1);
    torc_backward(torc_sum(torc_relu(x)));
    torc_profile_stop();
    CHECK(line_with(path, "forward           torc_relu ", at, line, sizeof line));
    CHECK(strstr(line, " 10000 "));
    snprintf(at, sizeof at, "test_profile.c:%d ", __LINE__ - 4);
    CHECK(line_with(path, "backward          torc_relu ", at, line, sizeof line));
    CHECK(line_with(path, "exposed communication: 0.00 ms", "", line, sizeof line));
    int64_t count;
    free(profile_records(&count));
    CHECK_INT(count, 0); /* what only the table needed is gone */
}

static double first_number(const char *line, const char *after)
{
    const char *at = strstr(line, after);
    return at ? strtod(at + strlen(after), NULL) : NAN;
}

TEST(rows_are_sorted_by_time_and_floors_are_measured)
{
    char line[256];
    const char *path = redirected();
    torc_module *net = network();
    torc_profile_start();
    train(net, 10);
    torc_profile_stop();
    CHECK(line_with(path, "this machine", "10 steps of", line, sizeof line));
    CHECK(first_number(line, "this machine: ") > 0.1);
    CHECK(first_number(line, "products, ") > 0.1);
    FILE *f = fopen(path, "r");
    double last = INFINITY;
    int rows = 0;
    while (f && fgets(line, sizeof line, f)) {
        double ms;
        if (strlen(line) < 80 || sscanf(line + 69, "%*d %lf", &ms) != 1)
            continue;
        CHECK(ms <= last);
        last = ms;
        rows++;
    }
    if (f)
        fclose(f);
    CHECK(rows > 10);
}

TEST(measuring_the_machine_is_quick)
{
    double began = torc_seconds();
    const profile_limits *most = profile_measure();
    CHECK(torc_seconds() - began < 1); /* 0.1 s where nobody else computes */
    CHECK(most->flops > 1e8 && most->bytes > 1e8);
    began = torc_seconds();
    profile_measure();
    CHECK(torc_seconds() - began < 1e-3); /* once */
}

TEST_DIES(stopping_what_was_not_started_is_refused, 1, "torc_profile_start() comes first")
{
    torc_profile_stop();
}

/* ---- the trace ---- */

static double number_of(json_t *event, const char *key)
{
    return json_number_value(json_object_get(event, key));
}

static bool is_span(json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "ph"));
    return kind && !strcmp(kind, "X");
}

static long long nanoseconds(json_t *event, const char *key)
{
    return llround(1e3 * number_of(event, key));
}

/* In the order of the file spans of a lane begin later and later; each ends before the next begins,
 * or that one is within it. */
static int overlaps(json_t *events, int rank, int lane)
{
    long long end[64];
    int depth = 0, wrong = 0;
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        if (!is_span(e) || number_of(e, "pid") != rank || number_of(e, "tid") != lane)
            continue;
        long long begin = nanoseconds(e, "ts"), its_end = begin + nanoseconds(e, "dur");
        wrong += begin < 0 || its_end < begin;
        while (depth > 0 && end[depth - 1] <= begin)
            depth--;
        wrong += depth > 0 && its_end > end[depth - 1];
        wrong += depth == 64;
        if (depth < 64)
            end[depth++] = its_end;
    }
    return wrong;
}

static int count_spans(json_t *events, int rank, const char *lane, const char *name)
{
    int count = 0;
    size_t i, j;
    json_t *e, *meta;
    json_array_foreach(events, i, meta)
    {
        const char *its = json_string_value(json_object_get(json_object_get(meta, "args"), "name"));
        if (is_span(meta) || number_of(meta, "pid") != rank || !its ||
            strncmp(its, lane, strlen(lane)))
            continue;
        json_array_foreach(events, j, e) if (is_span(e) && number_of(e, "pid") == rank &&
                                             number_of(e, "tid") == number_of(meta, "tid")) count +=
            !strcmp(json_string_value(json_object_get(e, "name")), name);
    }
    return count;
}

/* Begin or end, in seconds, of the n-th barrier of a rank. */
static double barrier(json_t *events, int rank, int n, bool wants_end)
{
    size_t i;
    json_t *e;
    json_array_foreach(
        events, i, e) if (is_span(e) && number_of(e, "pid") == rank &&
                          !strcmp(json_string_value(json_object_get(e, "name")), "torc_barrier") &&
                          n-- == 0) return 1e-6 *
        (number_of(e, "ts") + (wants_end ? number_of(e, "dur") : 0));
    return NAN;
}

enum { STEPS = 5, BARRIERS = 4 };

/* A rank leaves a barrier after the last one has come; on one clock that is so in the trace. */
static void check_clocks(json_t *events, int ranks)
{
    for (int n = 0; n < BARRIERS; n++)
        for (int r = 0; r < ranks; r++) {
            double end = barrier(events, r, n, true);
            double last = barrier(events, n % ranks, n, false);
            CHECK(end >= last - 1e-3);
            CHECK(end - last < 0.5);
        }
}

static void check_rank(json_t *events, int rank, bool several)
{
    static const char *const lanes[] = {"forward", "backward", "optimizer", "loader"};
    static const char *const ops[] = {"torc_linear_op", "torc_linear_op", "torc_step",
                                      "torc_loader_next"};
    static const int each[] = {3, 3, 1, 1};
    for (int i = 0; i < 4; i++)
        CHECK_INT(count_spans(events, rank, lanes[i], ops[i]), STEPS * each[i]);
    CHECK_INT(count_spans(events, rank, "filling batches", "torc_loader_next"), STEPS);
    CHECK_INT(count_spans(events, rank, "waiting for ranks", "torc_barrier"), BARRIERS);
    int under_way = count_spans(events, rank, "buckets under way", "gradient bucket");
    CHECK(!several || (under_way > 0 && under_way % STEPS == 0));
    for (int lane = 0; lane < PROFILE_LANE_COUNT; lane++)
        for (int row = 0; row < 8; row++)
            CHECK_INT(overlaps(events, rank, lane * 1000 + row), 0);
}

static void trace_of_ranks(void)
{
    const char *path = test_path("trace.json");
    setenv("TORC_TRACE", path, 1);
    setenv("TORC_SMALL_LIMITS", "1", 1); /* several buckets */
    torc_init(NULL, NULL);
    int rank = torc_rank(), ranks = torc_world_size();
    train(torc_ddp(network()), STEPS);
    for (int n = 0; n < BARRIERS; n++) {
        if (rank == n % ranks)
            usleep(20000);
        torc_barrier();
    }
    torc_finalize();
    if (rank > 0)
        return;
    json_error_t error;
    json_t *events = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    CHECK(json_is_array(events));
    for (int r = 0; r < ranks; r++)
        check_rank(events, r, ranks > 1);
    check_clocks(events, ranks);
    json_decref(events);
}

TEST(one_rank_writes_its_trace)
{
    trace_of_ranks();
}

TEST_RANKS(ranks_of_a_host_write_one_trace, 2)
{
    trace_of_ranks();
}

TEST_RANKS(ranks_of_several_hosts_write_one_trace, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    trace_of_ranks();
}

/* Collecting must not hide from the watch that a rank has left early. */
TEST_RANKS_DIE(a_rank_that_leaves_early_is_told, 2, 1, "the ranks are not in the same place")
{
    setenv("TORC_TRACE", test_path("trace.json"), 1);
    torc_init(NULL, NULL);
    torc_module *net = torc_ddp(network());
    train(net, STEPS - torc_rank());
    torc_finalize();
}

TEST_RANKS(a_trace_that_cannot_be_written_costs_only_a_warning, 2)
{
    char line[512];
    const char *path = redirected();
    setenv("TORC_TRACE", test_path("no/such/folder/trace.json"), 1);
    torc_init(NULL, NULL);
    int rank = torc_rank();
    torc_barrier();
    torc_finalize();
    CHECK(rank > 0 || line_with(path, "no trace: ", "No such file", line, sizeof line));
}
