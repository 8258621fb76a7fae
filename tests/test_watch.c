/*
 * Ranks that wait for each other in different places, ranks that are merely slow, and ranks that do
 * something long: who is told what, and when.
 *
 * Cases that break the communicator end by comm_abort with code 3, which only comes when all that
 * was checked before is right.
 */
#include "tests/comm_helpers.h"

#include "comm/watch.h"

#include <unistd.h>

/* A transfer of allreduce/ as the watch sees it: a number, and ranks that have not started it. */
typedef struct transfer {
    const comm *c;
    const char *name;
} transfer;

static void describe(const void *of, char *text, size_t size)
{
    snprintf(text, size, "%s, at train.c:41", ((const transfer *)of)->name);
}

static void all_missing(const void *of, bool *missing)
{
    for (int r = 0; r < ((const transfer *)of)->c->size; r++)
        missing[r] = true;
}

/* Starts the next transfer and waits for it, which nothing but an error ends. */
static torc_status wait_for_transfer(comm *c, const char *name)
{
    const transfer t = {c, name};
    const comm_awaited a = {COMM_IN_TRANSFER, comm_number_transfer(c), describe, all_missing, &t};
    comm_watch w = comm_watch_start(c);
    torc_status s = TORC_OK;
    while (s == TORC_OK)
        s = comm_watch_turn(&w, &a);
    comm_watch_end(&w);
    return s;
}

/* All ranks of a case come here; the code of the job is 3 only if none of them found fault. */
static _Noreturn void end_case(comm *c, bool right)
{
    if (!right) {
        fprintf(stderr, "rank %d: \"%s\"\n", comm_rank(c), torc_last_error());
        comm_abort(c, 1);
    }
    usleep(300000); /* let the others find their mistakes, if any */
    comm_abort(c, 3);
    _exit(1);
}

/* A second of quiet is long for a test: a fifth of it where the second itself does not matter. */
static comm *joined_in_haste(void)
{
    comm *c = joined();
    c->quiet /= 5;
    return c;
}

/* ---- ranks that can never meet ---- */

static bool names_both(comm *c, torc_status s, double began, int in_collective, int in_transfer)
{
    bool right = s == TORC_ERR_PEER && torc_seconds() - began < 2.5;
    right = right && says("not in the same place: rank %d (%s, pid %d) is in collective 3, barrier "
                          "\"leave\", at main.c:50, batch 7",
                          in_collective, comm_host(c, in_collective), comm_pid(c, in_collective));
    return right && says("rank %d (%s, pid %d) waits for bucket 0, at train.c:41, batch 8",
                         in_transfer, comm_host(c, in_transfer), comm_pid(c, in_transfer));
}

/* Rank 1 waits for a transfer; rank 0 never starts it and enters a collective. */
TEST_RANKS_DIE(a_collective_and_a_transfer_never_meet, 2, 3, NULL)
{
    comm *c = joined_in_haste();
    ok(comm_barrier(c, "before"));
    for (int batch = 0; batch < 7 + comm_rank(c); batch++)
        status_count_batch();
    double began = torc_seconds();
    status_op(STATUS_IDLE, (torc_site){"src/main.c", 50}, "torc_finalize");
    torc_status s = comm_rank(c) == 0 ? comm_barrier(c, "leave") : wait_for_transfer(c, "bucket 0");
    end_case(c, names_both(c, s, began, 0, 1));
}

/* With a third rank: it waits with rank 0 in the collective, and is told about either of the two
 * and rank 2, whichever letter came first. */
TEST_RANKS_DIE(a_third_rank_is_told_as_well, 3, 3, NULL)
{
    comm *c = joined_in_haste();
    ok(comm_barrier(c, "before"));
    for (int batch = 0; batch < 7 + (comm_rank(c) == 2); batch++)
        status_count_batch();
    double began = torc_seconds();
    status_op(STATUS_IDLE, (torc_site){"main.c", 50}, "torc_finalize");
    torc_status s = comm_rank(c) < 2 ? comm_barrier(c, "leave") : wait_for_transfer(c, "bucket 0");
    end_case(c, names_both(c, s, began, 0, 2) || names_both(c, s, began, 1, 2));
}

/* Rank 2 computes on: the two that can never meet do not wait for it. */
TEST_RANKS_DIE(a_busy_third_rank_does_not_hide_two, 3, 3, NULL)
{
    comm *c = joined_in_haste();
    ok(comm_barrier(c, "before"));
    if (comm_rank(c) == 2)
        sleep(20);
    for (int batch = 0; batch < 7 + comm_rank(c); batch++)
        status_count_batch();
    double began = torc_seconds();
    status_op(STATUS_IDLE, (torc_site){"main.c", 50}, "torc_finalize");
    torc_status s = comm_rank(c) == 0 ? comm_barrier(c, "leave") : wait_for_transfer(c, "bucket 0");
    end_case(c, names_both(c, s, began, 0, 1));
}

/* The same within the collectives: rank 1 has skipped one, rank 2 is busy. */
TEST_RANKS_DIE(two_different_collectives_are_told_without_the_third, 3, 3, NULL)
{
    comm *c = joined_in_haste();
    if (comm_rank(c) == 2)
        sleep(20);
    double began = torc_seconds();
    torc_status s = comm_barrier(c, comm_rank(c) == 0 ? "loss" : "epoch");
    bool right = s == TORC_ERR_PEER && torc_seconds() - began < 2.5;
    right = right && says("collective 2, barrier \"loss\"");
    end_case(c, right && says("collective 2, barrier \"epoch\""));
}

