/*
 * What is particular to MPI: launchers and what they promise, programs with an MPI of their own,
 * errors that MPI reports, and the end of a job.
 */
#include "tests/comm_helpers.h"

#include <unistd.h>

/* ---- promises ---- */

static void check_promise(const char *variable)
{
    comm *c = (comm *)"";
    setenv(variable, "4", 1);
    CHECK_INT(comm_open(&c), TORC_ERR_PEER);
    CHECK(c == NULL);
    CHECK(says("%s promises 4 ranks, but MPI finds 1", variable));
    CHECK(says("srun --mpi=pmix"));
}

TEST(a_promise_of_torcrun_is_checked)
{
    setenv("OMPI_COMM_WORLD_SIZE", "3", 1); /* TORC_WORLD_SIZE is read first */
    check_promise("TORC_WORLD_SIZE");
}

TEST(a_promise_of_mpirun_is_checked)
{
    setenv("SLURM_STEP_NUM_TASKS", "2", 1); /* the step of mpirun's daemons, not of the ranks */
    check_promise("OMPI_COMM_WORLD_SIZE");
}

TEST(a_promise_of_pmi_is_checked)
{
    check_promise("PMI_SIZE");
}

/* Before MPI is started: Open MPI would end the process. */
TEST(a_promise_of_srun_without_pmi_is_checked)
{
    comm *c = NULL;
    setenv("SLURM_STEP_NUM_TASKS", "4", 1);
    CHECK_INT(comm_open(&c), TORC_ERR_PEER);
    CHECK(says("SLURM_STEP_NUM_TASKS promises 4 ranks, but srun gave them nothing"));
    CHECK(says("srun --mpi=pmix"));
    CHECK(!mpi_runs());
}

TEST(a_promise_of_srun_with_pmi_is_checked)
{
    setenv("PMI_RANK", "0", 1);
    check_promise("SLURM_STEP_NUM_TASKS");
}

TEST_RANKS(ranks_that_find_some_but_not_all_know, 2)
{
    setenv("TORC_WORLD_SIZE", "4", 1);
    comm *c = NULL;
    CHECK_INT(comm_open(&c), TORC_ERR_PEER);
    CHECK(says("TORC_WORLD_SIZE promises 4 ranks, but MPI finds 2"));
    MPI_Finalize(); /* comm_open leaves it, so that a program may still abort */
}

/* ---- programs that use MPI themselves ---- */

/* A program's own MPI stays its own: its messages, though of the same tags, and its end. */
TEST_RANKS(a_program_that_started_mpi_keeps_it, 3)
{
    MPI_Init(NULL, NULL);
    int rank, theirs = -1, ours = -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Request early;
    MPI_Irecv(&theirs, 1, MPI_INT, (rank + 2) % 3, MPI_ANY_TAG, MPI_COMM_WORLD, &early);
    comm *c = joined();
    CHECK_INT(comm_rank(c), rank);
    comm_request in = {0}, out = {0};
    int sent = 100 + rank;
    ok(comm_receive(c, &ours, sizeof ours, (rank + 2) % 3, 0, &in));
    ok(comm_send(c, &sent, sizeof sent, (rank + 1) % 3, 0, &out));
    finish(c, &in);
    finish(c, &out);
    CHECK_INT(ours, 100 + (rank + 2) % 3);
    CHECK_INT(theirs, -1);
    comm_close(c);
    CHECK(mpi_runs());
    MPI_Send(&rank, 1, MPI_INT, (rank + 1) % 3, 0, MPI_COMM_WORLD);
    MPI_Wait(&early, MPI_STATUS_IGNORE);
    CHECK_INT(theirs, (rank + 2) % 3);
    MPI_Finalize();
}

TEST_RANKS(joining_after_mpi_ended_is_an_error, 2)
{
    MPI_Init(NULL, NULL);
    MPI_Finalize();
    comm *c = NULL;
    CHECK_INT(comm_open(&c), TORC_ERR_PEER);
    CHECK(says("MPI_Finalize"));
}

/* ---- what MPI reports ---- */

/* More than was asked for is the peer's error, not an overrun. */
TEST_RANKS_DIE(a_longer_transfer_than_expected_is_an_error, 2, 3, "TRUNCATE")
{
    comm *c = joined();
    static char text[64] = "longer";
    comm_request r = {0};
    bool done = false;
    torc_status s =
        comm_rank(c) == 0 ? comm_receive(c, text, 8, 1, 0, &r) : comm_send(c, text, 64, 0, 0, &r);
    while (s == TORC_OK && !done)
        s = comm_test(c, &r, &done);
    if (comm_rank(c) == 0) {
        fprintf(stderr, "%s\n", torc_last_error());
        comm_abort(c, s == TORC_ERR_PEER ? 3 : 1);
    }
    sleep(20);
}

TEST_RANKS_DIE(a_rank_that_never_joins_is_waited_for_until_the_deadline, 2, 3, NULL)
{
    MPI_Init(NULL, NULL);
    setenv("TORC_TIMEOUT", "0.3", 1);
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 1)
        sleep(20);
    comm *c = NULL;
    bool right = comm_open(&c) == TORC_ERR_TIMEOUT && !c;
    right = right && says("rank 0 of 2 waited 0.3 s for the others to join");
    MPI_Abort(MPI_COMM_WORLD, right ? 3 : 1);
}

/* ---- the end ---- */

/* Also run by the case below, which takes the time from the abort to the end of mpirun. */
TEST_RANKS_DIE(abort_gives_its_code, 4, 7, NULL)
{
    comm *c = joined();
    ok(comm_barrier(c, "before"));
    if (comm_rank(c) == 1) {
        FILE *f = fopen(test_path("aborted"), "w");
        fprintf(f, "%.6f", torc_seconds());
        fclose(f);
        comm_abort(c, 7);
        _exit(7);
    }
    sleep(20);
}

/* The ranks are gone after 0.1 s; mpirun itself at times takes a second more. Leaving it to notice
 * a dead rank by itself takes 2.2 s. */
TEST(abort_ends_the_job_at_once)
{
    char program[4096] = "", output[4096];
    CHECK(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    int code =
        test_command(20, output, sizeof output,
                     "mpirun --oversubscribe -n 4 '%s' --here abort_gives_its_code", program);
    double now = torc_seconds(), aborted = 0;
    CHECK_INT(code, 7);
    FILE *f = fopen(test_path("aborted"), "r");
    CHECK(f && fscanf(f, "%lf", &aborted) == 1);
    CHECK(now - aborted < 2);
    if (f)
        fclose(f);
}

TEST_RANKS_DIE(aborts_on_all_ranks_at_once_end_once, 4, 9, NULL)
{
    comm *c = joined();
    ok(comm_barrier(c, "before"));
    comm_abort(c, 9);
}
