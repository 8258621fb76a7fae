/*
 * storage -- counted blocks of device memory, and the cache they come from.
 *
 * Tensors are views of a storage. When its last view goes, the block returns to a free list of its
 * size class instead of the system, so that after the first step a loop of equal shapes takes
 * nothing from the system. Classes are at most 1/8 apart, so at most that much is wasted.
 *
 * A large block is taken from a larger one where none of its class is free, and what is left of
 * that is a free block of its own, until both are free and become one again. Less than a MiB is not
 * split off, and wasted.
 */
#ifndef TORC_STORAGE_H
#define TORC_STORAGE_H

#include "core/device.h"

typedef struct storage {
    void *data;    /* 64-byte aligned; NULL for 0 bytes */
    size_t bytes;  /* of the block: the class's size */
    size_t absent; /* of a free block: bytes that the system has taken back, and gives anew */
    int64_t refs;
    /* NULL: the cache's. Else memory of somebody else, who is told when the last view has gone. */
    void (*gone)(struct storage *s);
    void *owner;
    /* What lies from byte `first` on may still be on its way: called by whoever is about to have it
     * used, so that it is waited for. NULL: all is there. */
    void (*arrive)(struct storage *s, size_t first);
    void *mirror;    /* the host's copy of the block (tensor_mirror()); NULL: never had one */
    size_t mirrored; /* of it these bytes are true: nobody else has written to them since */
    struct storage *left, *right; /* the blocks beside it in memory that was taken in one piece */
    struct storage *next, *prev, *child; /* among those that are free */
    struct storage *older, *newer;       /* among those that can make room */
    bool listed;                         /* it is one of them */
} storage;

/* Values undefined; dies with a sentence when there is no room. */
storage *storage_new(size_t bytes);
/* Wraps memory that is somebody else's; `gone` is called when the last view has gone. */
storage *storage_wrap(void *data, size_t bytes, void (*gone)(storage *s), void *owner);
storage *storage_share(storage *s); /* one reference more; returns s */
void storage_release(storage *s);
/* From now on the lowest address of a class comes first instead of the block freed last, so that
 * equal steps get equal addresses. */
void storage_lowest_first(void);
/* Gives the cached free blocks back to the system, but those of which a part is in use. */
void storage_trim(void);
/* Somebody takes so many bytes beside the cache, or (below 0) has given them back. As much of what
 * free blocks lie in goes to the system, now or at the next call, and comes again when they are
 * used; first of those that have been free for longest, which backward may not need any more. */
void storage_make_room(int64_t bytes);

#endif
