/*
 * CUDA graphs: training with them leaves the bits of training without, whatever happens in between,
 * and from the third step on hardly anything is launched by itself.
 *
 * The reference of a case is the same network, trained before graphs are asked for. Captures are
 * real ones on a GPU, and strict ones on the emulated GPU (tests/cuda_emu/graph.cpp).
 */
#include "tests/ddp_helpers.h"

#include "core/cuda/graph.h"
#include "core/storage.h"

#include <fcntl.h>

/* ---- lessons ---- */

/* Dropout and AdamW have arguments that are new in every step; two layers look alike. */
static torc_module *pupil(void)
{
    torc_seed(3);
    return torc_sequential(torc_linear(IN, HIDDEN), torc_layer_norm(HIDDEN), torc_gelu_layer(),
                           torc_dropout(0.3), torc_linear(HIDDEN, HIDDEN), torc_layer_norm(HIDDEN),
                           torc_gelu_layer(), torc_dropout(0.3), torc_linear(HIDDEN, OUT));
}

typedef struct lesson {
    int steps, sizes[40]; /* of the steps' batches, in turns; 0: a full one */
    int parts;            /* backwards a step; 0: one */
    bool looks;           /* at the loss, before it goes backward */
    double clips;
    void (*also)(void); /* done in every step */
} lesson;

static void teach_part(torc_module *net, const lesson *l, int size)
{
    int first = share(torc_rank(), size), end = share(torc_rank() + 1, size);
    torc_tensor *loss =
        torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end));
    CHECK(!l->looks || torc_item(loss) > 0);
    torc_backward(loss);
    torc_tape_clear();
}

static void teach_step(torc_module *net, torc_optimizer *opt, const lesson *l, int step)
{
    int kinds = 0;
    while (l->sizes[kinds])
        kinds++;
    for (int i = 0; i < (l->parts ? l->parts : 1); i++)
        teach_part(net, l, kinds ? l->sizes[step % kinds] : BATCH);
    if (l->also)
        l->also();
    torc_step(opt);
}

/* *late: what happened in the last three steps. */
static torc_module *taught(const lesson *l, bool graph, graph_stats *late)
{
    torc_module *net = torc_ddp(pupil(), .graph = graph);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f, .clip_norm = (float)l->clips);
    graph_stats before = {0};
    for (int i = 0; i < l->steps; i++) {
        if (i == l->steps - 3)
            before = graph_statistics();
        teach_step(net, opt, l, i);
    }
    *late = graph_statistics();
    late->launches -= before.launches;
    late->alone -= before.alone;
    late->graphs -= before.graphs;
    late->captured -= before.captured;
    late->set -= before.set;
    torc_optimizer_free(opt);
    return net;
}

/* Without graphs, then with them; returns what happened in the last three steps with them. */
static graph_stats compare(const lesson *l)
{
    graph_stats none, late;
    torc_module *plain = taught(l, false, &none);
    CHECK_INT(graph_statistics().launches, 0);
    torc_module *net = taught(l, true, &late);
    compare_bits(net, plain);
    return late;
}

/* ---- training ---- */

TEST(the_same_bits_in_graphs)
{
    torc_init(NULL, NULL);
    graph_stats late = compare(&(lesson){.steps = 8});
    CHECK(late.launches > 60 && late.alone * 16 <= late.launches);
    CHECK(late.graphs >= 6);
    CHECK_INT(late.captured, 0);
    /* Of two dropouts, forward and backward, the packs and the rest; and the optimizer's step. */
    CHECK_INT(late.set, 3 * (2 * 2 * 2 + 1));
    CHECK_INT(graph_statistics().failed, 0);
    torc_finalize();
}

/* After the first steps the same addresses come back, and neither torc nor its cache takes more. */
TEST(nothing_is_allocated_after_the_first_steps)
{
    graph_stats late;
    torc_init(NULL, NULL);
    torc_module *net = taught(&(lesson){.steps = 4}, true, &late);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    const lesson one = {.steps = 1};
    for (int i = 0; i < 4; i++)
        teach_step(net, opt, &one, i);
    int64_t allocations = torc_memory().allocations;
    for (int i = 0; i < 4; i++)
        teach_step(net, opt, &one, i);
    CHECK_INT(torc_memory().allocations, allocations);
    torc_finalize();
}

/* The graphs of the usual shape survive the other one. */
TEST(another_shape_in_between)
{
    torc_init(NULL, NULL);
    graph_stats late =
        compare(&(lesson){.steps = 30, .sizes = {BATCH, BATCH, BATCH, BATCH, BATCH, 4}});
    CHECK(late.graphs >= 6); /* by then the other has some too */
    CHECK_INT(late.captured, 0);
    torc_finalize();
}

