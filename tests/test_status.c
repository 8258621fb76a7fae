/*
 * The status: what is written, what another process reads, and what is made of it in words.
 */
#include "core/status.h"
#include "tests/harness.h"

#include "core/torc.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const torc_site here = {"/home/me/train.c", 41};

static bool starts_with(const char *text, const char *with)
{
    bool yes = !strncmp(text, with, strlen(with));
    if (!yes)
        fprintf(stderr, "\"%s\" does not start with \"%s\"\n", text, with);
    return yes;
}

/* ---- writing ---- */

TEST(an_op_leaves_its_name_and_site)
{
    double before = torc_seconds();
    status_op(STATUS_BACKWARD, here, "torc_matmul");
    const status *s = status_here();
    CHECK_TEXT(s->op, "torc_matmul");
    CHECK_TEXT(s->file, "train.c");
    CHECK_INT(s->line, 41);
    CHECK_INT(s->phase, STATUS_BACKWARD);
    CHECK(s->heartbeat > before - 0.1 && s->heartbeat < torc_seconds() + 0.1);
    status_op(STATUS_FORWARD, (torc_site){NULL, 0}, "torc_relu");
    CHECK_TEXT(s->op, "torc_relu");
    CHECK_TEXT(s->file, "");
}

TEST(names_that_are_too_long_are_cut)
{
    char name[200], file[300] = "/a/";
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    memset(file + 3, 'y', sizeof file - 4);
    file[sizeof file - 1] = 0;
    status_op(STATUS_FORWARD, (torc_site){file, 1}, name);
    status_wait(file);
    status_enter(name);
    CHECK_INT(strlen(status_here()->op), STATUS_NAME - 1);
    CHECK_INT(strlen(status_here()->file), STATUS_NAME - 1);
    CHECK_INT(strlen(status_here()->scope), STATUS_NAME - 1);
    CHECK_INT(strlen(status_here()->waits_for), STATUS_TEXT - 1);
}

static int told;

static void count_calls(void *context)
{
    told += *(int *)context;
}

TEST(the_outermost_scope_gives_the_name)
{
    int ten = 10;
    status_on_scope(count_calls, &ten);
    status_enter("saving");
    CHECK_INT(told, 10);
    status_enter("writing");
    CHECK_TEXT(status_here()->scope, "saving");
    status_leave();
    CHECK_TEXT(status_here()->scope, "saving");
    CHECK_INT(told, 10);
    status_leave();
    CHECK_TEXT(status_here()->scope, "");
    CHECK_INT(told, 20);
}

TEST_DIES(leaving_no_scope_is_a_bug, 134, "a scope is left that was not entered")
{
    status_leave();
}

/* ---- reading ---- */

/* A process that writes its status, and stays until it is killed. What it wrote before there was a
 * file goes with it. The descriptor is the next that is free: the parent's too. */
static int writer(void)
{
    int pid = fork();
    if (pid == 0) {
        status_op(STATUS_OPTIMIZER, here, "torc_step");
        status_count_step(100);
        status_open();
        status_count_step(100);
        status_count_batch();
        status_wait("in collective 7");
        pause();
        _exit(1);
    }
    return pid;
}

TEST(another_process_reads_it_until_it_is_gone)
{
    int fd = dup(0), pid;
    close(fd);
    pid = writer();
    status s = {.waits_for = ""};
    double end = torc_seconds() + 10;
    while (!(status_read_of(pid, fd, &s) && s.waits_for[0]) && torc_seconds() < end)
        usleep(1000);
    CHECK_INT(s.pid, pid);
    CHECK_INT(s.step, 2);
    CHECK_INT(s.batches, 1);
    CHECK_TEXT(s.op, "torc_step");
    CHECK_TEXT(s.waits_for, "in collective 7");
    CHECK(!status_read_of(pid, fd + 1, &s));
    CHECK(!status_read_of(pid, -1, &s));
    CHECK(!status_read_of(getpid(), fd, &s));
    kill(pid, SIGKILL);
    while (status_read_of(pid, fd, &s) && torc_seconds() < end)
        usleep(1000);
    CHECK(torc_seconds() < end);
}

TEST(opening_twice_is_opening_once)
{
    int fd = status_open();
    CHECK(fd >= 0);
    CHECK_INT(status_open(), fd);
}

TEST(a_file_can_be_asked_for)
{
    const char *path = test_path("status");
    setenv("TORC_STATUS_FILE", path, 1);
    status s;
    struct stat info;
    CHECK(!status_read(path, &s));
    CHECK(status_open() >= 0);
    status_op(STATUS_LOADER, here, "torc_loader_next");
    CHECK(status_read(path, &s));
    CHECK_INT(s.layout, STATUS_LAYOUT);
    CHECK_INT(s.pid, getpid());
    CHECK_TEXT(s.op, "torc_loader_next");
    CHECK_INT(stat(path, &info), 0);
    CHECK_INT(info.st_size, sizeof(status));
    CHECK(status_read_of(getpid(), status_open(), &s));
}

