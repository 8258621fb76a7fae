/*
 * backend_mpirun -- Open MPI's mpirun as the one that starts the ranks of this host.
 *
 * It is asked for nothing but that: who fails first, what is shown of it and how the others end is
 * the business of shim and supervisor, and mpirun is to hear of an end only when all is over.
 */
#include "launcher/backend.h"

#include <stdio.h>
#include <unistd.h>

static void build(const job *j, command *c)
{
    char ranks[16];
    snprintf(ranks, sizeof ranks, "%d", j->ranks);
    if (geteuid() == 0) { /* mpirun wants to hear twice that root means it: usual in containers */
        command_setting(c, "OMPI_ALLOW_RUN_AS_ROOT", "1");
        command_setting(c, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    /* All ranks are on this host: without this Open MPI looks for fabrics first, for 0.2 s. */
    command_setting(c, "OMPI_MCA_pml", "ob1");
    if (j->oversubscribed) /* a rank that waits must not hold the core that the awaited one needs */
        command_setting(c, "OMPI_MCA_mpi_yield_when_idle", "1");

    command_word(c, "%s", backend_mpirun.name);
    command_word(c, "-n");
    command_word(c, "%s", ranks);
    command_word(c, "--bind-to");
    command_word(c, "none");
    if (j->oversubscribed)
        command_word(c, "--oversubscribe");
    /* Between TERM and KILL mpirun waits 2 s even where nobody is left; our shims need no TERM. */
    command_word(c, "--mca");
    command_word(c, "odls_base_sigkill_timeout");
    command_word(c, "0");
    command_shim(c, &backend_mpirun, j);
}

const backend backend_mpirun = {
    .name = "mpirun",
    .rank_variable = "OMPI_COMM_WORLD_RANK",
    .build = build,
};
