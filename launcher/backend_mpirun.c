/*
 * backend_mpirun -- Open MPI's mpirun as the one that starts the ranks, here or over ssh.
 *
 *     one host     mpirun -n 4 --bind-to none ... torcrun --shim mpirun program
 *     several      mpirun -n 4 --host a,a,b,b --map-by seq -x NAME ... torcrun --shim ...
 *
 * It is asked for nothing but that: who fails first, what is shown of it and how the others end is
 * the business of shim and supervisor, and mpirun is to hear of an end only when all is over.
 */
#include "launcher/backend.h"

#include "launcher/devices.h"
#include "launcher/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void word_pair(command *c, const char *one, const char *two)
{
    command_word(c, "%s", one);
    command_word(c, "%s", two);
}

static void mca(command *c, const char *name, const char *value)
{
    command_word(c, "--mca");
    word_pair(c, name, value);
}

static void set_environment(const job *j, command *c)
{
    if (geteuid() == 0) { /* mpirun wants to hear twice that root means it: usual in containers */
        command_setting(c, "OMPI_ALLOW_RUN_AS_ROOT", "1");
        command_setting(c, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    /* Open MPI looks for fabrics for 0.2 s. Needless on one host, and where there is none. */
    if (!j->remote || !devices_fabric())
        command_setting(c, "OMPI_MCA_pml", "ob1");
    if (j->oversubscribed) /* a rank that waits must not hold the core that the awaited one needs */
        command_setting(c, "OMPI_MCA_mpi_yield_when_idle", "1");
    if (j->network)
        command_setting(c, "OMPI_MCA_oob_tcp_if_include", j->network);
    command_network(c, j);
    command_env(c, j);
}

/* ---- variables for other hosts ---- */

static bool has_word(const command *c, const char *name)
{
    for (int i = 0; i < c->word_count; i++)
        if (!strcmp(c->words[i], name))
            return true;
    return false;
}

/* Only the name stands on the command line, where anybody could read it; mpirun takes the value
 * from its own environment. */
static void export(command *c, const char *name, size_t length)
{
    char *copy = base_format("%.*s", (int)length, name);
    if (!has_word(c, copy))
        word_pair(c, "-x", copy);
    free(copy);
}

/* srun hands everything on, ssh nothing: the two are brought together as far as is meant for us. */
static void export_all(const job *j, command *c)
{
    static const char *const ours[] = {"TORC_", "OMP_", "NCCL_"};
    static const char *const launch[] = {REPORT_ADDRESS, REPORT_TOKEN, REPORT_WORLD_SIZE,
                                         REPORT_ATTEMPT, REPORT_LAUNCHED};
    for (int i = 0; i < ARRAY_LENGTH(launch); i++)
        export(c, launch[i], strlen(launch[i]));
    for (char **variable = environ; *variable; variable++)
        for (int i = 0; i < ARRAY_LENGTH(ours); i++)
            if (!strncmp(*variable, ours[i], strlen(ours[i])))
                export(c, *variable, strcspn(*variable, "="));
    for (int i = 0; i < c->setting_count; i++) /* those of OMPI_ mpirun hands on itself */
        if (!strncmp(c->settings[i], "NCCL_", strlen("NCCL_")))
            export(c, c->settings[i], strcspn(c->settings[i], "="));
    for (const char **setting = j->env; setting && *setting; setting++)
        export(c, *setting, strcspn(*setting, "="));
}

/* `seq` lays rank i on the i-th host of the list; all else would begin with this host wherever it
 * stands in the list. */
static void span_hosts(const job *j, command *c)
{
    command_word(c, "--host");
    command_host_of_each(c, j);
    word_pair(c, "--map-by", "seq");
    /* Without these a host whose cable was pulled is waited for for eight minutes. */
    mca(c, "oob_tcp_keepalive_time", "3");
    mca(c, "oob_tcp_keepalive_intvl", "1");
    mca(c, "oob_tcp_keepalive_probes", "3");
    export_all(j, c);
}

static void build(const job *j, command *c)
{
    char ranks[16];
    snprintf(ranks, sizeof ranks, "%d", j->ranks);
    set_environment(j, c);
    command_word(c, "%s", backend_mpirun.name);
    word_pair(c, "-n", ranks);
    word_pair(c, "--bind-to", "none"); /* the shim binds */
    if (j->oversubscribed)
        command_word(c, "--oversubscribe");
    if (j->remote)
        span_hosts(j, c);
    /* Between TERM and KILL mpirun waits 2 s even where nobody is left; our shims need no TERM. */
    mca(c, "odls_base_sigkill_timeout", "0");
    command_shim(c, &backend_mpirun, j);
}

const backend backend_mpirun = {
    .name = "mpirun",
    .rank_variable = "OMPI_COMM_WORLD_RANK",
    .idle_talk = "plm:rsh: Warning: setpgid", /* its ssh was quicker than mpirun itself: harmless */
    .build = build,
};
