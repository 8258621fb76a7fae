/*
 * backend_srun -- Slurm's srun as the one that starts the ranks, inside a job of Slurm's.
 *
 *     srun --ntasks=4 --nodelist n0,n0,n1,n1 --distribution=arbitrary ... torcrun --shim srun ...
 *
 * srun is not asked who failed: what it would say is a victim's exit code. It hears of an end only
 * when all ranks are over, or when a shim itself was killed; then it is to end the rest.
 */
#include "launcher/backend.h"

#include <stdlib.h>

/* Slurm's PMIx plugin lets all ranks wait for each other over a tree of the hosts, or a ring. As it
 * comes, some go on too early: on 16 busy hosts 12 starts in 59 ended with a SIGSEGV of a rank in
 * MPI_Init() that was sent to before it was there (Slurm 22.05, PMIx 4.2); over the ring none of 43
 * did. */
static void choose_fence(command *c)
{
    command_setting(c, "SLURM_PMIX_FENCE", "ring");
}

static void build(const job *j, command *c)
{
    choose_fence(c);
    command_network(c, j);
    if (j->oversubscribed) /* a rank that waits must not hold the core that the awaited one needs */
        command_setting(c, "OMPI_MCA_mpi_yield_when_idle", "1");
    command_env(c, j);

    command_word(c, "%s", backend_srun.name);
    if (!getenv("SLURM_MPI_TYPE")) /* Open MPI 4 cannot be started through Slurm's older pmi2 */
        command_word(c, "--mpi=pmix");
    command_word(c, "--ntasks=%d", j->ranks);
    command_word(c, "--nodes=%d", hosts_different(&j->hosts));
    command_word(c, "--overlap"); /* a host that has gone keeps its last step open for minutes */
    command_word(c, "--nodelist");
    command_host_of_each(c, j);
    command_word(c, "--distribution=arbitrary"); /* rank i on the i-th host of that list */
    if (j->oversubscribed)
        command_word(c, "--overcommit");
    command_word(c, "--cpu-bind=none"); /* the shim binds */
    command_word(c, "--kill-on-bad-exit=1");
    command_word(c, "--input=0"); /* stdin is rank 0's, as with mpirun; else all get a copy */
    command_word(c, "--quiet");   /* errors it still tells */
    command_shim(c, &backend_srun, j);
}

const backend backend_srun = {
    .name = "srun",
    .rank_variable = "SLURM_PROCID",
    .idle_talk = "lacks support for cpu binding", /* then there was none to switch off */
    .build = build,
};
