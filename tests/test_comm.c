/*
 * Joining, leaving, waiting: who is found, what arrives in which order, and what is said when
 * somebody is missing or elsewhere.
 */
#include "tests/comm_helpers.h"

#include <signal.h>
#include <unistd.h>

/* ---- alone ---- */

static void check_alone(void)
{
    comm *c = joined();
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    CHECK_TEXT(comm_backend_name(c), "self");
    CHECK_INT(comm_rank(c), 0);
    CHECK_INT(comm_size(c), 1);
    CHECK_INT(comm_local_rank(c), 0);
    CHECK_INT(comm_local_size(c), 1);
    CHECK_TEXT(comm_host(c, 0), host);
    CHECK_INT(comm_pid(c, 0), getpid());
    CHECK(comm_cores(c) >= 1);
    CHECK(!mpi_runs());
    comm_close(c);
}

TEST(alone_without_mpi)
{
    check_alone();
}

/* The shell of an sbatch script, and a step of one task. */
TEST(slurm_without_a_step_of_several_is_alone)
{
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_NTASKS", "4", 1);
    setenv("SLURM_PROCID", "0", 1);
    check_alone();
    setenv("SLURM_STEP_ID", "0", 1);
    setenv("SLURM_STEP_NUM_TASKS", "1", 1);
    setenv("PMIX_RANK", "0", 1);
    check_alone();
}

TEST(alone_twice)
{
    check_alone();
    check_alone();
    comm_close(NULL);
}

/* ---- who is who ---- */

TEST_RANKS(everybody_is_found, 4)
{
    comm *c = joined();
    int mine[2] = {comm_rank(c), getpid()}, all[4][2];
    CHECK_TEXT(comm_backend_name(c), "mpi");
    CHECK_INT(comm_rank(c), atoi(getenv("OMPI_COMM_WORLD_RANK")));
    CHECK_INT(comm_size(c), 4);
    CHECK_INT(comm_local_rank(c), comm_rank(c));
    CHECK_INT(comm_local_size(c), 4);
    ok(comm_allgather(c, mine, all, sizeof mine, "pids"));
    for (int r = 0; r < 4; r++) {
        CHECK_INT(all[r][0], r);
        CHECK_INT(comm_pid(c, r), all[r][1]);
        CHECK_TEXT(comm_host(c, r), comm_host(c, 0));
    }
    comm_close(c);
    CHECK(!mpi_runs());
}

/* ---- point to point ---- */

/* Rank 0 sends n numbers with each of two tags; rank 1 takes the second tag's first. */
TEST_RANKS(transfers_of_a_tag_arrive_in_order, 2)
{
    enum { N = 200 };
    static int numbers[2][N];
    static comm_request r[2][N];
    comm *c = joined();
    for (int k = 0; k < 2 * N; k++) {
        int tag = comm_rank(c) == 0 ? k % 2 : k < N, i = comm_rank(c) == 0 ? k / 2 : k % N;
        int *number = &numbers[tag][i];
        *number = comm_rank(c) == 0 ? tag * 1000 + i : -1;
        ok(comm_rank(c) == 0 ? comm_send(c, number, sizeof *number, 1, tag * 32767, &r[tag][i])
                             : comm_receive(c, number, sizeof *number, 0, tag * 32767, &r[tag][i]));
    }
    for (int k = 0; k < 2 * N; k++)
        finish(c, &r[k % 2][k / 2]);
    for (int k = 0; k < 2 * N; k++)
        CHECK_INT(numbers[k % 2][k / 2], k % 2 * 1000 + k / 2);
    comm_close(c);
}

