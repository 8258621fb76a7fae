/*
 * pulse -- what the program of a rank says of itself, read beside it.
 *
 *     shim --- memory with a descriptor, TORC_STATUS_FILE=/proc/PID/fd/N ---> program
 *      '------ reads it each second <--- step 12, backward of torc_matmul, train.c:41 ---'
 *
 * The memory has no name in any folder, so that nothing is left however the two end. A program
 * that is not built with torc never writes there, and then there is nothing to read.
 */
#ifndef LAUNCHER_PULSE_H
#define LAUNCHER_PULSE_H

#include "launcher/pace.h"
#include "launcher/report.h"

enum { PULSE_TEXT = 512 };

/* Makes the memory and sets the variable, unless the user has set it. Before the program starts. */
void pulse_open(void);
/* Fills in a beat of a program whose process is `pid`, or 0; its text, at most PULSE_TEXT bytes, is
 * put into `words`. `p` is what was seen of its steps before. */
void pulse_read(report *beat, char words[PULSE_TEXT], pace *p, int pid);

#endif
