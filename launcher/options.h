/*
 * options -- what torcrun is told: torcrun [options] [--] program [arguments]
 *
 *     --config FILE --.   name = value
 *     TORC_<NAME> ----+-->  struct options     the later the row here, the stronger its word
 *     --name value ---'
 *
 * Options end at the first word that is not one, so that the program's own options are left alone.
 * The file (--config or TORC_CONFIG) has a line an option, `nproc-per-node = 4`; a flag is `yes`
 * or `no` there and in a variable; # begins a remark. A list adds up over the lines of one source,
 * and a stronger source replaces it.
 */
#ifndef LAUNCHER_OPTIONS_H
#define LAUNCHER_OPTIONS_H

#include "core/base.h"

/* Where an option was given. The stronger is the greater. */
typedef enum option_source { SOURCE_NONE, SOURCE_FILE, SOURCE_VARIABLE, SOURCE_FLAG } option_source;

typedef struct options {
#define FLAG(field, letter, name, meaning) bool field;
#define COUNT(field, letter, name, what, usual, low, high, meaning) int field;
#define TEXT(field, letter, name, what, meaning) const char *field;
#define LIST(field, letter, name, what, meaning) \
    const char **field; /* NULL, or NULL at its end \
                         */
#define ACTION(field, letter, name, meaning) bool field;
#include "launcher/options.def"
    struct { /* where each was given */
#define FLAG(field, letter, name, meaning) option_source field;
#define COUNT(field, letter, name, what, usual, low, high, meaning) option_source field;
#define TEXT(field, letter, name, what, meaning) option_source field;
#define LIST(field, letter, name, what, meaning) option_source field;
#define ACTION(field, letter, name, meaning) option_source field;
#include "launcher/options.def"
    } given;
    const char *help_form; /* of --help=man; NULL: --help */
    char **program; /* the program as typed and its arguments, NULL at the end; inside argv */
} options;

/* Quits with EXIT_USAGE and one line when a word is not understood, or two contradict each other.
 * A missing program is the caller's to notice: --help needs none. */
options options_read(char **argv);
void options_free(options *o);

#endif
