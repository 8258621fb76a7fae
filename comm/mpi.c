/*
 * mpi -- bytes between ranks over MPI, whatever launcher started them.
 *
 * Three questions are answered before MPI is asked anything, from the environment alone:
 *   Is there a launcher at all?   If not, `self` serves and MPI is never started.
 *   How many ranks did it promise?   Compared with what MPI finds: a program started with the
 *       mpirun of another MPI, or by an srun without PMIx, is otherwise N copies that each train
 *       alone and write the same files.
 *   Are all ranks on this host?   Then Open MPI need not look for fabrics.
 *
 * Words
 *   step   what one srun starts. The shell of an sbatch script or salloc is no step of several
 *          ranks, although SLURM_NTASKS is set there: that variable is not looked at.
 *
 * Only MPI_Isend, MPI_Irecv and MPI_Test are used after the start, because each of them returns at
 * once: the waiting, with its deadline and its yielding, is comm.c's. Everything travels on
 * duplicates of MPI_COMM_WORLD, one per channel, so that a program's own MPI calls are never met.
 */
#include "comm/backend.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct mpi {
    MPI_Comm world[COMM_CHANNELS];
    bool ours; /* MPI was started here, so it is ended here */
} mpi;

static torc_status check(int code, const char *call)
{
    if (code == MPI_SUCCESS)
        return TORC_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(code, text, &length);
    return fail(TORC_ERR_PEER, "%s: %s", call, text);
}

/* ---- what the launcher says ---- */

typedef struct promise {
    const char *variable;
    int ranks; /* 0: no launcher that tells */
} promise;

static int number_in(const char *variable)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : 0;
}

#define SLURM_TASKS "SLURM_STEP_NUM_TASKS"

/* Launchers may be nested, and the inner one's word counts. mpirun inside a Slurm job, for one,
 * starts its daemons with srun, and their step's number of tasks is the number of hosts: so
 * mpirun's variable is read before Slurm's. */
