/* The courier: a thread that moves gradients changes no bits. */
#include "tests/ddp_helpers.h"

TEST_RANKS(a_courier_changes_no_bits, 3)
{
    start();
    torc_module *plain = trained((torc_ddp_options){0}, 6, 0.1);
    setenv("TORC_COURIER", "1", 1);
    torc_module *carried = trained((torc_ddp_options){0}, 6, 0.1);
    torc_module *sharded = trained((torc_ddp_options){.shard_optimizer = true}, 6, 0.1);
    compare_bits(plain, carried);
    compare_bits(plain, sharded);
    CHECK(torc_replicas_agree(carried));
    CHECK_NEAR(torc_ddp_statistics(carried).overlapped_seconds, 0, 0); /* it was not this thread */
    torc_finalize();
}
