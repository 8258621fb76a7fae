/*
 * Two attempts of a job at one directory: the older one is a process that should be dead, and is
 * not.
 */
#include "tests/checkpoint_helpers.h"

typedef struct small {
    torc_module *net;
    torc_optimizer *opt;
} small;

static small small_new(void)
{
    torc_set_threads(1); /* cases fork */
    small s = {.net = torc_linear(3, 3)};
    s.opt = torc_sgd(s.net, .lr = 1);
    return s;
}

static torc_status save(small *s, int64_t step)
{
    s->opt->updates = step;
    torc_checkpoint_options o = {.optimizer = s->opt, .wait = true};
    return torc_try_checkpoint_save(s->net, test_path("ckpt"), o);
}

static torc_status load(small *s, int64_t *step)
{
    torc_checkpoint_options o = {.optimizer = s->opt};
    return torc_try_checkpoint_load(s->net, test_path("ckpt"), o, step);
}

static bool exists(const char *name)
{
    char *path = base_format("ckpt/%s", name);
    bool there = access(test_path(path), F_OK) == 0;
    free(path);
    return there;
}

typedef struct variable {
    const char *name, *value; /* NULL: stays as it is */
} variable;

/* Another process, with these variables: loads, and saves what comes after. Returns the step that
 * it found, -2 where it could not load, -3 where it could not save. */
static int other_with(variable a, variable b, bool saves)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (a.value)
            setenv(a.name, a.value, 1);
        if (b.value)
            setenv(b.name, b.value, 1);
        small s = small_new();
        int64_t step;
        if (load(&s, &step) != TORC_OK)
            _exit(98);
        if (saves && save(&s, step + 1) != TORC_OK)
            _exit(97);
        _exit((int)step);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    int code = WEXITSTATUS(status);
    return code == 255 ? -1 : code >= 97 ? code - 100 : code;
}

static int other(const char *run, const char *attempt, bool saves)
{
    variable number = {"TORC_ATTEMPT", attempt}, launched = {"TORC_LAUNCHED_AT", run};
    return other_with(number, launched, saves);
}

static int slurm_job(const char *job, const char *restarts, bool saves)
{
    return other_with((variable){"SLURM_JOB_ID", job}, (variable){"SLURM_RESTART_COUNT", restarts},
                      saves);
}

TEST(an_older_attempt_writes_no_more)
{
    small s = small_new();
    CHECK_INT(save(&s, 1), TORC_OK);
    CHECK_INT(other(NULL, "1", true), 1);
    CHECK(exists("step-000000002.attempt-1"));
    CHECK_INT(save(&s, 3), TORC_ERR_PEER);
    CHECK(strstr(torc_last_error(), "attempt 1 of the job works here now") != NULL);
    CHECK(!exists("step-000000003.attempt-0") && exists("step-000000001.attempt-0"));
    CHECK_INT(other(NULL, "1", false), 2);
}

/* That it was there is enough: it may be computing its first steps. */
TEST(an_attempt_that_has_loaded_is_the_one)
{
    small s = small_new();
    CHECK_INT(save(&s, 1), TORC_OK);
    CHECK_INT(other(NULL, "4", false), 1);
    CHECK_INT(save(&s, 2), TORC_ERR_PEER);
    CHECK_INT(other(NULL, "3", false), -2);
    CHECK_INT(other(NULL, "4", true), 1);
}

/* Published in the very moment in which the other took over: it sorts behind. */
TEST(a_newer_attempt_comes_before_a_higher_step)
{
    small s = small_new();
    CHECK_INT(save(&s, 1), TORC_OK);
    CHECK_INT(other(NULL, "1", true), 1);
    CHECK(unlink(test_path("ckpt/fence")) == 0);
    CHECK_INT(save(&s, 90), TORC_OK);
    CHECK(exists("step-000000090.attempt-0"));
    CHECK_INT(other(NULL, "1", true), 2);
    CHECK_INT(other(NULL, "2", true), 3);
}

/* A launcher that is started anew counts attempts from 0 again. */
TEST(a_later_run_goes_on)
{
    CHECK_INT(other("1000.5", "0", true), -1);
    CHECK_INT(other("1000.5", "3", true), 0);
    CHECK_INT(other("2000.5", "0", true), 1);
    CHECK_INT(other("2000.5", "1", true), 2);
    CHECK_INT(other(NULL, "0", true), 3); /* by hand */
    CHECK_INT(other(NULL, "0", true), 4);
    CHECK(exists("step-000000005.attempt-6") && exists("step-000000003.attempt-5"));
}

TEST(an_earlier_run_writes_no_more)
{
    small s = small_new();
    setenv("TORC_LAUNCHED_AT", "1000.5", 1);
    setenv("TORC_ATTEMPT", "7", 1);
    CHECK_INT(save(&s, 1), TORC_OK);
    CHECK_INT(other("2000.5", "0", false), 1);
    CHECK_INT(save(&s, 2), TORC_ERR_PEER);
}

/* No launcher of ours there: srun alone, in a job that Slurm puts back into its queue. */
TEST(slurm_counts_where_nobody_else_does)
{
    small s = small_new();
    setenv("SLURM_JOB_ID", "7", 1);
    CHECK_INT(save(&s, 1), TORC_OK);
    CHECK_INT(slurm_job("7", "1", true), 1);
    CHECK(exists("step-000000002.attempt-1"));
    CHECK_INT(save(&s, 3), TORC_ERR_PEER);
    CHECK_INT(slurm_job("8", NULL, true), 2);
    CHECK_INT(slurm_job("8", "2", true), 3);
    CHECK_INT(slurm_job("8", "1", false), -2);
}

/* Who only looks takes nothing from anybody. */
TEST(reading_weights_does_not_fence)
{
    small s = small_new();
    CHECK_INT(save(&s, 1), TORC_OK);
    int status;
    if (fork() == 0) {
        setenv("TORC_ATTEMPT", "5", 1);
        small reader = small_new();
        _exit((int)torc_checkpoint_load(reader.net, test_path("ckpt")));
    }
    CHECK(waitpid(-1, &status, 0) > 0 && WEXITSTATUS(status) == 1);
    CHECK_INT(save(&s, 2), TORC_OK);
}

TEST(a_fence_that_says_nothing)
{
    small s = small_new();
    CHECK_INT(other(NULL, "3", true), -1);
    FILE *f = fopen(test_path("ckpt/fence"), "w");
    fputs("number", f);
    fclose(f);
    CHECK_INT(save(&s, 5), TORC_OK); /* the names tell: attempt 3 was here */
    CHECK(exists("step-000000005.attempt-3"));
}
