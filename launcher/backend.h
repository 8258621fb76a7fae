/*
 * backend -- what starts one process per rank on the right hosts: mpirun, or Slurm's srun.
 *
 * torcrun never does that work itself. A backend is a row: which program, how its command line is
 * made, and where a process it started finds its rank. The process it starts is torcrun's shim.
 */
#ifndef LAUNCHER_BACKEND_H
#define LAUNCHER_BACKEND_H

#include "launcher/hosts.h"
#include "launcher/text.h"

/* What is to run where; plan.h makes it. */
typedef struct job {
    hosts hosts; /* with their .ranks; rank 0 is the first of the first host */
    int ranks;
    bool remote;         /* some rank is on another host than torcrun */
    bool oversubscribed; /* more ranks than cores */
    const char *address; /* of this host, numeric: where the shims find the supervisor */
    const char *network; /* for MPI's own traffic, "10.0.0.0/24"; NULL: as MPI likes */
    const char *iface;   /* that the user named; NULL: none */
    const char **env;    /* NAME=VALUE or NAME, for every rank; NULL, or NULL at its end */
    char **extra;        /* the user's own words for the backend; the same */
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
    const char *idle_talk;     /* in a line on its stderr that nobody needs; NULL: none */
    void (*build)(const job *j, command *c);
} backend;

extern const backend backend_mpirun, backend_srun;
const backend *backend_find(const char *name); /* NULL: none of that name */

void command_word(command *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* A variable that the user has set himself stays as he set it, and is not part of the command. */
void command_setting(command *c, const char *name, const char *value);
/* "NAME=value", whatever the user has set. */
void command_set(command *c, const char *setting);
/* What Open MPI and NCCL are told of the network that the user chose, where he did. */
void command_network(command *c, const job *j);
/* The variables that the user gave as --env, as settings. */
void command_env(command *c, const job *j);
/* One word that names the host of every rank: n0,n0,n1. */
void command_host_of_each(command *c, const job *j);
/* The end of every backend's command line: the user's own words, torcrun as the shim, then the
 * program. */
void command_shim(command *c, const backend *b, const job *j);
/* Undoes what command_shim() had to do to one word of the program's; in place. */
void command_restore(char *word);
/* Its settings become variables of this process, which what it starts inherits. */
void command_apply(const command *c);
void command_print(const command *c, text *out); /* as one line for a shell */
void command_free(command *c);

#endif
