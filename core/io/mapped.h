/*
 * mapped -- a file as memory, to read from.
 *
 * The system brings in what is touched and may drop it again, so a file can be larger than memory.
 * What is no regular file is refused at once: opening a pipe would wait for its other end.
 *
 * A file must not shrink while it is mapped: touching what is gone ends the process (SIGBUS).
 */
#ifndef TORC_MAPPED_H
#define TORC_MAPPED_H

#include "core/base.h"

typedef struct mapped_file {
    const uint8_t *bytes; /* never NULL while open */
    size_t size;
} mapped_file;

/* On an error nothing is left open, and torc_last_error() has path and reason. */
torc_status mapped_open(const char *path, mapped_file *out);
void mapped_close(mapped_file *f); /* a struct of zeros is fine */

/* The same without the mapping: a descriptor, which the caller closes, and the size of the file. */
torc_status mapped_descriptor(const char *path, int *descriptor, size_t *size);

#endif
