/*
 * plan -- which algorithm sums a slice over the hosts, by its bytes and their number.
 *
 * One table, below in plan.c; TORC_ALLREDUCE=ring|exchange|doubling takes one for everything.
 */
#ifndef TORC_PLAN_H
#define TORC_PLAN_H

#include "allreduce/wire.h"

const wire_algorithm *plan_wire(size_t bytes, int hosts);
/* By name; NULL where there is none of it. */
const wire_algorithm *plan_named(const char *name);
/* Prints the table as it is in force. */
void plan_print(int hosts);

#endif
