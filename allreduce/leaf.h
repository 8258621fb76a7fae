/*
 * leaf -- what this rank keeps of its leaves until the last one has come, and the running
 * statistics, which are averaged over leaves as gradients are.
 *
 *     leaves 4 5 6 of 8       buffer 0 (live)    buffer 1     buffer 2
 *     after leaf 4            -                  4
 *     after leaf 5            -                  4 + 5                       5 met its sibling
 *     leaf 6, the last        6                  4 + 5                       sent, as tree.h says
 *
 * With one leaf a rank nothing is kept: the live buffer is all there is.
 */
#ifndef TORC_LEAF_H
#define TORC_LEAF_H

#include "allreduce/reducer.h"

/* A forward pass of the net begins: the running statistics are about to move. */
void leaf_forward(reducer *r);
/* Which leaf this backward is, and whether it is the last of this rank (r->sends). */
void leaf_begin(reducer *r);
/* Adds to `count` live elements at `offset` the siblings that wait for them. */
void leaf_merge(const reducer *r, size_t offset, int64_t count, torc_dtype dtype);
/* The end of a backward that sends nothing. */
void leaf_keep(reducer *r);

size_t leaf_statistics_bytes(const reducer *r);
size_t leaf_buffer_bytes(const reducer *r);
/* Starts their mean, after the last bucket; and takes it when it is there. */
void leaf_send_statistics(reducer *r);
void leaf_take_statistics(reducer *r);

#endif
