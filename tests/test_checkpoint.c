/*
 * Runs that are stopped and resumed against the run that was not, to the bit: kinds of optimizer,
 * ranks, divided state, other numbers of ranks.
 *
 *     whole      0 1 2 3 4 5 6 7 8 9
 *     stopped    0 1 2 3 4 5 | 6 7          what came after the checkpoint is lost
 *     resumed                | 6 7 8 9      from other weights, which the checkpoint replaces
 */
#include "tests/checkpoint_helpers.h"

enum { STOP = 6, LOST = 8, END = 11 }; /* an epoch has 5 batches: all three in different epochs */

static run whole_run(rule kind, bool ddp, torc_ddp_options how, double clip)
{
    run r = run_new(1, kind, ddp, how);
    r.clip = clip;
    run_until(&r, END);
    return r;
}

static void stop(rule kind, bool ddp, torc_ddp_options how, double clip, bool wait)
{
    run r = run_new(1, kind, ddp, how);
    r.clip = clip;
    run_until(&r, STOP);
    torc_checkpoint_save(r.net, test_path("ckpt"), RUN_OPTIONS(r), .wait = wait);
    run_until(&r, LOST);
}

/* The order in which gradients travel is not found anew: sums over hosts depend on it. */
static void check_same_order(const run *a, const run *b)
{
    tape_hook *x = module_hook(a->net), *y = module_hook(b->net);
    int first[64], second[64], n = x ? x->order(x, first) : 0;
    CHECK_INT(y ? y->order(y, second) : 0, n);
    CHECK(!memcmp(first, second, (size_t)n * sizeof *first));
    CHECK(!x || x->wants_squares == y->wants_squares);
}

/* `before`: steps of a life of its own, of which nothing must shine through. */
static void resume_and_compare(const run *whole, rule kind, bool ddp, torc_ddp_options how,
                               int64_t before)
{
    run r = run_new(2, kind, ddp, how);
    r.clip = whole->clip;
    run_until(&r, before);
    CHECK(!same_run(whole, &r));
    CHECK_INT(torc_checkpoint_load(r.net, test_path("ckpt"), RUN_OPTIONS(r)), STOP);
    CHECK_INT(torc_steps(r.opt), STOP);
    CHECK_INT(torc_loader_position(r.loader), STOP);
    check_same_order(whole, &r);
    run_until(&r, END);
    CHECK(same_run(whole, &r));
}

static void check(rule kind, bool ddp, torc_ddp_options how, double clip)
{
    run whole = whole_run(kind, ddp, how, clip);
    stop(kind, ddp, how, clip, false);
    CHECK_INT(torc_checkpoint_flush(), TORC_OK);
    resume_and_compare(&whole, kind, ddp, how, 0);
    resume_and_compare(&whole, kind, ddp, how, 2);
}

/* ---- alone ---- */

TEST(sgd_resumes_to_the_bit)
{
    check(SGD, false, (torc_ddp_options){0}, 0);
}

TEST(adamw_resumes_to_the_bit)
{
    check(ADAMW, false, (torc_ddp_options){0}, 0.1);
}

TEST(nothing_to_load_is_a_start)
{
    run r = run_new(1, ADAMW, false, (torc_ddp_options){0});
    int64_t step = 7;
    CHECK_INT(torc_checkpoint_load(r.net, test_path("none"), RUN_OPTIONS(r)), -1);
    CHECK_INT(torc_try_checkpoint_load(r.net, test_path("none/deep"),
                                       (torc_checkpoint_options){RUN_OPTIONS(r)}, &step),
              TORC_OK);
    CHECK_INT(step, -1);
    torc_checkpoint_save(r.net, test_path("none/deep/er"), RUN_OPTIONS(r), .wait = true);
    CHECK_INT(torc_checkpoint_load(r.net, test_path("none/deep/er"), RUN_OPTIONS(r)), 0);
}

/* Weights of a checkpoint without the rest, as for an evaluation; what is there besides stays. */
TEST(weights_alone)
{
    run a = run_new(1, ADAMW, false, (torc_ddp_options){0});
    run_until(&a, 4);
    torc_checkpoint_save(a.net, test_path("ckpt"), RUN_OPTIONS(a), .wait = true);
    run b = run_new(2, SGD, false, (torc_ddp_options){0});
    CHECK_INT(torc_checkpoint_load(b.net, test_path("ckpt")), 4);
    char x[8192], y[8192];
    size_t n = run_values(&a, x, sizeof x);
    CHECK(run_values(&b, y, sizeof y) == n && !memcmp(x, y, n));
    CHECK_INT(torc_steps(b.opt), 0);
    CHECK_INT(torc_loader_position(b.loader), 0);
    torc_module *c = run_new(3, SGD, false, (torc_ddp_options){0}).net;
    char *file = base_format("%s/step-000000004.attempt-0/weights.safetensors", test_path("ckpt"));
    torc_load(c, file);
    free(file);
}

