/*
 * slurm -- what Slurm's variables say of the hosts of a job.
 *
 *     SLURM_JOB_NODELIST      n[01-02,7],m5      n01  n02  n7  m5
 *     SLURM_TASKS_PER_NODE    4(x2),3,1           4    4    3   1
 *
 * Read here and not by `scontrol show hostnames`: that is a program more to start, and on some
 * clusters one that the hosts of a job do not have.
 */
#ifndef LAUNCHER_SLURM_H
#define LAUNCHER_SLURM_H

#include "launcher/hosts.h"

bool slurm_is_here(void); /* this process is part of a job of Slurm's */

/* The hosts of the job, with as many slots as tasks were asked for. False with a sentence. */
bool slurm_hosts(hosts *all);

/* The two lists, for tests. Names with several brackets, r[1-2]n[1-8], count like an odometer. */
bool slurm_expand_names(hosts *all, const char *list);
/* Fills slots; fewer numbers than hosts, or more, are an error. */
bool slurm_expand_tasks(hosts *all, const char *list);

#endif
