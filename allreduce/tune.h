/*
 * tune -- measures which algorithm sums a slice fastest over the hosts of this job (plan.h).
 */
#ifndef TORC_TUNE_H
#define TORC_TUNE_H

#include "comm/comm.h"

/* Every rank calls it, and all learn the same. Once a job; does nothing where there is one host. */
torc_status tune(comm *c);

#endif
