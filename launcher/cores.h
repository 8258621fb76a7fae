/*
 * cores -- the cores that this process may use.
 *
 * A core counts once, however many hardware threads it has: two ranks on the threads of one core
 * share its arithmetic units, and training is nothing but arithmetic.
 */
#ifndef LAUNCHER_CORES_H
#define LAUNCHER_CORES_H

#include "core/base.h"

typedef struct cores {
    int count;
    char list[256]; /* the kernel's numbers of the hardware threads: "0-3,8" */
} cores;

cores cores_here(void);

#endif
