/*
 * ask -- what another program prints, within a deadline: mpirun --version, nvidia-smi.
 */
#ifndef LAUNCHER_ASK_H
#define LAUNCHER_ASK_H

#include "launcher/text.h"

/* Runs words[0], looked up in PATH, without a shell and without input, and adds the start of what
 * it writes to both outputs. Returns its exit code as a shell counts, 127 where it cannot be
 * started, 124 where it was still running after `seconds` and was killed. `answer` ends in a 0
 * that is not counted in its .used. */
int ask(char *const *words, double seconds, text *answer);

#endif
