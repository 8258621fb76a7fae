/* Philox: the known answers of its authors. */
#include "core/rng.h"
#include "tests/harness.h"

TEST(known_answers)
{
    uint32_t out[4];
    philox(0, 0, out);
    const uint32_t zero[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (int i = 0; i < 4; i++)
        CHECK_INT(out[i], zero[i]);
}

TEST(ranges_do_not_overlap)
{
    uint64_t key;
    torc_seed(9);
    CHECK_INT(rng_take(5, &key), 0);
    CHECK_INT(key, 9);
    CHECK_INT(rng_take(4, &key), 2);
    CHECK_INT(rng_take(0, &key), 3);
    CHECK_INT(rng_take(1, &key), 3);
}
