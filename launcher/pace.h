/*
 * pace -- how fast a rank goes, from its steps as they were seen once a second.
 *
 *     notes    | step 17 at 3.1 s |   | step 29 at 4.0 s |   ...   | step 98 at 9.9 s |
 *     rate     (98 - 17) / (9.9 - 3.1) steps a second
 *
 * A note is made where the step has changed, with the moment at which it was made: so steps of half
 * a minute have their exact rate, too. A step that is overdue lowers it from second to second.
 */
#ifndef LAUNCHER_PACE_H
#define LAUNCHER_PACE_H

#include "core/base.h"

enum { PACE_NOTES = 8 };

typedef struct pace {
    struct pace_note {
        int64_t step;
        double at, waited; /* seconds, both up to this step; of one clock */
    } note[PACE_NOTES];    /* note i of all stands in note[i % PACE_NOTES] */
    int64_t notes;
} pace;

/* The rank has made so many steps, the last of them `at`. */
void pace_note(pace *p, int64_t step, double at, double waited);
/* Steps a second; NAN before the second note. */
double pace_rate(const pace *p, double now);
/* The part of the time that was waited, 0 to 1; NAN before the second note. */
double pace_waiting(const pace *p);

#endif
