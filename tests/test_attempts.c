/* test_attempts -- a job that fails is started again; what it is told to do, it does once. */
#include "core/status.h"
#include "tests/launcher_helpers.h"

#include <signal.h>

/* ---- the program of the ranks ---- */

/* A rank that makes 40 steps, 10 ms each, and keeps their number in a file: what a checkpoint is to
 * a real program. TEST_ATTEMPTS says what it does besides: nothing; "3 7": rank 3 exits with 5
 * before its step 7; "again": it leaves with 75 after SIGUSR1, at the end of a step. */

static volatile sig_atomic_t asked;

static void note(int signal)
{
    (void)signal;
    asked = 1;
}

static int steps_done(const char *path)
{
    int step = 0;
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%d", &step) != 1)
        step = 0;
    if (f)
        fclose(f);
    return step;
}

static void save(const char *path, int step)
{
    char next[128];
    snprintf(next, sizeof next, "%s.next", path);
    FILE *f = fopen(next, "w");
    if (!f || fprintf(f, "%d\n", step) < 0 || fclose(f) != 0 || rename(next, path) != 0)
        _exit(9);
}

__attribute__((constructor)) static void be_a_rank(void)
{
    const char *what = getenv("TEST_ATTEMPTS"), *number = getenv("OMPI_COMM_WORLD_RANK");
    int rank = number ? atoi(number) : 0, who = -1, where = -1;
    char path[64];
    if (!what)
        return;
    sscanf(what, "%d %d", &who, &where);
    if (!strcmp(what, "again"))
        signal(SIGUSR1, note);
    snprintf(path, sizeof path, "steps.%d", rank);
    printf("%d %d %s\n", rank, (int)getpid(), getenv("TORC_ATTEMPT"));
    fflush(stdout);
    status_open();
    for (int step = steps_done(path); step < 40; step++, usleep(10000)) {
        status_set_step(step);
        if (rank == who && step == where)
            _exit(5);
        save(path, step + 1);
        if (asked)
            _exit(75);
    }
    _exit(0);
}

/* torcrun with this very program; its ranks are `TEST_ATTEMPTS`. */
#define SELF "$(readlink /proc/$PPID/exe)"

static void check_all_done(int ranks)
{
    for (int r = 0; r < ranks; r++) {
        char name[32];
        snprintf(name, sizeof name, "steps.%d", r);
        CHECK_INT(steps_done(test_path(name)), 40);
    }
}

/* ---- again after a failure ---- */

TEST(a_killed_rank_is_no_end)
{
    CHECK_INT(run("TEST_ATTEMPTS= torcrun --max-restarts 1 --restart-delay 0 -n 2 " SELF
                  " > up 2>&1 & " UNTIL_UP
                  "sleep 0.1; kill -9 $(sed -n 's/^1 \\(.*\\) 0/\\1/p' up);"
                  " wait $!; c=$?; cat up; exit $c"),
              0);
    CHECK_SAYS("torcrun: rank 1 on host ");
    CHECK_SAYS("was ended by signal 9 (SIGKILL)");
    CHECK_SAYS("torcrun: restarting 2 ranks on 1 host, restart 1 of 1, from the last checkpoint, "
               "in 0 s\n");
    CHECK_INT(count_lines(strstr(output, "restarting")), 3);
    check_all_done(2);
}

/* One more kill than the budget has restarts, each after progress. */
TEST(ten_random_kills)
{
    srand(7);
    for (int i = 0; i < 10; i++) {
        int rank = rand() % 2, ms = 20 + rand() % 300;
        CHECK_INT(run("rm -f steps.* up; export TEST_ATTEMPTS=; torcrun --max-restarts 1 "
                      "--restart-delay 0 -n 2 " SELF " > up 2> said & " UNTIL_UP
                      "sleep 0.%03d; kill -9 $(sed -n 's/^%d \\(.*\\) 0/\\1/p' up); "
                      "wait $!; c=$?; cat said; exit $c",
                      ms, rank),
                  0);
        char expected[64];
        snprintf(expected, sizeof expected, "torcrun: rank %d on host ", rank);
        CHECK_SAYS(expected);
        CHECK_SAYS("restart 1 of 1");
        check_all_done(2);
    }
}

