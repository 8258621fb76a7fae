/* mapped -- files as memory: all their bytes, whatever their size, and a sentence for what is none.
 */
#include "core/io/mapped.h"
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *write_bytes(const char *name, const char *bytes, size_t n)
{
    FILE *f = fopen(test_path(name), "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n);
    if (f)
        fclose(f);
    return test_path(name);
}

TEST(all_bytes_of_a_file)
{
    mapped_file f;
    CHECK(mapped_open(write_bytes("f", "a\0b", 3), &f) == TORC_OK);
    CHECK(f.size == 3 && !memcmp(f.bytes, "a\0b", 3));
    mapped_close(&f);
    CHECK(f.bytes == NULL && f.size == 0);
    mapped_close(&f); /* once more does no harm */
}

TEST(an_empty_file_is_a_file)
{
    mapped_file f;
    CHECK(mapped_open(write_bytes("f", "", 0), &f) == TORC_OK);
    CHECK(f.bytes != NULL && f.size == 0);
    mapped_close(&f);
}

/* Sparse, so that it takes no room: sizes beyond 32 bits arrive whole. */
TEST(five_gigabytes)
{
    const char *path = write_bytes("f", "x", 1);
    const off_t size = (off_t)5 << 30;
    CHECK(truncate(path, size) == 0);
    mapped_file f;
    CHECK(mapped_open(path, &f) == TORC_OK);
    CHECK_INT(f.size, size);
    CHECK(f.bytes[0] == 'x' && f.bytes[f.size - 1] == 0);
    mapped_close(&f);
}

static void check_refused(const char *path, const char *why)
{
    mapped_file f = {(const uint8_t *)"", 1};
    CHECK_INT(mapped_open(path, &f), TORC_ERR_IO);
    CHECK(f.bytes == NULL && f.size == 0);
    test_check(strstr(torc_last_error(), why) && (!path || strstr(torc_last_error(), path)),
               __FILE__, __LINE__, "expected \"%s\", found \"%s\"", why, torc_last_error());
}

/* Opening a pipe that nobody writes to would wait for ever. */
TEST(what_is_no_file)
{
    CHECK(mkfifo(test_path("pipe"), 0600) == 0);
    check_refused(test_path("pipe"), "expected a regular file");
    check_refused("/dev/zero", "expected a regular file");
    check_refused(test_path(""), "a folder, expected a file");
    check_refused(test_path("missing"), "No such file");
    check_refused(NULL, "expected a path, found NULL");
}
