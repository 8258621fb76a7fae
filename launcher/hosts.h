/*
 * hosts -- the hosts that a job may use, in the order in which ranks are laid on them.
 *
 *     --hosts a:4,b:4        --hostfile FILE         Slurm's variables
 *              '--------------------+-------------------'
 *                       a  4 | b  4 | c  ?               ?: nobody said how many ranks
 *
 * Words
 *   slots   the ranks that a host is meant to take; 0 where that was not said
 *   here    this very host, under whichever of its names
 *
 * A name is letters, digits, dots, dashes and underscores, and begins with no dash: it can stand
 * on any command line and mean nothing else.
 */
#ifndef LAUNCHER_HOSTS_H
#define LAUNCHER_HOSTS_H

#include "core/base.h"

typedef struct host {
    char *name;
    int slots;
    int ranks;   /* that this job lays on it: place.h */
    int counted; /* cores, NUMA nodes or GPUs that --nproc-per-node found there; 0: not asked */
} host;

/* Starts as {0}. */
typedef struct hosts {
    host *of; /* [n] */
    int n;
} hosts;

/* All three return false with a sentence in torc_last_error(). A host that is named twice gets the
 * slots of both, as with Open MPI. */
bool hosts_add(hosts *all, const char *name, size_t length, int slots);
bool hosts_add_list(hosts *all, const char *list); /* a:4,b:4,c */
/* A line a host: `a`, `a:4`, or `a slots=4 max_slots=8`; # begins a remark. */
bool hosts_read_file(hosts *all, const char *path);
int hosts_different(const hosts *all); /* how many, each counted once */
hosts hosts_copy(const hosts *all);
void hosts_free(hosts *all);

/* "localhost", this host's name with or without its domain, or one of its addresses. */
bool host_is_here(const char *name);
/* Whether any of them is not. */
bool hosts_elsewhere(const hosts *all);

#endif
