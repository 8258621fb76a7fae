/* The checksum against its published answers, the instruction against the table, pieces against the
 * whole. */
#include "core/io/crc32c.h"
#include "tests/harness.h"

#include <stdint.h>
#include <string.h>

/* RFC 3720, appendix B.4, and the check value of the catalogues. */
TEST(published_answers)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    uint32_t (*const ways[])(uint32_t, const void *, size_t) = {crc32c, crc32c_by_table};
    for (int i = 0; i < 2; i++) {
        CHECK_INT(ways[i](0, "123456789", 9), 0xe3069283);
        CHECK_INT(ways[i](0, zeros, sizeof zeros), 0x8a9136aa);
        CHECK_INT(ways[i](0, ones, sizeof ones), 0x62a8ab43);
        CHECK_INT(ways[i](0, up, sizeof up), 0x46dd794e);
        CHECK_INT(ways[i](0, "", 0), 0);
    }
}

static void fill(uint8_t *bytes, int n)
{
    for (int i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 73 + i / 7);
}

/* Every length and every alignment around a word; and longer ones, which are summed in lanes. */
TEST(instruction_and_table_agree)
{
    static uint8_t bytes[8192];
    fill(bytes, 8192);
    for (size_t first = 0; first < 9; first++) {
        for (size_t n = 0; n < 90; n++)
            CHECK_INT(crc32c(5, bytes + first, n), crc32c_by_table(5, bytes + first, n));
        for (size_t n = 90; n < 8192 - 9; n += 61)
            CHECK_INT(crc32c(5, bytes + first, n), crc32c_by_table(5, bytes + first, n));
    }
}

TEST(pieces_make_the_whole)
{
    uint8_t bytes[100];
    fill(bytes, 100);
    uint32_t whole = crc32c(0, bytes, 100);
    for (size_t cut = 0; cut <= 100; cut++)
        CHECK_INT(crc32c(crc32c(0, bytes, cut), bytes + cut, 100 - cut), whole);
}

TEST(every_flipped_bit_is_seen)
{
    uint8_t bytes[100];
    fill(bytes, 100);
    uint32_t whole = crc32c(0, bytes, 100);
    for (int bit = 0; bit < 800; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(crc32c(0, bytes, 100) != whole);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
