/*
 * plan -- which algorithm sums a slice over the hosts, by its bytes and their number.
 *
 * One table, below in plan.c. TORC_TUNE=1 measures the links of this very job instead, in a second
 * or so when training starts (tune.h); TORC_ALLREDUCE=ring|exchange|doubling takes one for
 * everything.
 */
#ifndef TORC_PLAN_H
#define TORC_PLAN_H

#include "allreduce/wire.h"

const wire_algorithm *plan_wire(size_t bytes, int hosts);
/* By name; NULL where there is none of it. */
const wire_algorithm *plan_named(const char *name);
/* From here on slices of up to `bytes` are summed by this one; called with growing sizes, the last
 * of which stands for all longer ones too. */
void plan_learn(size_t bytes, const wire_algorithm *by);
/* Algorithm `i`, NULL after the last. */
const wire_algorithm *plan_algorithm(int i);
/* Prints the table as it is in force. */
void plan_print(int hosts);

#endif
