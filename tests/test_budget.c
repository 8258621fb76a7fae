/* test_budget -- when a job is started again, and after how long. */
#include "launcher/budget.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

TEST(so_many_and_no_more)
{
    budget b = budget_new(2, 1);
    CHECK_INT(budget_failure(&b, 0, -1, -1), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 1, -1, -1), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, -1, -1), VERDICT_SPENT);
    b = budget_new(0, 1);
    CHECK_INT(budget_failure(&b, 0, 5, 5), VERDICT_SPENT);
}

TEST(progress_refills)
{
    budget b = budget_new(1, 1);
    for (int step = 0; step < 100; step++)
        CHECK_INT(budget_failure(&b, 0, step, step), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 1, 99, 99), VERDICT_SPENT);
    b = budget_new(1, 1); /* less far than once is no progress, though farther than last time */
    CHECK_INT(budget_failure(&b, 0, 9, 9), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 1, 10, 10), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, 7, 7), VERDICT_SPENT);
}

TEST(the_same_rank_at_the_same_step)
{
    budget b = budget_new(100, 1);
    CHECK_INT(budget_failure(&b, 2, 7, 8), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, 7, 8), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 1, 7, 8), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, 7, 9), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, 7, 9), VERDICT_RESTART);
    CHECK_INT(budget_failure(&b, 2, 7, 9), VERDICT_LOOP);
    b = budget_new(100, 1); /* nothing is known of the steps: no loop to be seen */
    for (int i = 0; i < 100; i++)
        CHECK_INT(budget_failure(&b, 2, -1, -1), VERDICT_RESTART);
}

TEST(waits_double_up_to_a_minute)
{
    budget b = budget_new(1000, 1.5);
    static const double expected[] = {1.5, 3, 6, 12, 24, 48, 60, 60};
    for (int i = 0; i < 8; i++) {
        budget_failure(&b, i, -1, -1);
        CHECK_NEAR(budget_wait(&b), expected[i], 0);
    }
    for (int i = 0; i < 900; i++)
        budget_failure(&b, i, -1, -1);
    CHECK_NEAR(budget_wait(&b), 60, 0);
    budget_failure(&b, 0, 1, 1);
    CHECK_NEAR(budget_wait(&b), 1.5, 0);
}