/* Long, empty, and in both directions at once round a ring; collectives go on in between. */
TEST_RANKS(transfers_of_any_length_and_collectives_do_not_mix, 3)
{
    static const size_t lengths[] = {0, 1, 4095, 65537, 5000001};
    static unsigned char from[5000001], to[5000001];
    comm *c = joined();
    int left = (comm_rank(c) + 2) % 3, right = (comm_rank(c) + 1) % 3;
    for (int l = 0; l < ARRAY_LENGTH(lengths); l++) {
        comm_request in = {0}, out = {0};
        memset(to, comm_rank(c) + 10 * l, sizeof to);
        memset(from, 255, sizeof from);
        ok(comm_receive(c, from, lengths[l], left, 0, &in));
        ok(comm_barrier(c, "all receive"));
        ok(comm_send(c, to, lengths[l], right, 0, &out));
        int sum = 1;
        ok(comm_allreduce(c, &sum, 1, TORC_I32, COMM_SUM, "in between"));
        CHECK_INT(sum, 3);
        finish(c, &in);
        finish(c, &out);
        size_t wrong = 0;
        for (size_t i = 0; i < sizeof from; i++)
            wrong += from[i] != (i < lengths[l] ? left + 10 * l : 255);
        CHECK_INT(wrong, 0);
    }
    comm_close(c);
}

TEST_RANKS(an_idle_request_has_arrived_and_a_posted_one_has_not, 2)
{
    comm *c = joined();
    comm_request r = {0};
    bool done = false;
    ok(comm_test(c, &r, &done));
    CHECK(done);
    int x = 0, other = 1 - comm_rank(c);
    if (comm_rank(c) == 0) {
        ok(comm_receive(c, &x, sizeof x, 1, 3, &r));
        ok(comm_test(c, &r, &done));
        CHECK(!done); /* rank 1 sends after the barrier only */
    }
    ok(comm_barrier(c, "posted"));
    if (comm_rank(c) == 1)
        ok(comm_send(c, &other, sizeof other, 0, 3, &r));
    finish(c, &r);
    CHECK(r.handle == NULL);
    comm_close(c);
}

TEST_DIES(a_transfer_with_oneself_is_a_bug, 134, "no transfer with rank 0")
{
    comm_request r = {0};
    comm_send(joined(), "", 1, 0, 0, &r);
}

/* ---- deadlines ---- */

/* Rank 2 of 4 stays away. The others must all say so, within a moment of the deadline. */
TEST_RANKS_DIE(a_late_rank_is_named, 4, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.6", 1);
    comm *c = joined();
    ok(comm_barrier(c, "before"));
    if (comm_rank(c) == 2) {
        sleep(20);
        _exit(1);
    }
    double start = torc_seconds();
    torc_status s = comm_barrier(c, "epoch");
    double waited = torc_seconds() - start;
    bool right = s == TORC_ERR_TIMEOUT && waited > 0.59 && waited < 5;
    right = right && says("collective 3, barrier \"epoch\": rank %d (%s, pid %d) waited 0.6 s for "
                          "rank 2 (%s, pid %d), last seen in collective 2, barrier \"before\"",
                          comm_rank(c), comm_host(c, comm_rank(c)), getpid(), comm_host(c, 2),
                          comm_pid(c, 2));
    right = right && comm_barrier(c, "after") == TORC_ERR_PEER;
    right = right && says("collective 4, barrier \"after\"") && says("epoch\" failed");
    if (!right)
        comm_abort(c, 1);
    usleep(300000); /* let the others find their mistakes, if any */
    comm_abort(c, 3);
}

/* All but rank 0 are away: each is named with where it was. */
TEST_RANKS_DIE(several_late_ranks_are_named, 4, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.3", 1);
    comm *c = joined();
    if (comm_rank(c) > 0)
        sleep(20);
    bool right = comm_barrier(c, "epoch") == TORC_ERR_TIMEOUT;
    for (int r = 1; r < 4; r++)
        right = right && says("rank %d (%s, pid %d), last seen in collective 1, allgather \"join\"",
                              r, comm_host(c, r), comm_pid(c, r));
    comm_abort(c, right ? 3 : 1);
}

/* Eight are named, the others counted. */
TEST_RANKS_DIE(many_late_ranks_are_counted, 12, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.5", 1);
    comm *c = joined();
    if (comm_rank(c) > 0)
        sleep(20);
    bool right = comm_barrier(c, "epoch") == TORC_ERR_TIMEOUT;
    right = right && says("rank 8 (%s, pid %d)", comm_host(c, 8), comm_pid(c, 8));
    right = right && !strstr(torc_last_error(), "rank 9") && says("; and 3 more ranks");
    comm_abort(c, right ? 3 : 1);
}

