/*
 * device -- what a device is: where memory comes from, and which kernels run on it.
 *
 * The CPU is one; a GPU stands beside it with a table of its own. Everything above (storage,
 * tensor, ops) calls through this table and names no device.
 */
#ifndef TORC_DEVICE_H
#define TORC_DEVICE_H

#include "core/base.h"

struct kernels; /* core/kernels.h */

typedef struct device {
    const char *name;
    void *(*alloc)(size_t bytes); /* 64-byte aligned, not cleared; NULL when there is no room */
    void (*release)(void *memory, size_t bytes);
    void (*to_host)(void *host, const void *memory, size_t bytes);
    void (*from_host)(void *memory, const void *host, size_t bytes);
    const struct kernels *(*kernels)(void);
    bool (*multiplies_bf16)(void); /* faster than f32 */
} device;

/* The device of this rank. */
const device *device_current(void);

#endif
