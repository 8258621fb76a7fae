/*
 * manual -- --help, the manual page and the shell's completion, all from options.def and say.h.
 */
#ifndef LAUNCHER_MANUAL_H
#define LAUNCHER_MANUAL_H

#include "core/base.h"

/* On stdout: NULL for the terminal, "man" for troff, "bash" for a completion. False: no such form.
 */
bool manual_print(const char *form);

#endif