TEST(every_step_another_shape)
{
    torc_init(NULL, NULL);
    graph_stats late = compare(&(lesson){.steps = 9, .sizes = {2, 3, 4, 5, 6, 7, 8, 9, 10}});
    CHECK(late.alone > late.launches / 2); /* all but the optimizer's, which sees no batch */
    torc_finalize();
}

TEST(the_loss_is_read_in_the_middle)
{
    torc_init(NULL, NULL);
    graph_stats late = compare(&(lesson){.steps = 8, .looks = true});
    CHECK(late.alone * 10 <= late.launches);
    torc_finalize();
}

/* Micro-batches have the same addresses, and so the same graphs. */
TEST(accumulated_gradients)
{
    torc_init(NULL, NULL);
    graph_stats late = compare(&(lesson){.steps = 8, .parts = 9});
    CHECK(late.alone * 10 <= late.launches);
    CHECK_INT(late.captured, 0);
    CHECK(graph_statistics().captured < late.graphs / 3);
    torc_finalize();
}

static torc_module *examined;

static void evaluate(void)
{
    torc_eval(examined);
    for (int i = 0; i < 5; i++)
        TORC_NO_GRAD
        {
            torc_tensor *y = torc_forward(examined, inputs(0, BATCH));
            CHECK(isfinite(torc_item(torc_sum(y))));
            torc_tape_clear();
        }
    torc_train(examined);
}

/* Its batches share one graph, and those of training stay as they are. */
TEST(evaluations_between_steps)
{
    torc_init(NULL, NULL);
    examined = pupil();
    graph_stats late = compare(&(lesson){.steps = 8, .also = evaluate});
    CHECK(late.alone * 6 <= late.launches); /* a batch alone clears what it is put into */
    CHECK(graph_statistics().captured < late.graphs / 2);
    torc_finalize();
}

TEST(clipped_gradients)
{
    torc_init(NULL, NULL);
    graph_stats late = compare(&(lesson){.steps = 8, .clips = 0.1});
    CHECK(late.alone * 10 <= late.launches);
    torc_finalize();
}

/* Room for 16 graphs of 8 launches: those of the first shapes must go for those of the last. */
TEST(the_oldest_graphs_make_room)
{
    start();
    const lesson some = {.steps = 40,
                         .sizes = {3, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5, 7, 7, 7, 7,
                                   7, 7, 7, 7, 9, 9, 9, 9, 9, 9, 9, 9, 2, 2, 2, 2, 2, 2, 2, 2}};
    graph_stats late = compare(&some);
    CHECK(graph_statistics().evicted > 0);
    CHECK(late.graphs > 0);
    torc_finalize();
}

/* ---- several ranks ---- */

static void compare_ranks(const char *own)
{
    setenv("EMU_OWN", own, 1);
    start();
    compare(&(lesson){.steps = 8});
    CHECK(graph_statistics().graphs > 0);
    torc_finalize();
}

TEST_RANKS(two_ranks_over_the_host, 2)
{
    compare_ranks("0");
}

TEST_RANKS(two_ranks_over_nccl, 2)
{
    compare_ranks("1");
}

/* ---- what cannot be captured ---- */

