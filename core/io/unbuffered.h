/*
 * unbuffered -- a file written once from its start to its end, past the page cache.
 *
 *     the caller's bytes --- whole pages, where they lie on pages ----.--O_DIRECT--> disk
 *                      \--- the others: | block, copied together | --'
 *                                        what is left at the end goes the ordinary way
 *
 * A checkpoint is written beside training. Through the page cache it would take a page of memory
 * from the system for each of its own, and the core that clears and fills it from a thread that
 * computes; 300 MB cost 1.1 s of a core that way. A file system that cannot do it (tmpfs) is
 * written the ordinary way.
 */
#ifndef TORC_UNBUFFERED_H
#define TORC_UNBUFFERED_H

#include "core/base.h"

#define UNBUFFERED_PAGE 4096 /* what O_DIRECT asks of addresses, sizes and places, on any disk */

/* What was written so far: for a checksum that must be of what was meant, not of what is there. */
typedef struct saved_sum {
    size_t size; /* bytes */
    uint32_t crc32c;
} saved_sum;

typedef struct unbuffered_file {
    int descriptor; /* the caller's, open for writing, empty */
    uint8_t *block;
    size_t filled; /* bytes of it */
    saved_sum sum;
    bool failed; /* nothing is written any more; unbuffered_end() says so */
    int why;     /* errno */
} unbuffered_file;

void unbuffered_begin(unbuffered_file *f, int descriptor);
void unbuffered_put(unbuffered_file *f, const void *bytes, size_t n);
/* Writes what is left and flushes the disk. False: something failed, and errno tells what. */
bool unbuffered_end(unbuffered_file *f);

#endif
