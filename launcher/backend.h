/*
 * backend -- what starts one process per rank on the right hosts: mpirun here, srun elsewhere.
 *
 * torcrun never does that work itself. A backend is a row: which program, how its command line is
 * made, and where a process it started finds its rank. The process it starts is torcrun's shim.
 */
#ifndef LAUNCHER_BACKEND_H
#define LAUNCHER_BACKEND_H

#include "launcher/text.h"

typedef struct job {
    int ranks;
    bool oversubscribed; /* more ranks than cores */
    char **program;      /* as typed, and its arguments; NULL at the end */
} job;

/* A command line and the environment variables that belong to it. All strings are its own. */
typedef struct command {
    char **words, **settings; /* NULL at the end; a setting is NAME=value */
    int word_count, setting_count;
} command;

typedef struct backend {
    const char *name;          /* of the program, as looked up in PATH */
    const char *rank_variable; /* where a process it started reads its rank */
    void (*build)(const job *j, command *c);
} backend;

extern const backend backend_mpirun;
const backend *backend_find(const char *name); /* NULL: none of that name */

void command_word(command *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* A variable that the user has set himself stays as he set it, and is not part of the command. */
void command_setting(command *c, const char *name, const char *value);
/* The end of every backend's command line: torcrun as the shim, then the program. */
void command_shim(command *c, const backend *b, const job *j);
/* Undoes what command_shim() had to do to one word of the program's; in place. */
void command_restore(char *word);
void command_print(const command *c, text *out); /* as one line for a shell */
void command_free(command *c);

#endif
