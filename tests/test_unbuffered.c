/* unbuffered: what is put in comes back, and its sum, wherever the pieces begin and end in memory
 * and in the file; a full disk is a failure with its reason. */
#include "core/io/unbuffered.h"

#include "core/io/crc32c.h"
#include "core/io/mapped.h"
#include "tests/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20) /* the block: shorter pieces are copied, longer ones need not be */

static uint8_t *numbered(size_t n)
{
    uint8_t *bytes = aligned_alloc(UNBUFFERED_PAGE, (n / UNBUFFERED_PAGE + 1) * UNBUFFERED_PAGE);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    return bytes;
}

/* Writes bytes[from..) in pieces of these sizes, and reads the file back. */
static void round_trip(const uint8_t *bytes, size_t from, const size_t *pieces, int count)
{
    const char *path = test_path("pieces");
    unbuffered_file f;
    size_t total = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    unbuffered_begin(&f, fd);
    for (int i = 0; i < count; i++) {
        unbuffered_put(&f, bytes + from + total, pieces[i]);
        total += pieces[i];
    }
    CHECK(unbuffered_end(&f));
    close(fd);
    CHECK_INT(f.sum.size, total);
    CHECK_INT(f.sum.crc32c, crc32c_by_table(0, bytes + from, total));
    mapped_file back;
    CHECK(mapped_open(path, &back) == TORC_OK);
    CHECK(back.size == total && !memcmp(back.bytes, bytes + from, total));
    mapped_close(&back);
}

#define ROUND_TRIP(bytes, from, ...) \
    round_trip(bytes, from, (const size_t[]){__VA_ARGS__}, \
               (int)(sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t)))

TEST(pieces_of_any_size_and_place)
{
    uint8_t *bytes = numbered(9 * MIB);
    ROUND_TRIP(bytes, 0, 0);
    ROUND_TRIP(bytes, 0, 1);
    ROUND_TRIP(bytes, 0, UNBUFFERED_PAGE);
    ROUND_TRIP(bytes, 0, 3 * MIB);                      /* pages of the caller's, all of them */
    ROUND_TRIP(bytes, 0, 3 * MIB + 5);                  /* and a tail */
    ROUND_TRIP(bytes, 0, 100, 4 * MIB, 7, 2 * MIB + 1); /* the block is filled up to a page */
    ROUND_TRIP(bytes, 3, 8, 2 * MIB, 2 * MIB, 11);      /* memory and file lie differently */
    ROUND_TRIP(bytes, 0, MIB - 1, 1, MIB, MIB - 1);     /* full blocks */
    free(bytes);
}

/* /dev/full takes nothing, as a full disk. */
TEST(a_full_disk)
{
    uint8_t *bytes = numbered(3 * MIB);
    const size_t sizes[] = {10, 3 * MIB}; /* found at the end, and before it */
    for (int i = 0; i < 2; i++) {
        unbuffered_file f;
        int fd = open("/dev/full", O_WRONLY);
        unbuffered_begin(&f, fd);
        unbuffered_put(&f, bytes, sizes[i]);
        CHECK(!unbuffered_end(&f));
        CHECK_INT(errno, ENOSPC);
        close(fd);
    }
    free(bytes);
}
