/*
 * vitals -- which rank has gone quiet, and what that means.
 *
 *     shim silent                 its host is off, or cut off from torcrun's
 *     program silent              it hangs (--hang-timeout)
 *     one done, all others wait   it will never come (--grace)
 */
#ifndef LAUNCHER_VITALS_H
#define LAUNCHER_VITALS_H

#include "launcher/ranks.h"

typedef struct vitals {
    int host_patience, hang_patience, left_patience; /* seconds; 0: not looked at */
    double left_since; /* torc_seconds() until which not all waited for one that had left */
} vitals;

/* Blames the rank that is the cause; true when there is a new one, and the job is to end. */
bool vitals_look(vitals *v, ranks *all, double now);
/* Its shim has been silent for too long. */
bool vitals_cut_off(const vitals *v, const rank *r, double now);

#endif
