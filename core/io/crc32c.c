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

/* Eight bytes in three cycles: about 8 GB/s, four times what a disk takes. */
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t sum, const uint8_t *p,
                                                                 size_t n)
{
    uint64_t wide = ~sum;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
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
