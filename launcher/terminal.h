/*
 * terminal -- torcrun's stdout and stderr, written by threads: a reader that stalls (a pager,
 * Ctrl-S, a full pipe) must not stop the supervisor, whose silence the ranks would take for its
 * death.
 *
 *     say_bytes() --> lane of stdout --> thread --> pager
 *                 '-> lane of stderr --> thread --> terminal     one lane where both are one file
 *
 * Words
 *   lane    what is to be written to one file, in order, 8 MiB at most
 *   drop    where a lane is full, a second is given to its reader; then whole lines are left out,
 *           until half of the lane is free again, and it is said how many
 */
#ifndef LAUNCHER_TERMINAL_H
#define LAUNCHER_TERMINAL_H

#include "core/base.h"

/* From now on say_bytes() hands what goes to stdout's or stderr's file to a lane. When the process
 * exits, the lanes are emptied first, for as long as their readers take something every 5 s. */
void terminal_start(void);

#endif
