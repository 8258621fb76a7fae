/*
 * trace -- one file with the spans of all ranks, on the clock of rank 0 (core/profile.h).
 */
#ifndef TORC_TRACE_H
#define TORC_TRACE_H

#include "comm/comm.h"

/* Every rank calls it alike, when recording is over; rank 0 writes `path`. What fails is told in a
 * warning: a job that has trained does not die of its picture. */
void trace_write(comm *c, const char *path);

#endif
