/*
 * free_blocks -- the blocks that the cache has free, by their class and by how long they have been.
 *
 * A block's class is its size, rounded up by at most 1/8. Among blocks of a class the one freed
 * last comes first, or that at the lowest address. Large ones stand in line, too, from the one that
 * has been free for longest on.
 */
#ifndef TORC_FREE_BLOCKS_H
#define TORC_FREE_BLOCKS_H

#include "core/storage.h"

#define FREE_BLOCKS_STEPS 8                               /* classes between two powers of two */
#define FREE_BLOCKS_CLASSES (16 + 64 * FREE_BLOCKS_STEPS) /* up to 1 KiB every 64 bytes */
#define FREE_BLOCKS_LARGE ((size_t)1 << 20)               /* bytes */

/* The class of a size, and the bytes that its blocks have. */
int free_blocks_class(size_t bytes, size_t *rounded);
/* s is free: found with those of the largest class that it has room for, and last in the line. */
void free_blocks_push(storage *s);
/* The first of a class is free no more; NULL: there is none. */
storage *free_blocks_pop(int class);
/* Nor is s, wherever it stands. */
void free_blocks_take_out(storage *s);
/* Looks at all of a class; those that stay are free in the same order as before. */
void free_blocks_sift(int class, bool (*stays)(storage *s));
/* From now on the lowest address of a class comes first. */
void free_blocks_by_address(void);

/* The first in the line; NULL: there is none. */
storage *free_blocks_oldest(void);
/* s leaves the line, and stays free. */
void free_blocks_delist(storage *s);

#endif