TEST(attempts_have_numbers_and_logs)
{
    CHECK_INT(run("torcrun --max-restarts 2 --restart-delay 0 --log-dir logs -n 2 sh -c "
                  "'echo $TORC_ATTEMPT $TORC_LAUNCHED_AT; [ $TORC_ATTEMPT = 2 ] || [ " RANK
                  " = 0 ]' > said 2>&1; c=$?; "
                  "cat logs/attempt-*/rank-00001.out | cut -d' ' -f1 | tr '\\n' ' '; "
                  "cat logs/attempt-*/rank-*.out | cut -d' ' -f2 | sort -u | wc -l; exit $c"),
              0);
    CHECK_TEXT(output, "0 1 2 1\n");
}

TEST(the_budget_ends)
{
    CHECK_INT(run("torcrun --max-restarts 1 --restart-delay 0 -n 2 sh -c 'exit 3'"), 3);
    CHECK_SAYS("torcrun: not restarted: 1 restart without progress (--max-restarts)\n");
    CHECK_INT(run("torcrun --max-restarts 9 -n 2 ./nothing-of-that-name"), 127);
    CHECK_SAYS_NOT("restarting");
    CHECK_INT(run("torcrun --max-restarts 9 -n 2 true"), 0);
    CHECK_TEXT(output, "");
}

/* Rank 1 never gets beyond step 7, whatever is left of the budget. */
TEST(a_crash_loop_ends)
{
    CHECK_INT(run("TEST_ATTEMPTS='1 7' torcrun --max-restarts 9 --restart-delay 0 -n 2 " SELF), 5);
    CHECK_SAYS("torcrun: rank 1 failed 3 times in a row at step 7: a crash loop, not restarted\n");
}

TEST(progress_refills_the_budget)
{
    CHECK_INT(run("for r in 0 1; do echo 0 > steps.$r; done; torcrun --max-restarts 1 "
                  "--restart-delay 0 -n 2 sh -c 'TEST_ATTEMPTS=\"0 $((6 * TORC_ATTEMPT + 6))\" "
                  "exec %s'",
                  "'" SELF "'"),
              0);
    CHECK_SAYS("restart 1 of 1");
    CHECK_SAYS_NOT("not restarted");
    check_all_done(2);
}

TEST(waiting_is_doubled_and_can_be_ended)
{
    double start = seconds_now();
    CHECK_INT(run("torcrun --max-restarts 2 -n 1 sh -c 'exit 3'"), 3);
    CHECK_SAYS("restart 1 of 2, from the last checkpoint, in 1 s\n");
    CHECK_SAYS("restart 2 of 2, from the last checkpoint, in 2 s\n");
    CHECK(seconds_now() - start > 3);
    start = seconds_now();
    CHECK_INT(run("torcrun --max-restarts 2 --restart-delay 30 -n 1 sh -c 'exit 3' > said 2>&1 & "
                  "until grep -q restarting said; do sleep 0.05; done; kill $!; wait $!"),
              143);
    CHECK_INT(run("torcrun --max-restarts 2 --restart-delay 30 -n 1 sh -c 'exit 3' > told 2>&1 & "
                  "until grep -q restarting told; do sleep 0.05; done; kill -USR1 $!; wait $!"),
              75);
    CHECK(seconds_now() - start < 10);
}

TEST(stdin_goes_on_where_it_was)
{
    CHECK_INT(run("(echo one; sleep 0.5; echo two) | torcrun --max-restarts 1 --restart-delay 0 "
                  "-n 1 sh -c 'read a; echo $TORC_ATTEMPT $a; exit $((1 - TORC_ATTEMPT))'"),
              0);
    CHECK_SAYS("0 one\n");
    CHECK_SAYS("1 two\n");
}

/* ---- leaving together ---- */

TEST(leaving_with_75_is_no_failure)
{
    CHECK_INT(run("torcrun --max-restarts 3 -n 2 sh -c 'exit 75'"), 75);
    CHECK_TEXT(output, "");
    CHECK_INT(run("torcrun -n 2 sh -c '[ " RANK " = 0 ] || exit 75; sleep 0.2'"), 75);
    CHECK_INT(run("torcrun -n 2 sh -c '[ " RANK " = 0 ] && exit 75; sleep 0.3; exit 3'"), 3);
    CHECK_SAYS("torcrun: rank 1 on host ");
}

