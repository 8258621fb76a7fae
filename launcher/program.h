/*
 * program -- finding a program as a shell would, and then, unlike one, in the current folder.
 */
#ifndef LAUNCHER_PROGRAM_H
#define LAUNCHER_PROGRAM_H

#include "core/base.h"

/* A name without a slash is looked up in PATH, then in the current folder; one with a slash is
 * taken as it is. Returns 0 with the path, which is the caller's to free(); or EXIT_NOT_FOUND or
 * EXIT_CANNOT_RUN with a sentence in torc_last_error() and a path of NULL. */
int program_find(const char *name, char **path);

/* The path of the running torcrun itself; the caller's to free(). */
char *program_self(void);

#endif
