/*
 * options -- torcrun's command line: torcrun [options] [--] program [arguments]
 *
 * Options end at the first word that is not one, so that the program's own options are left alone.
 */
#ifndef LAUNCHER_OPTIONS_H
#define LAUNCHER_OPTIONS_H

#include "core/base.h"

typedef struct options {
#define FLAG(field, letter, name, meaning) bool field;
#define COUNT(field, letter, name, what, usual, low, high, meaning) int field;
#include "launcher/options.def"
#undef FLAG
#undef COUNT
    char **program; /* the program as typed and its arguments, NULL at the end; inside argv */
} options;

/* Quits with EXIT_USAGE and one line when a word is not understood. A missing program is the
 * caller's to notice: --help needs none. */
options options_read(char **argv);
void options_help(void); /* on stdout */

#endif
