/*
 * courier -- a thread that moves a rank's buckets while the rank computes, where there is a core to
 * spare for it.
 *
 *     rank      layer 4    layer 3    layer 2    layer 1    end
 *     ready     . B0 full  . B1 full  . . . .    B2 full    .
 *     courier     [-- B0 --] [---- B1 ----]        [-- B2   -- taken over by the rank
 *
 * Without one the rank looks after its buckets between two ops: on a core of its own that is as
 * good, for a thread would take the core from the arithmetic. So there is a courier only where a
 * rank has more cores than it computes with (TORC_THREADS below its share), or where
 * TORC_COURIER=1 asks for it; TORC_COURIER=0 forbids it. And only within a host: MPI is not called
 * from two threads.
 */
#ifndef TORC_COURIER_H
#define TORC_COURIER_H

#include <stdbool.h>

typedef struct courier courier;

/* NULL where the system gives no thread. `move` is called over and over between courier_go() and
 * courier_stop(), never during either. */
courier *courier_new(void (*move)(void *context), void *context);
void courier_go(courier *c);
/* When it returns the courier is not in `move`, and does not call it until the next courier_go().
 */
void courier_stop(courier *c);
void courier_free(courier *c); /* NULL is fine */

#endif
