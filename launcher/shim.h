/*
 * shim -- torcrun on the side of one rank: it runs the program and knows how it ended.
 */
#ifndef LAUNCHER_SHIM_H
#define LAUNCHER_SHIM_H

#include "core/base.h"

/* torcrun --shim BACKEND program [arguments]: `words` starts at BACKEND. Does not return. */
_Noreturn void shim_main(char **words);

#endif