/* A parameter that only the first steps reached goes on taking part in all that follow. */
TEST(a_parameter_out_of_use_resumes_too)
{
    torc_tensor *weights[2];
    for (int resumed = 0; resumed < 2; resumed++) {
        torc_module *net = torc_sequential(torc_linear(IN, OUT), torc_linear(OUT, OUT));
        torc_module *head = torc_linear(OUT, OUT);
        torc_module *all = torc_sequential(net, head);
        for (int64_t i = 0; i < torc_parameter_count(all); i++)
            torc_init_constant(torc_parameter_at(all, i, NULL), 0.1 * (double)(i + 1));
        torc_optimizer *opt = torc_sgd(all, .lr = 0.1f, .momentum = 0.9f);
        for (int i = 0; i < 4; i++) {
            if (i == 2 && !resumed)
                torc_checkpoint_save(all, test_path("ckpt"), .optimizer = opt, .wait = true);
            if (resumed && i == 0)
                i = (int)torc_checkpoint_load(all, test_path("ckpt"), .optimizer = opt);
            torc_tensor *y = torc_forward(net, inputs(0, BATCH));
            torc_backward(torc_cross_entropy(i < 2 ? torc_forward(head, y) : y, labels(0, BATCH)));
            torc_step(opt);
            torc_tape_clear();
        }
        weights[resumed] = torc_parameter_named(all, "1.weight");
    }
    float a[OUT * OUT], b[OUT * OUT];
    torc_read(weights[0], TORC_F32, a, OUT * OUT);
    torc_read(weights[1], TORC_F32, b, OUT * OUT);
    CHECK(!memcmp(a, b, sizeof a));
}

/* ---- ranks ---- */

static void check_ranks(rule kind, torc_ddp_options how, double clip)
{
    start();
    check(kind, true, how, clip);
    torc_finalize();
}

TEST_RANKS(two_ranks_resume, 2)
{
    check_ranks(SGD, (torc_ddp_options){0}, 0);
}

TEST_RANKS(three_ranks_with_uneven_shares_resume, 3)
{
    check_ranks(ADAMW, (torc_ddp_options){0}, 0);
}

TEST_RANKS(clipped_ranks_resume, 2)
{
    check_ranks(ADAMW, (torc_ddp_options){0}, 0.1);
}

TEST_RANKS(divided_state_resumes, 3)
{
    check_ranks(ADAMW, (torc_ddp_options){.shard_optimizer = true}, 0.1);
}

TEST_RANKS(divided_state_on_two_hosts_resumes, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_ranks(ADAMW, (torc_ddp_options){.shard_optimizer = true}, 0);
}

TEST_RANKS(three_hosts_resume, 3)
{
    setenv("TORC_FAKE_HOSTS", "3", 1);
    setenv("TORC_ALLREDUCE", "ring", 1);
    check_ranks(ADAMW, (torc_ddp_options){0}, 0);
}

TEST_RANKS(virtual_ranks_resume, 2)
{
    check_ranks(ADAMW, (torc_ddp_options){.virtual_ranks = 5}, 0.1);
}

/* ---- other numbers of ranks ---- */

/* Goes on from where the leg before it stopped, up to step RELAY_TO. */
TEST_RANKS(relay_leg, 2)
{
    const char *dir = getenv("RELAY") ? getenv("RELAY") : test_path("ckpt");
    int64_t to = getenv("RELAY_TO") ? atoi(getenv("RELAY_TO")) : 3;
    bool goes_on = access(dir, F_OK) == 0;
    start();
    run r = run_new(goes_on ? 7 : 1, ADAMW, true, (torc_ddp_options){.virtual_ranks = 5});
    torc_checkpoint_load(r.net, dir, RUN_OPTIONS(r));
    run_until(&r, to);
    CHECK_INT(torc_steps(r.opt), to);
    CHECK_INT(torc_loader_position(r.loader), to);
    torc_checkpoint_save(r.net, dir, RUN_OPTIONS(r));
    torc_save(r.net, test_path("end"));
    torc_finalize();
}

static void leg(const char *dir, int ranks, int to)
{
    char output[4096], self[512] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    int code = test_command(50, output, sizeof output,
                            "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                            "OMPI_MCA_pml=ob1 OMPI_MCA_mpi_yield_when_idle=1 RELAY=%s RELAY_TO=%d; "
                            "mpirun --oversubscribe --bind-to none -n %d %s --here relay_leg 2>&1",
                            test_path(dir), to, ranks, self);
    test_check(code == 0, __FILE__, __LINE__, "%d ranks up to step %d: exit code %d\n%s", ranks, to,
               code, output);
}

/* Legs on 3, 1 and 2 ranks, through three epochs, against one run on 2. */
TEST(virtual_ranks_resume_on_any_number_of_ranks)
{
    char output[1024];
    leg("whole", 2, END);
    CHECK(rename(test_path("end"), test_path("whole/end")) == 0);
    leg("relay", 3, 4);
    leg("relay", 1, 7);
    leg("relay", 2, END);
    CHECK_INT(test_command(20, output, sizeof output, "cd %s && cmp end whole/end", test_path(".")),
              0);
}
