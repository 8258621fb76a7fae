/*
 * crc32c -- the checksum of iSCSI (RFC 3720, polynomial 1EDC6F41h of Castagnoli et al. 1993), for
 * which processors have an instruction. It finds every flip of up to 5 bits in a block of a few
 * hundred bytes, every burst of up to 32 bits in any, and all but one in 4 billion of the rest.
 */
#ifndef TORC_CRC32C_H
#define TORC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The sum of what was summed before, `sum` (0 at the start), and n bytes behind it. */
uint32_t crc32c(uint32_t sum, const void *bytes, size_t n);
/* The same without the instruction: for processors that lack it, and tests. */
uint32_t crc32c_by_table(uint32_t sum, const void *bytes, size_t n);

#endif
