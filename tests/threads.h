/*
 * threads -- a world whose ranks are threads of one process: worlds of any size without a launcher,
 * and memory that ThreadSanitizer and AddressSanitizer can follow from rank to rank.
 *
 *     static void body(comm *c, void *context) { ... on every rank ... }
 *     threads_run(5, body, &context);
 */
#ifndef TESTS_THREADS_H
#define TESTS_THREADS_H

#include "comm/comm.h"

/* Runs body on `ranks` threads, each with its own communicator, and waits for them. */
void threads_run(int ranks, void (*body)(comm *c, void *context), void *context);

#endif
