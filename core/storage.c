/*
 * storage -- see storage.h.
 *
 * A loop of equal steps finds every block in its class, or finds the larger one that it was split
 * from the last time:
 *
 *     a free block      [                    25 MB                   ]
 *     19 MB are wanted  [            19 MB            ][    6 MB     ]     the rest is free
 *     and freed         [                    25 MB                   ]     if the rest still is
 *
 * Before the system is asked for more, what lies about unused, where that is a lot, is given back
 * to it. And where others take memory for a while, free blocks lend theirs:
 *
 *     gradients         [ w3 ]            come one by one, beside the cache, and go with the step
 *     free blocks       [ a  ][   b   ]   a is without memory, until it is used again: then b is
 */
#include "core/free_blocks.h"

#include "core/status.h"

#include <stdlib.h>

#define SMALL 1024              /* bytes: no reason to look for memory that lies about */
#define LARGE FREE_BLOCKS_LARGE /* less is not worth a split */
/* A block is split for no less than two thirds of it. Of larger ones the rests suit nobody: split
 * for a quarter, a step of a transformer whose blocks are recomputed took 5 % more. */
#define REACH (FREE_BLOCKS_STEPS / 2)

static int64_t owed;        /* bytes of memory that others took, and free blocks have not given */
static storage *free_wraps; /* structs without memory of their own */
static torc_memory_stats stats;

static storage *wrap_struct(void)
{
    storage *s = free_wraps;
    if (s)
        free_wraps = s->next;
    else
        s = base_alloc(1, sizeof *s);
    *s = (storage){.refs = 1};
    return s;
}

/* So much may lie about unused: a step's temporaries do, between a step and the next. */
#define SPARE_BYTES ((size_t)64 << 20)

/* Says who asked, and where all the rest is. */
static NORETURN void die_of_room(size_t bytes)
{
    const status *now = status_here();
    const device *d = device_current();
    size_t available = 0, total = 0;
    if (d->room)
        d->room(&available, &total);
    die_at((torc_site){now->file, now->line}, now->op[0] ? now->op : NULL,
           "no room for %zu bytes on %s: tensors hold %zu%s%s", bytes, d->name, stats.live_bytes,
           d->room ? base_format(", %zu of %zu are free", available, total) : "", "");
}

/* NULL: it has no room. */
static storage *take_from_device(size_t bytes)
{
    if (!bytes)
        return wrap_struct();
    size_t unused = stats.held_bytes - stats.live_bytes;
    if (bytes > SMALL && unused > stats.live_bytes / 2 + SPARE_BYTES)
        storage_trim();
    void *data = device_current()->alloc(bytes);
    if (!data) {
        storage_trim(); /* what the cache holds in other sizes may be just enough */
        data = device_current()->alloc(bytes);
    }
    if (!data)
        return NULL;
    stats.allocations++;
    stats.held_bytes += bytes;
    if (stats.held_bytes > stats.peak_held_bytes)
        stats.peak_held_bytes = stats.held_bytes;
    storage *s = wrap_struct();
    s->data = data;
    s->bytes = bytes;
    return s;
}

static void count_live(size_t bytes)
{
    stats.live_bytes += bytes;
    if (stats.live_bytes > stats.peak_bytes)
        stats.peak_bytes = stats.live_bytes;
}

/* ---- large blocks ---- */

static void drop_struct(storage *s)
{
    free(s->mirror);
    s->next = free_wraps;
    free_wraps = s;
}

/* The rest of s, if it is large itself, becomes a free block. */
static void split(storage *s, size_t bytes)
{
    if (s->bytes < bytes + LARGE)
        return;
    storage *rest = wrap_struct();
    *rest = (storage){.data = (char *)s->data + bytes,
                      .bytes = s->bytes - bytes,
                      .absent = s->absent > bytes ? s->absent - bytes : 0, /* or more */
                      .left = s,
                      .right = s->right};
    if (rest->right)
        rest->right->left = rest;
    s->right = rest;
    s->bytes = bytes;
    s->absent -= rest->absent;
    free_blocks_push(rest);
}

/* s and the block behind it become one. */
static storage *join(storage *s)
{
    storage *rest = s->right;
    s->bytes += rest->bytes;
    s->absent += rest->absent;
    s->right = rest->right;
    if (s->right)
        s->right->left = s;
    free(s->mirror); /* of the size that s had */
    s->mirror = NULL;
    drop_struct(rest);
    return s;
}

/* With its neighbours, as far as they are free. */
static storage *join_free(storage *s)
{
    if (s->right && s->right->refs == 0) {
        free_blocks_take_out(s->right);
        join(s);
    }
    if (s->left && s->left->refs == 0) {
        free_blocks_take_out(s->left);
        s = join(s->left);
    }
    return s;
}

/* From the class itself or one above it, up to `last`. */
static storage *take_free(int class, int last, size_t rounded)
{
    for (int c = class; c <= last && c < FREE_BLOCKS_CLASSES; c++) {
        storage *s = free_blocks_pop(c);
        if (s) {
            split(s, rounded);
            return s;
        }
    }
    return NULL;
}

storage *storage_new(size_t bytes)
{
    size_t rounded;
    int class = free_blocks_class(bytes, &rounded);
    storage *s = take_free(class, rounded >= LARGE ? class + REACH : class, rounded);
    if (!s)
        s = take_from_device(rounded);
    if (!s) /* of whatever block: pieces do not go back to the system */
        s = take_free(class, FREE_BLOCKS_CLASSES - 1, rounded);
    if (!s)
        die_of_room(rounded);
    s->refs = 1;
    if (s->absent) /* it comes again, and others that are free go */
        storage_make_room((int64_t)s->absent);
    s->absent = 0;
    s->mirrored = 0;
    s->next = NULL;
    count_live(s->bytes);
    return s;
}

storage *storage_wrap(void *data, size_t bytes, void (*gone)(storage *s), void *owner)
{
    storage *s = wrap_struct();
    s->data = data;
    s->bytes = bytes;
    s->gone = gone;
    s->owner = owner;
    return s;
}

storage *storage_share(storage *s)
{
    s->refs++;
    return s;
}

void storage_release(storage *s)
{
    if (--s->refs > 0)
        return;
    if (s->gone) {
        s->gone(s);
        drop_struct(s);
        return;
    }
    stats.live_bytes -= s->bytes;
    free_blocks_push(join_free(s));
}

/* ---- all that is free ---- */

void storage_lowest_first(void)
{
    free_blocks_by_address();
}

/* The pieces of a block that was split stay: the system takes back only what it gave. */
static bool is_piece(storage *s)
{
    if (s->left || s->right)
        return true;
    device_current()->release(s->data, s->bytes);
    stats.held_bytes -= s->bytes;
    drop_struct(s);
    return false;
}

void storage_trim(void)
{
    for (int class = 1; class < FREE_BLOCKS_CLASSES; class ++) /* class 0 has no bytes to give */
        free_blocks_sift(class, is_piece);
}

/* ---- room beside the cache ---- */

/* All of the block at once, so that what is absent of it is known. */
static void give_memory(storage *s)
{
    size_t gone = device_current()->discard(s->data, s->bytes);
    if (gone > s->absent)
        owed -= (int64_t)(gone - s->absent);
    s->absent = gone;
    free_blocks_delist(s);
}

void storage_make_room(int64_t bytes)
{
    owed += bytes;
    while (owed > 0 && free_blocks_oldest() && device_current()->discard)
        give_memory(free_blocks_oldest());
}

torc_memory_stats torc_memory(void)
{
    return stats;
}