/* A path that cannot be is no reason not to train: the status is kept, and nobody reads it. */
TEST(a_path_that_cannot_be_is_no_reason_to_stop)
{
    setenv("TORC_STATUS_FILE", "/nowhere/at/all", 1);
    CHECK_INT(status_open(), -1);
    status_count_step(100);
    CHECK_INT(status_here()->step, 1);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    CHECK(write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

/* Cut short, of another layout, and full of bytes without an end. */
TEST(what_is_no_status_is_not_read)
{
    const char *path = test_path("status");
    status s, torn;
    memset(&torn, 'x', sizeof torn);
    write_file(path, &torn, sizeof torn);
    CHECK(!status_read(path, &s));
    torn.layout = STATUS_LAYOUT;
    write_file(path, &torn, sizeof torn - 1);
    CHECK(!status_read(path, &s));
    write_file(path, &torn, sizeof torn);
    CHECK(status_read(path, &s));
    CHECK_INT(strlen(s.op), STATUS_NAME - 1);
    CHECK_INT(strlen(s.waits_for), STATUS_TEXT - 1);
    char text[64];
    status_in_words(&s, text, sizeof text); /* a phase that is none, and no room */
    CHECK_INT(strlen(text), sizeof text - 1);
}

/* ---- words ---- */

TEST(the_words)
{
    char text[600];
    status s = {.step = 12, .heartbeat = torc_seconds() - 3.2};
    status_in_words(&s, text, sizeof text);
    CHECK(starts_with(text, "step 12, 3.2 s ago"));
    s.phase = STATUS_BACKWARD;
    s.line = 41;
    strcpy(s.op, "torc_matmul");
    strcpy(s.file, "train.c");
    status_in_words(&s, text, sizeof text);
    CHECK(starts_with(text, "step 12, backward of torc_matmul at train.c:41, 3.2 s ago"));
    strcpy(s.scope, "saving");
    strcpy(s.waits_for, "in collective 7");
    s.phase = STATUS_IDLE;
    status_in_words(&s, text, sizeof text);
    CHECK(
        starts_with(text, "step 12, saving, torc_matmul at train.c:41, waiting in collective 7, "));
}

/* ---- who writes ---- */

/* Two ops forward, two backward, an update, a batch: and whole batches do not count. */
TEST(training_leaves_its_trace)
{
    int argc = 0;
    char **argv = NULL;
    torc_init(TORC_HERE, &argc, &argv);
    torc_tensor_options one_to_four = {.data = (float[]){1, 2, 3, 4}};
    torc_dataset *data =
        torc_arrays(TORC_HERE, torc_tensor_new(TORC_HERE, TORC_SHAPE(4, 1), one_to_four), NULL);
    torc_loader *shares = torc_loader_new(TORC_HERE, data, (torc_loader_options){.batch_size = 2});
    torc_loader *whole =
        torc_loader_new(TORC_HERE, data, (torc_loader_options){.batch_size = 2, .whole = true});
    torc_module *net = torc_linear(TORC_HERE, 1, 1, (torc_linear_options){0});
    torc_optimizer *o = torc_sgd(TORC_HERE, net, (torc_sgd_options){.lr = 0.1f});
    const status *s = status_here();
    torc_batch batch;
    CHECK(torc_loader_next(TORC_HERE, whole, &batch));
    CHECK_INT(s->batches, 0);
    CHECK(torc_loader_next(TORC_HERE, shares, &batch));
    CHECK_INT(s->batches, 1);
    CHECK_INT(s->phase, STATUS_LOADER);
    torc_tensor *y = torc_forward(TORC_HERE, net, batch.x);
    torc_tensor *loss = torc_mse_loss((torc_site){"train.c", 7}, y, batch.x);
    CHECK_INT(s->phase, STATUS_FORWARD);
    CHECK_INT(s->line, 7);
    CHECK_INT(s->losses, 0); /* nobody has read it, and nobody reads it for this */
    torc_tensor *sum = torc_sum(TORC_HERE, batch.x, (torc_reduce_options){0});
    torc_item(TORC_HERE, sum); /* no gradient comes from it */
    CHECK_INT(s->losses, 0);
    torc_item(TORC_HERE, loss);
    CHECK_INT(s->losses, 1);
    torc_backward((torc_site){"train.c", 8}, loss);
    CHECK_NEAR(s->loss, torc_item(TORC_HERE, loss), 0);
    CHECK_INT(s->losses, 2);
    CHECK_TEXT(s->op, "torc_backward");
    CHECK_INT(s->line, 8);
    torc_step((torc_site){"train.c", 9}, o);
    CHECK_INT(s->phase, STATUS_OPTIMIZER);
    CHECK_INT(s->step, 1);
    CHECK(s->stepped_at > 0 && s->stepped_at <= torc_seconds());
    CHECK_INT(s->bytes, torc_memory().peak_bytes);
    torc_finalize((torc_site){"train.c", 10});
    CHECK_TEXT(s->op, "torc_finalize");
}

TEST(what_was_waited_is_told_with_the_step)
{
    status_waited(0.5);
    CHECK_NEAR(status_here()->waited, 0, 0);
    status_count_step(100);
    status_waited(0.25);
    CHECK_NEAR(status_here()->waited, 0.5, 0);
    status_count_step(200);
    CHECK_NEAR(status_here()->waited, 0.75, 0);
    CHECK_INT(status_here()->bytes, 200);
}

/* Some ten nanoseconds an op: bounded here far above that, for a busy machine. */
TEST(writing_is_cheap)
{
    static const char *const ops[] = {"torc_matmul", "torc_add"};
    enum { N = 1000000 };
    status_open();
    double start = torc_seconds();
    for (int i = 0; i < N; i++)
        status_op(STATUS_FORWARD, here, ops[i % 2]);
    double nanoseconds = (torc_seconds() - start) / N * 1e9;
    printf("an op takes %.1f ns\n", nanoseconds);
    CHECK(nanoseconds < 500);
}
