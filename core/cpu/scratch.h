/*
 * scratch -- memory that kernels need while they run: grow-only, one buffer per use, so that a loop
 * of equal shapes takes nothing from the system after its first turn.
 *
 * A buffer belongs to the kernel that runs now. It is taken before a parallel region starts (one
 * thread of a process calls torc), and its threads take slices of it. Values are undefined.
 */
#ifndef TORC_CPU_SCRATCH_H
#define TORC_CPU_SCRATCH_H

#include "core/base.h"

typedef enum scratch_use {
    SCRATCH_ONEDNN,  /* what a primitive asks for */
    SCRATCH_WEIGHTS, /* in the layout that a convolution's code wants */
    SCRATCH_INPUT,   /* operands copied into the layout or dtype that a kernel reads, one of two */
    SCRATCH_OTHER,   /* the other */
    SCRATCH_RESULT,  /* a result on its way into another layout or dtype, or to be added */
    SCRATCH_PARTS,   /* sums of parts, before they are added in order */
    SCRATCH_THREADS, /* slices for the threads of a region */
    SCRATCH_USES
} scratch_use;

/* At least `bytes` on a cache line's boundary, good until the same use is asked for again; dies
 * with a sentence when there is no room. */
void *scratch(scratch_use use, size_t bytes);

#endif
