/*
 * device -- what a device is: where memory comes from, and which kernels run on it.
 *
 * The CPU is one; a GPU stands beside it with a table of its own. Everything above (storage,
 * tensor, ops) calls through this table and names no device. A rank has one device, found when it
 * is first asked for: what TORC_DEVICE=cpu|cuda|cuda:N says, else a GPU where there is one. Ranks
 * of a host take its GPUs in turns.
 */
#ifndef TORC_DEVICE_H
#define TORC_DEVICE_H

#include "core/base.h"

struct kernels; /* core/kernels.h */

#define DTYPE_BIT(dtype) (1u << (dtype))
#define DTYPE_BITS_ALL (DTYPE_BIT(TORC_DTYPES) - 1)

enum { DEVICE_STEP = -1 }; /* the ticket of torc_step(); the others are those of buckets */

typedef struct device {
    const char *name;
    /* How many such devices this process sees. Else why: 0 where there is none, -1 where there is
     * one that cannot be used. */
    int (*count)(char *why, size_t size);
    void *(*alloc)(size_t bytes); /* 64-byte aligned, not cleared; NULL when there is no room */
    void (*release)(void *memory, size_t bytes);
    void (*room)(size_t *free, size_t *total); /* bytes; NULL: as much as the host gives */
    /* Whole huge pages within them go back to the system, and read as anything when they are used
     * again; returns their bytes. NULL: it has no pages. */
    size_t (*discard)(void *memory, size_t bytes);
    void (*to_host)(void *host, const void *memory, size_t bytes);
    void (*from_host)(void *memory, const void *host, size_t bytes);
    /* ---- what goes on beside the kernels; NULL on a device whose memory is the host's ---- */
    void (*identity)(char *text, size_t size); /* of the device on its host: two have two */
    void (*pin)(void *host, size_t bytes);     /* the host's memory, for copies nobody waits for */
    void (*unpin)(void *host);
    /* The stream beside that of the kernels; what is put into it, between the two, starts when all
     * that was asked for before is done. A ticket, a number from 0 (or DEVICE_STEP), stands for it:
     * the host may ask whether it is done, and what kernels are asked for later can be made to wait
     * for it. */
    void *(*branch)(int ticket);
    void (*branched)(int ticket);
    bool (*is_done)(int ticket);
    void (*rejoin)(int ticket);
    void (*fetch)(void *host, const void *memory, size_t bytes, int ticket); /* a branch, too */
    void (*put)(void *memory, const void *host, size_t bytes); /* in the order of kernels */
    /* From now on equal steps are kept, and asked for as a whole; and told where a step ends. NULL:
     * nothing is gained by it. */
    void (*graphs)(void);
    void (*step_over)(void);
    /* Stamps, numbers from 0, stand for moments in the order of kernels; each may be set again. */
    void (*stamp)(int i, bool beside);   /* when all that was asked for so far is done; in which
                                          stream */
    bool (*is_past)(int i);              /* whether it has come */
    double (*between)(int from, int to); /* seconds, of two that have */
    const struct kernels *(*kernels)(void);
    unsigned computes; /* the dtypes of its kernels; of others memory is filled and copied alone */
    bool (*multiplies)(torc_dtype low); /* bf16 or f16, faster than f32 */
} device;

/* The device of this rank, and its number among those of its kind. */
const device *device_current(void);
int device_index(void);
/* Whether tensors are in memory that the host reads and writes as well. */
bool device_is_host(void);

#endif
