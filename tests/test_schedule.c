/* Schedules at the points that their formulas give by hand. */
#include "core/torc.h"
#include "tests/harness.h"

#include <math.h>

TEST(step_falls_every_so_often)
{
    CHECK_NEAR(torc_schedule_step(0, 10, 0.5), 1, 0);
    CHECK_NEAR(torc_schedule_step(9, 10, 0.5), 1, 0);
    CHECK_NEAR(torc_schedule_step(10, 10, 0.5), 0.5, 0);
    CHECK_NEAR(torc_schedule_step(39, 10, 0.5), 0.125, 0);
    CHECK_NEAR(torc_schedule_step(39, 0, 0.5), 1, 0);
}

TEST(cosine_goes_from_one_to_the_final_factor)
{
    CHECK_NEAR(torc_schedule_cosine(0, 100, 0.2), 1, 1e-15);
    CHECK_NEAR(torc_schedule_cosine(50, 100, 0.2), 0.6, 1e-15);
    CHECK_NEAR(torc_schedule_cosine(25, 100, 0), 0.5 + sqrt(0.125), 1e-15);
    CHECK_NEAR(torc_schedule_cosine(100, 100, 0.2), 0.2, 1e-15);
    CHECK_NEAR(torc_schedule_cosine(1000, 100, 0.2), 0.2, 1e-15);
    CHECK_NEAR(torc_schedule_cosine(0, 0, 0.2), 0.2, 1e-15);
}

TEST(warmup_ends_at_one)
{
    CHECK_NEAR(torc_schedule_warmup_cosine(0, 4, 104, 0.1), 0.25, 0);
    CHECK_NEAR(torc_schedule_warmup_cosine(3, 4, 104, 0.1), 1, 0);
    CHECK_NEAR(torc_schedule_warmup_cosine(4, 4, 104, 0.1), 1, 1e-15);
    CHECK_NEAR(torc_schedule_warmup_cosine(54, 4, 104, 0.1), 0.55, 1e-15);
    CHECK_NEAR(torc_schedule_warmup_cosine(104, 4, 104, 0.1), 0.1, 1e-15);
    CHECK_NEAR(torc_schedule_warmup_cosine(0, 0, 10, 0), torc_schedule_cosine(0, 10, 0), 0);
}
