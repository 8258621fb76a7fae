/*
 * words -- one text cut into words as a shell would, without a shell: nothing in it is expanded
 * or run.
 *
 *     --mca btl 'self,tcp' "a \"b\""  ->  --mca | btl | self,tcp | a "b"
 */
#ifndef LAUNCHER_WORDS_H
#define LAUNCHER_WORDS_H

#include "core/base.h"

/* Blanks part words; '...' takes all as it is, "..." and no quotes know the backslash. Returns the
 * words with a NULL at their end, the caller's to give to words_free(); NULL with a sentence in
 * torc_last_error() where a quote is not closed. */
char **words_split(const char *text);
void words_free(char **words); /* NULL: nothing to do */

#endif