/* Waiting is allowed, but not in a capture. */
static const char *wait_for_all(const void *nothing, cudaStream_t stream)
{
    (void)nothing;
    cudaError_t e = cudaStreamSynchronize(stream);
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

static void wait_among_launches(void)
{
    char *memory[2];
    storage *s = storage_new(128);
    memory[0] = s->data;
    memory[1] = memory[0] + 64;
    for (int i = 0; i < 2; i++) {
        queue_set(memory[0], 0, 64);
        queue_copy(memory[1], memory[0], 64);
    }
    queue_call("waiting", wait_for_all, "12345678", 8);
    cuda_stream(); /* these are a segment */
    storage_release(s);
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

/* What is written to stderr goes to a file; returns the former stderr. */
static int hush(const char *path)
{
    int old = dup(2), file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    dup2(file, 2);
    close(file);
    return old;
}

static const char *heard(const char *path, int old)
{
    static char text[8192];
    dup2(old, 2);
    close(old);
    FILE *f = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

TEST(a_capture_that_fails_is_one_notice)
{
    torc_init(NULL, NULL);
    const lesson l = {.steps = 8, .parts = 2, .also = wait_among_launches};
    graph_stats none, late;
    torc_module *plain = taught(&l, false, &none);
    const char *log = test_path("log");
    int old = hush(log);
    torc_module *net = taught(&l, true, &late);
    const char *text = heard(log, old);
    CHECK_INT(count(text, "without a CUDA graph"), 1);
    CHECK(strstr(text, "captur"));
    compare_bits(net, plain);
    CHECK_INT(graph_statistics().failed, 1); /* it is not tried again */
    CHECK(late.graphs > 0);                  /* the rest is none the worse */
    torc_finalize();
}

TEST_CASE_(the_checking_mode_has_no_graphs, 0, 0, "launches go one by one")
{
    setenv("TORC_CUDA_SYNC", "1", 1);
    graph_stats late;
    torc_init(NULL, NULL);
    taught(&(lesson){.steps = 4}, true, &late);
    CHECK_INT(graph_statistics().launches, 0);
    torc_finalize();
}

/* ---- the queue ---- */

static int first_byte(const storage *s)
{
    unsigned char byte;
    device_cuda.to_host(&byte, s->data, 1);
    return byte;
}

/* What waits has gone out before the host reads, and before memory is given back. */
TEST(the_queue_is_emptied_by_who_comes)
{
    storage *a = storage_new(64), *b = storage_new(64);
    queue_hold(true);
    queue_set(a->data, 1, 64);
    queue_copy(b->data, a->data, 64);
    CHECK_INT(first_byte(b), 1);
    queue_set(a->data, 2, 64);
    device_cuda.fetch(calloc(64, 1), b->data, 64, 0);
    CHECK_INT(graph_statistics().launches, 3);
    storage *gone = storage_new(1 << 12);
    queue_set(gone->data, 3, 64);
    storage_release(gone);
    storage_trim();
    CHECK_INT(graph_statistics().launches, 4);
}

/* So many steps of the same six calls. */
static void six_calls(storage *s, int steps)
{
    for (int i = 0; i < steps; i++) {
        for (int k = 0; k < 6; k++)
            queue_set(s->data, k, 64);
        cuda_stream();
        graph_step_over();
    }
}

TEST(captured_in_the_third_step)
{
    storage *s = storage_new(64);
    queue_hold(true);
    six_calls(s, 2);
    CHECK_INT(graph_statistics().captured, 0);
    CHECK_INT(graph_statistics().alone, 12);
    six_calls(s, 3);
    CHECK_INT(graph_statistics().captured, 1);
    CHECK_INT(graph_statistics().graphs, 3);
    CHECK_INT(graph_statistics().alone, 12);
    CHECK_INT(first_byte(s), 5);
}

/* Calls whose addresses always change are never captured. */
TEST(what_keeps_changing_is_left_alone)
{
    enum { PLACES = 40 };
    storage *s = storage_new(64 * PLACES);
    queue_hold(true);
    for (int step = 0; step < PLACES; step++) {
        for (int i = 0; i < 6; i++)
            queue_set((char *)s->data + 64 * step, step + i, 64);
        cuda_stream();
        graph_step_over();
    }
    CHECK_INT(graph_statistics().captured, 0);
    CHECK_INT(graph_statistics().alone, 6 * PLACES);
    CHECK_INT(first_byte(s), 5);
}

/* ---- the emulated runtime: as strict as a real one ---- */

static cudaStream_t begun(void)
{
    cudaStream_t stream = cuda_stream();
    CHECK_INT(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    return stream;
}

TEST(a_capture_runs_nothing)
{
    storage *s = storage_new(64);
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    queue_set(s->data, 1, 64);
    cudaStream_t stream = begun();
    CHECK_INT(cudaMemsetAsync(s->data, 2, 64, stream), cudaSuccess);
    CHECK_INT(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    CHECK_INT(first_byte(s), 1);
    CHECK_INT(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
    CHECK_INT(first_byte(s), 1);
    CHECK_INT(cudaGraphLaunch(ready, stream), cudaSuccess);
    CHECK_INT(first_byte(s), 2);
    CHECK_INT(cudaGraphExecDestroy(ready), cudaSuccess);
    CHECK_INT(cudaGraphDestroy(graph), cudaSuccess);
}

TEST(a_capture_does_not_wait)
{
    storage *s = storage_new(64);
    cudaGraph_t graph;
    cudaStream_t stream = begun();
    CHECK_INT(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    CHECK_INT(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    CHECK(!graph);
    cudaGetLastError();
    queue_set(s->data, 1, 64); /* and the stream goes on */
    CHECK_INT(first_byte(s), 1);
}
