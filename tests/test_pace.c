/* test_pace -- rates from steps that were seen now and then. */
#include "launcher/pace.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

TEST(one_note_is_no_rate)
{
    pace p = {0};
    CHECK(isnan(pace_rate(&p, 1)) && isnan(pace_waiting(&p)));
    pace_note(&p, 3, 0.5, 0.1);
    pace_note(&p, 3, 0.5, 0.1);
    CHECK(isnan(pace_rate(&p, 1)) && isnan(pace_waiting(&p)));
}

TEST(the_rate_is_that_of_the_last_notes)
{
    pace p = {0};
    for (int i = 0; i < 5; i++) /* slow at first: that is forgotten */
        pace_note(&p, i, 10.0 * i, 9.0 * i);
    for (int i = 1; i <= PACE_NOTES; i++)
        pace_note(&p, 4 + 12 * i, 40 + i, 36 + 0.25 * i);
    CHECK_NEAR(pace_rate(&p, 40 + PACE_NOTES), 12, 1e-12);
    CHECK_NEAR(pace_waiting(&p), 0.25, 1e-12);
}

TEST(steps_of_half_a_minute_have_a_rate)
{
    pace p = {0};
    pace_note(&p, 1, 30, 3);
    for (int second = 30; second < 61; second++)
        pace_note(&p, second < 60 ? 1 : 2, second < 60 ? 30 : 60, second < 60 ? 3 : 6);
    CHECK_NEAR(pace_rate(&p, 61), 1 / 30.0, 1e-12);
    CHECK_NEAR(pace_rate(&p, 90), 1 / 30.0, 1e-12);
    CHECK_NEAR(pace_waiting(&p), 0.1, 1e-12);
}

TEST(an_overdue_step_lowers_it)
{
    pace p = {0};
    pace_note(&p, 0, 10, 0);
    pace_note(&p, 5000, 11, 0);
    CHECK_NEAR(pace_rate(&p, 11.4), 5000, 0); /* the clock is no better */
    CHECK_NEAR(pace_rate(&p, 11 + 20.5), 0.05, 1e-12);
}

TEST(a_step_that_goes_back_begins_again)
{
    pace p = {0};
    pace_note(&p, 100, 10, 1);
    pace_note(&p, 110, 11, 1);
    pace_note(&p, 50, 12, 0);
    CHECK(isnan(pace_rate(&p, 12)));
    pace_note(&p, 52, 13, 0.5);
    CHECK_NEAR(pace_rate(&p, 13), 2, 1e-12);
    CHECK_NEAR(pace_waiting(&p), 0.5, 1e-12);
}
