/*
 * cluster -- hosts of their own for a case: a throw-away Slurm on this machine.
 *
 *     login (sx) ----+---- n0      each with its own name, address, processes and /dev/shm
 *                    '---- n1      `node off n1`, `node unplug n1`
 *
 * CLUSTER_DIR names the folder of slurm-up.sh and slurm-down.sh; else it is looked for beside the
 * repository, in ../shared/cluster. Needs root, and Slurm's packages; without them a case skips.
 */
#ifndef TESTS_CLUSTER_CLUSTER_H
#define TESTS_CLUSTER_CLUSTER_H

#include "tests/launcher_helpers.h"

static char cluster_folder[64]; /* of the running cluster */

static inline const char *cluster_scripts(void)
{
    const char *given = getenv("CLUSTER_DIR");
    return given ? given : "../shared/cluster";
}

/* So many hosts, with so many cores and pretended GPUs each. */
static inline void cluster_up_of(int hosts, int cores, int gpus)
{
    char scripts[1024];
    if (geteuid() != 0)
        test_skip("a cluster on this machine needs root");
    if (system("command -v slurmctld munged srun > /dev/null") != 0)
        test_skip("a cluster on this machine needs the packages slurm-wlm and munge");
    snprintf(scripts, sizeof scripts, "%s/slurm-up.sh", cluster_scripts());
    if (access(scripts, X_OK) != 0)
        test_skip("no %s (CLUSTER_DIR= leads to it)", scripts);
    snprintf(cluster_folder, sizeof cluster_folder, "/tmp/torc-cluster-%d", (int)getpid());
    int code = test_command(40, output, sizeof output,
                            "SLURM_SANDBOX=%s NODES=%d CPUS=%d GPUS=%d %s > %s.log 2>&1",
                            cluster_folder, hosts, cores, gpus, scripts, test_path("up"));
    if (code != 0)
        test_skip("the cluster does not come up: %s ended with %d", scripts, code);
}

static inline void cluster_up(void)
{
    cluster_up_of(2, 2, 0);
}

static inline void cluster_down(void)
{
    test_command(30, output, sizeof output,
                 "SLURM_SANDBOX=%s %s/slurm-down.sh > /dev/null 2>&1; rm -rf %s", cluster_folder,
                 cluster_scripts(), cluster_folder);
}

/* Runs a command with the cluster's programs in PATH; `sx torcrun` is torcrun on the login node.
 * The variables RSH and SLURM start it over the two backends. */
__attribute__((format(printf, 1, 2))) static inline int on_cluster(const char *format, ...)
{
    char command[3000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return run("export SLURM_SANDBOX=%s; . $SLURM_SANDBOX/env.sh; "
               "RSH=\"env OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$SLURM_SANDBOX/bin/on sx\"; "
               "SLURM='sx salloc -Q -N2 -n4'; %s",
               cluster_folder, command);
}

#endif