TEST(usr1_term_and_int_let_the_ranks_save)
{
    static const char *const signals[] = {"USR1", "TERM", "INT"};
    for (int i = 0; i < 3; i++) {
        /* a shell's background job ignores INT; env sets it back */
        CHECK_INT(run("rm -f up steps.*; export TEST_ATTEMPTS=again; "
                      "env --default-signal=INT torcrun -n 2 " SELF " > up 2> said & " UNTIL_UP
                      "sleep 0.05; kill -%s $!; wait $!; c=$?; cat said; exit $c",
                      signals[i]),
                  75);
        CHECK(steps_done(test_path("steps.0")) < 40);
    }
}

TEST(who_does_not_listen_is_ended_as_ever)
{
    CHECK_INT(run("TEST_ATTEMPTS= torcrun -n 2 " SELF " > up & " UNTIL_UP "kill -USR1 $!; wait $!"),
              0); /* nobody dies of it */
    check_all_done(2);
    CHECK_INT(run("rm -f up; torcrun -n 2 sh -c 'echo up; sleep $NAP' > up & " UNTIL_UP
                  "kill -TERM $!; wait $!"),
              143);
    double start = seconds_now(); /* it listens, and does nothing about it */
    CHECK_INT(run("rm -f up; torcrun --grace 1 -n 2 sh -c 'trap \"\" TERM; trap : USR1; echo up; "
                  "while :; do sleep 0.1; done' > up & " UNTIL_UP "kill -TERM $!; wait $!"),
              143);
    CHECK(seconds_now() - start > 1);
    CHECK(seconds_now() - start < 5);
    CHECK_INT(count_naps(), 0);
}

TEST(a_second_int_is_at_once)
{
    double start = seconds_now();
    CHECK_INT(run("env --default-signal=INT torcrun --grace 30 -n 2 sh -c 'trap \"\" TERM; "
                  "trap : USR1; echo up; while :; do sleep 0.1; done' > up & " UNTIL_UP
                  "kill -INT $!; sleep 0.3; kill -INT $!; wait $!"),
              130);
    CHECK(seconds_now() - start < 5);
}

/* The wish comes before the program is ready for it. */
TEST(usr1_is_kept_for_a_program_that_starts)
{
    CHECK_INT(run("torcrun -n 2 sh -c 'echo up; sleep 1; trap \"exit 75\" USR1; "
                  "while :; do sleep 0.1; done' > up & " UNTIL_UP "kill -USR1 $!; wait $!"),
              75);
    CHECK_SAYS("SIGUSR1 is kept until the program catches it");
}

TEST(no_restart_once_the_end_was_wished)
{
    CHECK_INT(run("torcrun --max-restarts 5 -n 2 sh -c 'trap \"exit 4\" USR1; echo up; "
                  "while :; do sleep 0.1; done' > up & " UNTIL_UP "kill -USR1 $!; wait $!"),
              75);
    CHECK_SAYS("not restarted, for SIGUSR1 asked for the end");
}

/* ---- back into the queue ---- */

TEST(requeue)
{
    write_program("scontrol", "#!/bin/sh\necho \"$@\" > queue\nexit ${FAIL:-0}\n");
    CHECK_INT(run("SLURM_JOB_ID=17 torcrun --requeue --backend mpirun -n 2 sh -c 'exit 75'; c=$?; "
                  "cat queue; exit $c"),
              75);
    CHECK_SAYS("requeue 17\n");
    CHECK_INT(run("rm queue; SLURM_JOB_ID=17 torcrun --backend mpirun -n 2 sh -c 'exit 75'; "
                  "SLURM_JOB_ID=17 torcrun --requeue --backend mpirun -n 2 true; ls queue"),
              2); /* there is none */
    CHECK_INT(run("FAIL=1 SLURM_JOB_ID=17 torcrun --requeue --backend mpirun -n 2 sh -c 'exit 75'"),
              75);
    CHECK_SAYS("torcrun: not requeued: scontrol requeue 17 ended with exit code 1");
    CHECK_INT(run("torcrun --requeue -n 2 sh -c 'exit 75'"), 75);
    CHECK_SAYS("torcrun: not requeued: --requeue: this is no job of Slurm's");
}