/* ---- ranks that are slow ---- */

/* One rank computes while the others wait and tell so, and then another. */
TEST_RANKS(a_slow_rank_is_no_mistake, 3)
{
    comm *c = joined_in_haste();
    for (int round = 0; round < 2; round++) {
        if (comm_rank(c) == round)
            usleep(700000);
        ok(comm_barrier(c, "round"));
    }
    comm_close(c);
}

/* Rank 1 waits for a transfer that rank 0 starts late, three collectives later; rank 2 is in the
 * first of them. All numbers are apart, and nobody waits for somebody who waits for it. */
TEST_RANKS(ranks_far_apart_are_no_mistake, 2)
{
    comm *c = joined_in_haste();
    int token = 0;
    comm_request r = {NULL};
    uint64_t first = comm_number_transfer(c);
    if (comm_rank(c) == 0) {
        usleep(700000);
        ok(comm_send(c, &token, sizeof token, 1, 0, &r));
        ok(comm_barrier(c, "leave"));
    } else { /* has started two transfers more, and waits for the one that rank 0 has started */
        const transfer t = {c, "bucket 0"};
        const comm_awaited a = {COMM_IN_TRANSFER, first, describe, all_missing, &t};
        comm_watch w = comm_watch_start(c);
        bool done = false;
        comm_number_transfer(c);
        comm_number_transfer(c);
        ok(comm_receive(c, &token, sizeof token, 0, 0, &r));
        for (torc_status s = TORC_OK; s == TORC_OK && !done;) {
            s = comm_test(c, &r, &done);
            if (s == TORC_OK && !done)
                s = comm_watch_turn(&w, &a);
            ok(s);
        }
        comm_watch_end(&w);
        usleep(700000);
        ok(comm_barrier(c, "leave"));
    }
    finish(c, &r);
    comm_close(c);
}

/* ---- deadlines ---- */

TEST_RANKS_DIE(a_missing_rank_is_described_by_its_status, 2, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.5", 1);
    comm *c = joined();
    if (comm_rank(c) == 1) {
        status_op(STATUS_BACKWARD, (torc_site){"/home/me/train.c", 41}, "torc_matmul");
        sleep(20);
    }
    torc_status s = wait_for_transfer(c, "bucket 0");
    bool right = s == TORC_ERR_TIMEOUT;
    right = right && says("bucket 0, at train.c:41: rank 0 (%s, pid %d) waited 0.5 s for rank 1",
                          comm_host(c, 0), getpid());
    right = right && says("(%s, pid %d), last seen in step 0, backward of torc_matmul at "
                          "train.c:41, 0.",
                          comm_host(c, 1), comm_pid(c, 1));
    end_case(c, right);
}

/* What cannot be read is asked for no more: another host. */
TEST_RANKS_DIE(a_rank_of_another_host_is_described_by_its_letters, 2, 3, NULL)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    setenv("TORC_TIMEOUT", "1.5", 1);
    comm *c = joined_in_haste();
    if (comm_rank(c) == 1) {
        const transfer t = {c, "bucket 7"};
        uint64_t number = comm_number_transfer(c);
        const comm_awaited a = {COMM_IN_TRANSFER, number, describe, all_missing, &t};
        comm_watch w = comm_watch_start(c);
        for (double end = torc_seconds() + 0.7; torc_seconds() < end;)
            ok(comm_watch_turn(&w, &a));
        comm_watch_end(&w);
        sleep(20);
    }
    torc_status s = wait_for_transfer(c, "bucket 7");
    end_case(c, s == TORC_ERR_TIMEOUT && says("last seen waiting for bucket 7, at train.c:41, "));
}

/* ---- long scopes ---- */

static void save_for(comm *c, double seconds)
{
    if (comm_rank(c) == 0) {
        status_enter("saving");
        usleep((useconds_t)(1e6 * seconds));
        status_leave();
    }
}

/* Rank 0 saves for three deadlines. */
TEST_RANKS(a_rank_that_saves_is_waited_for, 2)
{
    setenv("TORC_TIMEOUT", "0.5", 1);
    comm *c = joined();
    save_for(c, 1.2);
    ok(comm_barrier(c, "after"));
    comm_close(c);
}

TEST_RANKS(a_rank_of_another_host_that_saves_is_waited_for, 2)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    setenv("TORC_TIMEOUT", "0.7", 1);
    comm *c = joined();
    save_for(c, 1.5);
    ok(comm_barrier(c, "after"));
    comm_close(c);
}

/* Once it has left its scope the deadline holds again. */
TEST_RANKS_DIE(a_rank_that_has_saved_is_not_waited_for_longer, 2, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.5", 1);
    comm *c = joined();
    save_for(c, 0.7);
    if (comm_rank(c) == 0)
        sleep(20);
    double began = torc_seconds();
    torc_status s = comm_barrier(c, "after");
    double waited = torc_seconds() - began;
    end_case(c, s == TORC_ERR_TIMEOUT && waited > 0.9 && waited < 2);
}

TEST_RANKS_DIE(even_a_long_scope_has_an_end, 2, 3, NULL)
{
    setenv("TORC_TIMEOUT", "0.3", 1);
    setenv("TORC_LONG_TIMEOUT", "1.5", 1);
    comm *c = joined();
    save_for(c, 20);
    double began = torc_seconds();
    torc_status s = comm_barrier(c, "after");
    double waited = torc_seconds() - began;
    end_case(c, s == TORC_ERR_TIMEOUT && waited > 1.4 && waited < 3 && says("step 0, saving, 1.") &&
                    says("waited 2 s for rank 0"));
}
