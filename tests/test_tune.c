/* TORC_TUNE: whatever is chosen, the numbers are the same. */
#include "tests/ddp_helpers.h"

TEST_RANKS(tuning_changes_no_numbers, 4)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 3, 0);
    setenv("TORC_TUNE", "1", 1);
    torc_module *tuned = trained((torc_ddp_options){0}, 3, 0);
    CHECK(torc_replicas_agree(tuned));
    compare_near(plain, tuned, 1e-5);
    torc_finalize();
}