static promise promised(void)
{
    static const char *const variables[] = {"TORC_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                            SLURM_TASKS};
    for (int i = 0; i < ARRAY_LENGTH(variables); i++)
        if (number_in(variables[i]) > 0)
            return (promise){variables[i], number_in(variables[i])};
    return (promise){NULL, 0};
}

/* Launchers that name a rank without a world size: MPI has to be asked. */
static bool launcher_of_unknown_size(void)
{
    return getenv("PMIX_RANK") || getenv("PMI_RANK") || getenv("MPI_LOCALNRANKS");
}

static bool everyone_is_here(void)
{
    int ranks = number_in("OMPI_COMM_WORLD_SIZE");
    return ranks ? ranks == number_in("OMPI_COMM_WORLD_LOCAL_SIZE")
                 : number_in("SLURM_STEP_NUM_NODES") == 1;
}

/* Calls that MPI allows before its start and after its end. */
static bool mpi_started(void)
{
    int yes = 0;
    MPI_Initialized(&yes);
    return yes;
}

static bool mpi_ended(void)
{
    int yes = 0;
    MPI_Finalized(&yes);
    return yes;
}

/* A launcher of a single rank promises nothing that `self` cannot keep. */
static bool mpi_wanted(void)
{
    promise p = promised();
    return mpi_started() || p.ranks > 1 || (!p.ranks && launcher_of_unknown_size());
}

static torc_status broken(promise p, const char *found)
{
    return fail(TORC_ERR_PEER,
                "%s promises %d ranks, but %s. Start them with `torcrun -n %d`, with the mpirun of "
                "the MPI that the program was built with, or with `srun --mpi=pmix`",
                p.variable, p.ranks, found, p.ranks);
}

/* An srun --mpi=none leaves no trace of a rank but Slurm's own. MPI_Init would end the process,
 * with a page about how to build Slurm. */
static torc_status check_before_start(promise p)
{
    if (p.ranks > 1 && !strcmp(p.variable, SLURM_TASKS) && !launcher_of_unknown_size())
        return broken(p, "srun gave them nothing by which MPI could find the others");
    return TORC_OK;
}

static torc_status check_promise(promise p, int size)
{
    char found[64];
    snprintf(found, sizeof found, "MPI finds %d: they do not all see each other", size);
    return !p.ranks || p.ranks == size ? TORC_OK : broken(p, found);
}

/* ---- joining ---- */

static torc_status start(mpi *m)
{
    if (mpi_ended())
        return fail(TORC_ERR_PEER, "MPI_Finalize() was called before the job was joined");
    if (mpi_started())
        return TORC_OK;
    PASS(check_before_start(promised()));
    /* Probing for fabrics takes 0.2 s of a 0.3 s start; on one host ob1 over shared memory is
     * what would be found. A choice that somebody made stays. */
    if (everyone_is_here() && !getenv("OMPI_MCA_mtl"))
        setenv("OMPI_MCA_pml", "ob1", 0);
    int level;
    m->ours = true;
    return check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread");
}

/* MPI_Comm_dup would wait for the other ranks for ever, and would spin on a core that one of them
 * may need. */
static torc_status duplicate(MPI_Comm *out, double seconds)
{
    MPI_Request request;
    int arrived = 0;
    PASS(check(MPI_Comm_idup(MPI_COMM_WORLD, out, &request), "MPI_Comm_idup"));
    for (wait w = wait_start(seconds); !arrived;) {
        PASS(check(MPI_Test(&request, &arrived, MPI_STATUS_IGNORE), "MPI_Comm_idup"));
        if (!arrived && !wait_once(&w))
            return fail(TORC_ERR_TIMEOUT, "waited %g s for the others to join the job", seconds);
    }
    return check(MPI_Comm_set_errhandler(*out, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

static torc_status join(mpi *m, int *rank, int *size, double seconds)
{
    PASS(start(m));
    PASS(check(MPI_Comm_size(MPI_COMM_WORLD, size), "MPI_Comm_size"));
    PASS(check(MPI_Comm_rank(MPI_COMM_WORLD, rank), "MPI_Comm_rank"));
    PASS(check_promise(promised(), *size));
    for (int i = 0; i < COMM_CHANNELS; i++) {
        torc_status s = duplicate(&m->world[i], seconds);
        if (s != TORC_OK)
            return fail(s, "rank %d of %d %s", *rank, *size, torc_last_error());
    }
    return TORC_OK;
}

/* After a failure MPI stays as it is: MPI_Finalize would wait for ranks that may not come. */
static torc_status mpi_open(void **state, int *rank, int *size, double seconds)
{
    mpi *m = base_alloc(1, sizeof *m);
    torc_status s = join(m, rank, size, seconds);
    if (s == TORC_OK)
        *state = m;
    else
        free(m);
    return s;
}

/* ---- leaving ---- */

static void mpi_close(void *state, bool orderly)
{
    mpi *m = state;
    if (!orderly)
        return; /* MPI_Finalize waits for every rank, and pending transfers still write */
    for (int i = 0; i < COMM_CHANNELS && !mpi_ended(); i++)
        MPI_Comm_free(&m->world[i]);
    if (m->ours && !mpi_ended())
        MPI_Finalize();
    free(m);
}

/* MPI_Abort and not a plain _exit(code): the latter leaves it to mpirun to notice, which takes 2.2
 * s against 0.1 s, prints more, and under srun ends nobody without --kill-on-bad-exit. Its price is
 * a paragraph of Open MPI's on stderr. mpirun's exit code is `code` either way. The ranks are gone
 * at once; mpirun itself stays a second longer now and then, and always where a rank ignores
 * SIGTERM, unless it was started with `--mca odls_base_sigkill_timeout 0`. */
static void mpi_abort(void *state, int code)
{
    (void)state;
    if (!mpi_ended())
        MPI_Abort(MPI_COMM_WORLD, code);
}

/* ---- transfers ---- */

/* An MPI_Request is a pointer in Open MPI and an int in MPICH; either fits into a handle. */
_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request must fit into a handle");

static void *to_handle(MPI_Request request)
{
    void *handle = NULL;
    if (request != MPI_REQUEST_NULL)
        memcpy(&handle, &request, sizeof request);
    return handle;
}

static torc_status mpi_send(void *state, comm_channel channel, const void *buffer, size_t bytes,
                            int to, int tag, void **handle)
{
    mpi *m = state;
    MPI_Request request = MPI_REQUEST_NULL;
    int code = MPI_Isend(buffer, (int)bytes, MPI_BYTE, to, tag, m->world[channel], &request);
    *handle = to_handle(request);
    return check(code, "MPI_Isend");
}

static torc_status mpi_receive(void *state, comm_channel channel, void *buffer, size_t bytes,
                               int from, int tag, void **handle)
{
    mpi *m = state;
    MPI_Request request = MPI_REQUEST_NULL;
    int code = MPI_Irecv(buffer, (int)bytes, MPI_BYTE, from, tag, m->world[channel], &request);
    *handle = to_handle(request);
    return check(code, "MPI_Irecv");
}

static torc_status mpi_test(void *state, void **handle)
{
    (void)state;
    MPI_Request request;
    int arrived = 0;
    memcpy(&request, handle, sizeof request);
    int code = MPI_Test(&request, &arrived, MPI_STATUS_IGNORE);
    *handle = to_handle(request);
    return check(code, "MPI_Test");
}

const comm_backend comm_mpi = {
    .name = "mpi",
    .wanted = mpi_wanted,
    .open = mpi_open,
    .close = mpi_close,
    .abort = mpi_abort,
    .send = mpi_send,
    .receive = mpi_receive,
    .test = mpi_test,
};
