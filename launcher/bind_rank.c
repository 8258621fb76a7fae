/* bind_rank -- a plan of bind.c carried out, in the shim of a rank. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "launcher/bind.h"
#include "launcher/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the seat ---- */

static int number_in(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    long n = text ? strtol(text, &end, 10) : -1;
    return text && end > text && !*end && n >= 0 && n < 1000000 ? (int)n : -1;
}

/* How many tasks node `node` of a step has by "4(x2),3": 4, 4, 3. 0 where the list ends before. */
static int tasks_on(const char *list, int node)
{
    int tasks, times, length;
    for (const char *at = list; sscanf(at, "%d%n", &tasks, &length) == 1; at++) {
        at += length;
        times = 1;
        if (sscanf(at, "(x%d)%n", &times, &length) == 1)
            at += length;
        if (node < times)
            return tasks;
        node -= times;
        if (*at != ',')
            break;
    }
    return 0;
}

bool bind_find_seat(bind_seat *seat)
{
    const char *tasks = getenv("SLURM_STEP_TASKS_PER_NODE");
    *seat = (bind_seat){number_in("OMPI_COMM_WORLD_LOCAL_RANK"),
                        number_in("OMPI_COMM_WORLD_LOCAL_SIZE")};
    if (seat->size < 0 && tasks) /* srun; under mpirun in a batch job the variables are the job's */
        *seat = (bind_seat){number_in("SLURM_LOCALID"), tasks_on(tasks, number_in("SLURM_NODEID"))};
    return seat->rank >= 0 && seat->rank < seat->size;
}

/* ---- carrying out ---- */

/* The user himself says which GPU, or none: of the one that is left to it a program would see
 * number 0 only. */
static bool names_its_gpu(void)
{
    const char *device = getenv("TORC_DEVICE");
    return device && (!strcmp(device, "cpu") || !strncmp(device, "cuda:", 5));
}

/* A list of the user's, or Slurm's, becomes the one word of this rank. CUDA counts the fastest GPU
 * first unless told to follow the PCI bus, as the plan does; a user's own numbers stay in the order
 * in which he counts. */
static void hand_on_gpu(const binding *b, const char *visible)
{
    if (!*b->gpu || names_its_gpu())
        return;
    if (!visible)
        setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    setenv("CUDA_VISIBLE_DEVICES", b->gpu, 1);
}

static void set_word(const char *variable, const char *before, const char *name, const char *behind)
{
    char *value = base_format("%s%s%s", before, name, behind);
    setenv(variable, value, 0); /* what the user has set stays */
    free(value);
}

/* A card without RDMA is one to choose only beside others of its network: a rank that went another
 * way than those it talks to would not find them. */
static bool has_twin(const machine *m, const machine_device *nic)
{
    bool any = false;
    for (int i = 0; i < m->nic_count; i++)
        any = any || (&m->nics[i] != nic && net_same(nic->name, m->nics[i].name));
    return any;
}

/* "=" is NCCL's way to say that the name is all of it, not the beginning of mlx5_10. */
static void hand_on_nic(const machine *m, const binding *b)
{
    const machine_device *nic = b->nic;
    if (!nic || !*nic->name || m->nic_count < 2)
        return;
    if (nic->rdma) {
        set_word("NCCL_IB_HCA", "=", nic->name, "");
        set_word("UCX_NET_DEVICES", "", nic->name, ":1");
    } else if (has_twin(m, nic)) {
        set_word("NCCL_SOCKET_IFNAME", "=", nic->name, "");
        set_word("OMPI_MCA_btl_tcp_if_include", "", nic->name, "");
    }
}

static void set_environment(const machine *m, const binding *b, const char *visible)
{
    char number[16];
    snprintf(number, sizeof number, "%d", b->threads);
    if (b->threads > 0 && !getenv("TORC_THREADS"))
        setenv("OMP_NUM_THREADS", number, 0);
    hand_on_gpu(b, visible);
    hand_on_nic(m, b);
}

/* A listener and the line that is being written for it. */
typedef struct voice {
    bind_listener *tell;
    void *context;
} voice;

static void tell(const voice *v, text *line)
{
    text_add(line, "", 1); /* a C string */
    v->tell(v->context, line->bytes);
    text_free(line);
}

static void notice_sharing(const binding *b, bind_seat seat, const voice *v)
{
    text line = {0};
    if (b->gpu_sharers < 2 || seat.rank > 0) /* the first rank of the host speaks for all */
        return;
    text_format(&line, "%d ranks of this host share GPU %s: there are fewer GPUs than ranks",
                b->gpu_sharers, b->gpu);
    tell(v, &line);
}

static void carry_out(const machine *m, const binding *b, const char *visible, const voice *v)
{
    text line = {0};
    if (!m->here) /* HWLOC_SYNTHETIC and its like: a plan for the eye */
        return;
    set_environment(m, b, visible);
    if (!b->bound || sched_setaffinity(0, sizeof b->cpus, &b->cpus) == 0)
        return;
    text_format(&line, "cannot bind to the planned cores, going on without: %s", strerror(errno));
    tell(v, &line);
}

void bind_this_process(bind_how how, bind_seat seat, bool report, bind_listener *listener,
                       void *context)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    voice v = {listener, context};
    text line = {0};
    machine m;
    if (how == BIND_NONE && !report)
        return;
    if (!machine_read(&m, &(machine_source){0})) {
        text_format(&line, "not bound: %s", torc_last_error());
        tell(&v, &line);
        return;
    }
    binding b = bind_plan(&m, visible, seat, how);
    notice_sharing(&b, seat, &v);
    if (report) {
        bind_describe(&m, &b, &line);
        tell(&v, &line);
    }
    carry_out(&m, &b, visible, &v);
    machine_free(&m);
}

void bind_as_told(bind_listener *listener, void *context)
{
    const char *word = getenv(BIND_VARIABLE);
    bool report = getenv(BIND_REPORT_VARIABLE) != NULL;
    bind_how how = BIND_AUTO;
    bind_seat seat;
    if (word)
        bind_how_read(word, &how); /* the supervisor has checked it */
    if (bind_find_seat(&seat))
        bind_this_process(how, seat, report, listener, context);
    else if (report)
        listener(context, "not bound: nobody says how many ranks are on this host");
}
