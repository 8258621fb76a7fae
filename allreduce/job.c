/* job -- see job.h. */
#include "allreduce/job.h"

#include "allreduce/trace.h"
#include "core/data/dataset.h"
#include "core/io/checkpoint.h"
#include "core/loss_scale.h"
#include "core/nn/module.h"
#include "core/optim/optimizer.h"
#include "core/peers.h"
#include "core/profile.h"
#include "core/status.h"
#include "core/stop.h"
#include "core/tape.h"

#include <omp.h>
#include <stdlib.h>

#define EXIT_HANG 124

static comm *the_comm;
static comm_gpus *the_gpus;
static bool gpus_asked;

comm *job_comm(torc_site at, const char *op)
{
    if (!the_comm)
        die_at(at, op, "expected to be called between torc_init() and torc_finalize()");
    status_op(STATUS_IDLE, at, op);
    return the_comm;
}

void job_check(torc_site at, const char *op, torc_status status)
{
    if (status == TORC_OK)
        return;
    if (status == TORC_ERR_TIMEOUT) {
        log_line(LOG_ERROR, "%s: %s", op, torc_last_error());
        base_exit(EXIT_HANG);
    }
    die_unless_ok(at, op, status);
}

/* A network that has failed would be waited for in vain. */
static void look_at_gpus(void)
{
    torc_status s = comm_gpus_look(the_gpus);
    if (s != TORC_OK) {
        base_on_breath(NULL);
        job_check((torc_site){0}, "NCCL", s);
    }
}

comm_gpus *job_gpus(torc_site at)
{
    static const char op[] = "torc_ddp";
    char why[256], gpu[64];
    bool alone = base_world()->size == 1 && base_setting_number("TORC_NCCL", 0, -1, 1) < 1;
    if (gpus_asked || device_is_host() || alone)
        return the_gpus;
    gpus_asked = true;
    device_current()->identity(gpu, sizeof gpu);
    job_check(at, op, comm_gpus_open(job_comm(at, op), gpu, &the_gpus, why, sizeof why));
    if (!the_gpus && base_world()->rank == 0)
        log_line(LOG_WARN, "gradients go through the host: %s", why);
    if (the_gpus)
        base_on_breath(look_at_gpus);
    return the_gpus;
}

static void tell_the_others(int code)
{
    if (the_comm)
        comm_abort(the_comm, code);
}

static void reduce(torc_site at, const char *op, double *values, int64_t count, comm_op how)
{
    profile_enter(PROFILE_WAIT, at, op);
    job_check(at, op, comm_allreduce(the_comm, values, (size_t)count, TORC_F64, how, op));
    profile_leave();
}

/* What core/peers.h asks for. */
static void sum_over_ranks(torc_site at, const char *op, double *values, int64_t count)
{
    reduce(at, op, values, count, COMM_SUM);
}

/* The user's own choice, else this rank's share of the host's cores: busy cores make threaded
 * products collapse. */
static int threads_to_use(void)
{
    int usual = getenv("OMP_NUM_THREADS") ? omp_get_max_threads() : comm_cores(the_comm);
    return (int)base_setting_number("TORC_THREADS", usual, 1, 1024);
}

void torc_init(torc_site at, int *argc, char ***argv)
{
    (void)argc; /* taken for the day a launcher hands something over on the command line */
    (void)argv;
    if (the_comm)
        die_at(at, __func__, "called a second time");
    status_op(STATUS_IDLE, at, __func__);
    die_unless_ok(at, __func__, comm_open(&the_comm));
    base_set_world((world){.rank = comm_rank(the_comm),
                           .size = comm_size(the_comm),
                           .local_rank = comm_local_rank(the_comm),
                           .local_size = comm_local_size(the_comm),
                           .place = comm_place(the_comm, comm_rank(the_comm))});
    base_on_exit(tell_the_others);
    peers_set_sum(sum_over_ranks);
    omp_set_num_threads(threads_to_use());
    log_line(LOG_INFO, "rank %d of %d on %s, %d threads, over %s", comm_rank(the_comm),
             comm_size(the_comm), comm_host(the_comm, comm_rank(the_comm)), omp_get_max_threads(),
             comm_backend_name(the_comm));
    profile_start_if_asked();
}

/* Before anything is freed: a trace shows training, not its end. */
static void end_profile(void)
{
    profile_finish();
    if (profile_trace_path())
        trace_write(the_comm, profile_trace_path());
    profile_forget();
}

void torc_finalize(torc_site at)
{
    job_comm(at, __func__);
    checkpoint_finish();
    end_profile();
    data_free_all();
    optimizer_free_all();
    loss_scale_forget();
    module_free_all();
    torc_tape_clear(at);
    base_on_exit(NULL);
    peers_set_sum(NULL);
    stop_forget();
    if (the_gpus) {
        base_on_breath(NULL);
        comm_gpus_close(the_gpus);
    }
    the_gpus = NULL;
    gpus_asked = false;
    comm_close(the_comm);
    the_comm = NULL;
    base_set_world((world){.size = 1, .local_size = 1});
}

int torc_rank(void)
{
    return base_world()->rank;
}

int torc_world_size(void)
{
    return base_world()->size;
}

int torc_local_rank(void)
{
    return base_world()->local_rank;
}

void torc_set_threads(torc_site at, int threads)
{
    if (threads < 1)
        die_at(at, __func__, "expected 1 thread or more, found %d", threads);
    omp_set_num_threads(threads);
}

int torc_threads(void)
{
    return omp_get_max_threads();
}

/* ---- numbers over ranks ---- */

void torc_barrier(torc_site at)
{
    comm *c = job_comm(at, __func__);
    profile_enter(PROFILE_WAIT, at, __func__);
    job_check(at, __func__, comm_barrier(c, __func__));
    profile_leave();
}

double torc_sum_over_ranks(torc_site at, double value)
{
    job_comm(at, __func__);
    reduce(at, __func__, &value, 1, COMM_SUM);
    return value;
}

double torc_max_over_ranks(torc_site at, double value)
{
    job_comm(at, __func__);
    reduce(at, __func__, &value, 1, COMM_MAX);
    return value;
}

double torc_mean_over_ranks(torc_site at, torc_tensor *loss)
{
    double weight = torc_weight(at, loss), sums[2] = {0, weight};
    if (weight > 0) /* a share of nothing may have no value */
        sums[0] = weight * torc_item(at, loss);
    job_comm(at, __func__);
    reduce(at, __func__, sums, 2, COMM_SUM);
    return sums[1] > 0 ? sums[0] / sums[1] : 0;
}
