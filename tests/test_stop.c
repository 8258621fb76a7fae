/* test_stop -- a wish of one rank becomes the decision of all. */
#include "core/stop.h"
#include "core/torc.h"
#include "tests/harness.h"

#include "core/torc_sites.h"

#include <signal.h>
#include <stdlib.h>

TEST(alone)
{
    CHECK(!torc_should_stop());
    raise(SIGUSR1);
    CHECK(torc_should_stop());
    CHECK(torc_should_stop()); /* until it is forgotten */
    stop_forget();
    CHECK(!torc_should_stop());
}

static bool is_default(int signal)
{
    struct sigaction now;
    sigaction(signal, NULL, &now);
    return now.sa_handler == SIG_DFL;
}

static void mine(int signal)
{
    (void)signal;
}

TEST(signals_of_others_are_left_alone)
{
    signal(SIGUSR1, mine);
    unsetenv("TORC_WORLD_SIZE");
    CHECK(!torc_should_stop());
    raise(SIGUSR1);
    CHECK(!torc_should_stop());
    CHECK(is_default(SIGTERM)); /* Ctrl-C ends a program as ever */
    CHECK(is_default(SIGINT));
}

TEST(under_a_launcher)
{
    setenv("TORC_WORLD_SIZE", "1", 1);
    CHECK(is_default(SIGTERM)); /* who never asks is ended as ever */
    CHECK(!torc_should_stop());
    raise(SIGTERM);
    CHECK(torc_should_stop());
}

/* Rank 1 alone is asked, at its step 5; all leave at the same step. */
TEST_RANKS(all_at_the_same_step, 3)
{
    int step = 0;
    torc_init(NULL, NULL);
    while (!torc_should_stop() && step < 100)
        if (++step == 5 && torc_rank() == 1)
            raise(SIGUSR1);
    CHECK_INT(step, 5);
    CHECK_NEAR(torc_sum_over_ranks(step), 15, 0);
    torc_finalize();
}
