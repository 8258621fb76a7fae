/*
 * comm_helpers -- what the tests of comm/ share.
 *
 * Cases that break the communicator end by comm_abort with a code of their own: a code that only
 * comes when all that was checked before is right.
 */
#ifndef TESTS_COMM_HELPERS_H
#define TESTS_COMM_HELPERS_H

#include "comm/collective.h"
#include "tests/harness.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline comm *joined(void)
{
    comm *c = NULL;
    if (comm_open(&c) != TORC_OK) {
        fprintf(stderr, "%s\n", torc_last_error());
        exit(1);
    }
    return c;
}

static inline void ok(torc_status s)
{
    test_check(s == TORC_OK, __FILE__, __LINE__, "%s", torc_last_error());
}

/* Is this a part of the last error's sentence? */
static inline bool says(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    bool yes = strstr(torc_last_error(), text);
    if (!yes)
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, torc_last_error());
    return yes;
}

static inline bool mpi_runs(void)
{
    int started = 0, ended = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&ended);
    return started && !ended;
}

static inline void finish(comm *c, comm_request *r)
{
    bool done = false;
    while (!done)
        if (comm_test(c, r, &done) != TORC_OK)
            return ok(TORC_ERR_PEER);
}

#endif
