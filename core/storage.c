/*
 * storage -- see storage.h.
 *
 *     free_blocks[class] -> block -> block -> ...     most recently freed first: it is still in the
 * CPU's cache
 */
#include "core/storage.h"

#include <stdlib.h>

#define SMALL 1024 /* below: classes of 64 bytes */
#define STEPS 8    /* above: this many classes between two powers of two */
#define CLASSES (SMALL / 64 + 64 * STEPS)

static storage *free_blocks[CLASSES];
static storage *free_wraps; /* structs without memory of their own */
static torc_memory_stats stats;

/* The class of a size, and the bytes that its blocks have. */
static int class_of(size_t bytes, size_t *rounded)
{
    if (bytes <= SMALL) {
        *rounded = (bytes + 63) / 64 * 64;
        return (int)(*rounded / 64);
    }
    int power = 63 - __builtin_clzll(bytes - 1); /* 2^power < bytes <= 2^(power + 1) */
    size_t step = ((size_t)1 << power) / STEPS;
    size_t steps = (bytes + step - 1) / step; /* STEPS + 1 .. 2 STEPS */
    *rounded = steps * step;
    return SMALL / 64 + (power - 10) * STEPS + (int)(steps - STEPS);
}

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

static void *take_from_device(size_t bytes)
{
    void *data = device_current()->alloc(bytes);
    if (!data) {
        storage_trim(); /* what the cache holds in other sizes may be just enough */
        data = device_current()->alloc(bytes);
    }
    if (!data)
        die_at((torc_site){0}, NULL, "no room for %zu bytes on %s; %zu are held by tensors", bytes,
               device_current()->name, stats.live_bytes);
    stats.allocations++;
    stats.held_bytes += bytes;
    return data;
}

static void count_live(size_t bytes)
{
    stats.live_bytes += bytes;
    if (stats.live_bytes > stats.peak_bytes)
        stats.peak_bytes = stats.live_bytes;
}

storage *storage_new(size_t bytes)
{
    size_t rounded;
    int class = class_of(bytes, &rounded);
    storage *s = free_blocks[class];
    if (s) {
        free_blocks[class] = s->next;
        s->refs = 1;
        s->next = NULL;
    } else {
        s = wrap_struct();
        s->bytes = rounded;
        s->data = rounded ? take_from_device(rounded) : NULL;
    }
    count_live(rounded);
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
        s->next = free_wraps;
        free_wraps = s;
        return;
    }
    size_t rounded;
    int class = class_of(s->bytes, &rounded);
    stats.live_bytes -= s->bytes;
    s->next = free_blocks[class];
    free_blocks[class] = s;
}

void storage_trim(void)
{
    for (int class = 1; class < CLASSES; class ++) /* class 0 has no bytes to give */
        while (free_blocks[class]) {
            storage *s = free_blocks[class];
            free_blocks[class] = s->next;
            device_current()->release(s->data, s->bytes);
            stats.held_bytes -= s->bytes;
            s->next = free_wraps;
            free_wraps = s;
        }
}

torc_memory_stats torc_memory(void)
{
    return stats;
}
