/* unbuffered -- see unbuffered.h. */
#define _GNU_SOURCE /* O_DIRECT */
#include "core/io/unbuffered.h"

#include "core/io/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE UNBUFFERED_PAGE
#define BLOCK (1024 * 1024) /* long requests, and still in a core's cache when it is summed */
#define REQUEST (64 * 1024 * 1024) /* each write() costs a virtual machine its host's attention */

static bool set_direct(int descriptor, bool on)
{
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && fcntl(descriptor, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

void unbuffered_begin(unbuffered_file *f, int descriptor)
{
    *f = (unbuffered_file){.descriptor = descriptor, .block = aligned_alloc(PAGE, BLOCK)};
    f->failed = !f->block;
    f->why = ENOMEM;
    set_direct(descriptor, true); /* where it cannot be, the same writes go the ordinary way */
}

/* A file system may take the flag and refuse the write. */
static ssize_t write_either_way(int descriptor, const uint8_t *p, size_t n)
{
    ssize_t wrote = write(descriptor, p, n);
    if (wrote < 0 && errno == EINVAL && set_direct(descriptor, false))
        wrote = write(descriptor, p, n);
    return wrote;
}

static void write_all(unbuffered_file *f, const uint8_t *p, size_t n)
{
    while (!f->failed && n > 0) {
        ssize_t wrote = write_either_way(f->descriptor, p, n);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            f->failed = true;
            f->why = errno;
            return;
        }
        if (wrote % PAGE) /* nearly full: the rest no longer lies where O_DIRECT wants it */
            set_direct(f->descriptor, false);
        p += wrote;
        n -= (size_t)wrote;
    }
}

static void sum(unbuffered_file *f, const void *bytes, size_t n)
{
    f->sum.size += n;
    f->sum.crc32c = crc32c(f->sum.crc32c, bytes, n);
}

/* Into the block, as far as it goes; how many bytes that were. */
static size_t put_in_block(unbuffered_file *f, const uint8_t *p, size_t n)
{
    n = n < BLOCK - f->filled ? n : BLOCK - f->filled;
    memcpy(f->block + f->filled, p, n);
    sum(f, f->block + f->filled, n);
    f->filled += n;
    if (f->filled == BLOCK) {
        write_all(f, f->block, BLOCK);
        f->filled = 0;
    }
    return n;
}

static size_t put_pages(unbuffered_file *f, const uint8_t *p, size_t n)
{
    n = n < REQUEST ? n / PAGE * PAGE : REQUEST;
    sum(f, p, n);
    write_all(f, p, n);
    return n;
}

/* The block may be short of the page on which the caller's bytes begin: it is filled up first. */
static size_t to_the_next_page(const unbuffered_file *f, const uint8_t *p, size_t n)
{
    size_t missing = (PAGE - f->filled % PAGE) % PAGE;
    return missing < n && ((uintptr_t)p + missing) % PAGE == 0 ? missing : n;
}

void unbuffered_put(unbuffered_file *f, const void *bytes, size_t n)
{
    const uint8_t *p = bytes, *end = p + n;
    while (!f->failed && p < end) {
        size_t left = (size_t)(end - p), gap = left < BLOCK ? left : to_the_next_page(f, p, left);
        if (gap > 0) {
            p += put_in_block(f, p, gap);
            continue;
        }
        write_all(f, f->block, f->filled);
        f->filled = 0;
        p += put_pages(f, p, left);
    }
}

bool unbuffered_end(unbuffered_file *f)
{
    if (f->filled % PAGE)
        set_direct(f->descriptor, false);
    write_all(f, f->block, f->filled);
    if (!f->failed && fsync(f->descriptor) != 0) {
        f->failed = true;
        f->why = errno;
    }
    free(f->block);
    f->block = NULL;
    errno = f->why;
    return !f->failed;
}