/* Rank 1 stops in the middle of a long broadcast that it has entered. */
TEST_RANKS_DIE(a_rank_that_stops_sending_is_named, 2, 3, "which has entered it but sends no data")
{
    setenv("TORC_TIMEOUT", "0.5", 1);
    comm *c = joined();
    size_t bytes = (size_t)1 << 30;
    char *b = calloc(1, bytes);
    ok(comm_barrier(c, "before"));
    if (comm_rank(c) == 1 && fork() == 0) {
        usleep(100000);
        kill(getppid(), SIGSTOP);
        sleep(5);
        kill(getppid(), SIGKILL);
        _exit(0);
    }
    torc_status s = TORC_OK;
    for (int i = 0; i < 100 && s == TORC_OK; i++)
        s = comm_broadcast(c, b, bytes, 0, "long");
    bool right = s == TORC_ERR_TIMEOUT && says("for rank 1 (") && says("broadcast \"long\"");
    fprintf(stderr, "%s\n", torc_last_error());
    comm_abort(c, right ? 3 : 1);
}

/* ---- ranks that are elsewhere ---- */

TEST_RANKS_DIE(ranks_in_different_collectives_know_at_once, 3, 3, NULL)
{
    comm *c = joined();
    int x = 42, y = 43;
    double start = torc_seconds();
    torc_status s = comm_rank(c) == 1 ? comm_broadcast(c, &x, sizeof x, 0, "weights")
                                      : comm_allreduce(c, &y, 1, TORC_I32, COMM_MAX, "loss");
    bool right = s == TORC_ERR_PEER && x == 42 && y == 43 && torc_seconds() - start < 5;
    right = right && says("in collective 2, broadcast \"weights\" (4 bytes from rank 0)");
    right = right && says("in collective 2, allreduce \"loss\" (max of 1 x i32)");
    right = right && comm_barrier(c, "after") == TORC_ERR_PEER;
    if (!right)
        comm_abort(c, 1);
    usleep(300000);
    comm_abort(c, 3);
}

/* Each field of what they agree on by itself. */
static torc_status odd_one(comm *c, int what, bool odd)
{
    static double b[16], mine[16];
    switch (what) {
    case 0:
        return comm_allreduce(c, b, odd ? 2 : 3, TORC_F64, COMM_SUM, "x");
    case 1:
        return comm_allreduce(c, b, 2, odd ? TORC_F32 : TORC_F64, COMM_SUM, "x");
    case 2:
        return comm_allreduce(c, b, 2, TORC_F64, odd ? COMM_SUM : COMM_MIN, "x");
    case 3:
        return comm_broadcast(c, b, 8, odd, "x");
    case 4:
        return comm_reduce_scatter(c, b, mine, odd, TORC_F64, COMM_SUM, "x");
    default:
        return comm_barrier(c, odd ? "x" : "y");
    }
}

/* A disagreement leaves nothing under way, so the test may mend the communicator and go on. */
TEST_RANKS(every_field_must_agree, 2)
{
    comm *c = joined();
    for (int what = 0; what <= 5; what++) {
        CHECK_INT(odd_one(c, what, comm_rank(c) == 1), TORC_ERR_PEER);
        CHECK(says("same collective"));
        c->broken = false;
    }
    comm_close(c);
}

/* ---- leaving ---- */

/* A rank that leaves before the others is no reason to wait for ever. */
TEST_RANKS_DIE(leaving_alone_is_a_warning, 2, 3,
               "leaving without the others: collective 2, barrier")
{
    setenv("TORC_TIMEOUT", "0.3", 1);
    comm *c = joined();
    if (comm_rank(c) == 1)
        sleep(20);
    comm_close(c);
    MPI_Abort(MPI_COMM_WORLD, mpi_runs() ? 3 : 1); /* MPI was left as it is */
}
