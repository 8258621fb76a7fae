/* crc32c -- see crc32c.h. */
#include "core/io/crc32c.h"

#include <nmmintrin.h>
#include <pthread.h>
#include <string.h>

#define REVERSED 0x82F63B78u /* the polynomial, its bits in the order in which they arrive */

static uint32_t table[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        table[byte] = byte;
        for (int bit = 0; bit < 8; bit++)
            table[byte] = table[byte] >> 1 ^ (table[byte] & 1 ? REVERSED : 0);
    }
}

uint32_t crc32c_by_table(uint32_t sum, const void *bytes, size_t n)
{
    pthread_once(&once, fill_table);
    sum = ~sum;
    for (const uint8_t *p = bytes; n > 0; n--)
        sum = sum >> 8 ^ table[(sum ^ *p++) & 255];
    return ~sum;
}

/*
 * The instruction takes eight bytes, and its result comes three cycles later: one sum after the
 * other reads 8 GB/s. So three go side by side, each over a lane of its own, and are joined: a sum
 * over A followed by B is the sum over A followed by zeros, xor the sum over B. What L zeros do to
 * a sum is linear in its bits: four tables, one for each of its bytes.
 *
 *     | lane a, L bytes | lane b | lane c | ...      a, then L zeros ^ b, then L zeros ^ c
 */
#define LANE 256 /* bytes */

static uint32_t behind_zeros[4][256];
static pthread_once_t lanes_once = PTHREAD_ONCE_INIT;

static uint64_t word_at(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

__attribute__((target("sse4.2"))) static void fill_lanes(void)
{
    for (int bit = 0; bit < 32; bit++) {
        uint64_t sum = 1u << bit;
        for (int i = 0; i < LANE; i += 8)
            sum = _mm_crc32_u64(sum, 0);
        for (int byte = 0; byte < 256; byte++)
            if (byte >> bit % 8 & 1)
                behind_zeros[bit / 8][byte] ^= (uint32_t)sum;
    }
}

static uint64_t skip_lane(uint64_t sum)
{
    return behind_zeros[0][sum & 255] ^ behind_zeros[1][sum >> 8 & 255] ^
           behind_zeros[2][sum >> 16 & 255] ^ behind_zeros[3][sum >> 24 & 255];
}

__attribute__((target("sse4.2"))) static uint64_t three_lanes(uint64_t a, const uint8_t *p)
{
    uint64_t b = 0, c = 0;
    for (int i = 0; i < LANE; i += 8) {
        a = _mm_crc32_u64(a, word_at(p + i));
        b = _mm_crc32_u64(b, word_at(p + i + LANE));
        c = _mm_crc32_u64(c, word_at(p + i + 2 * LANE));
    }
    return skip_lane(skip_lane(a) ^ b) ^ c;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t sum, const uint8_t *p,
                                                                 size_t n)
{
    uint64_t wide = ~sum;
    pthread_once(&lanes_once, fill_lanes);
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE)
        wide = three_lanes(wide, p);
    for (; n >= 8; n -= 8, p += 8)
        wide = _mm_crc32_u64(wide, word_at(p));
    uint32_t narrow = (uint32_t)wide;
    for (; n > 0; n--)
        narrow = _mm_crc32_u8(narrow, *p++);
    return ~narrow;
}

uint32_t crc32c(uint32_t sum, const void *bytes, size_t n)
{
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(sum, bytes, n);
    return crc32c_by_table(sum, bytes, n);
}
