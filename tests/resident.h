/* resident -- how much of a stretch of memory the system has given pages to. */
#ifndef TESTS_RESIDENT_H
#define TESTS_RESIDENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* In bytes, of the whole pages within it. */
static inline size_t resident_bytes(const void *from, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), count = 0;
    uintptr_t first = ((uintptr_t)from + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)from + bytes) / page * page;
    for (uintptr_t at = first; at < end; at += page) {
        unsigned char is_in = 0;
        mincore((void *)at, page, &is_in);
        count += is_in & 1;
    }
    return count * page;
}

#endif
