/*
 * bind -- which cores, which GPU and which NIC a rank gets on its host.
 *
 * With GPUs, rank r takes the r-th, cores of the GPU's own NUMA node, and the NIC behind the same
 * switch: a gradient then leaves the GPU without crossing the link between the packages.
 *
 *     node 0  cores 0-7              node 1  cores 8-15
 *       |-- switch                     |-- switch
 *       |    |-- GPU 0   rank 0: 0-3   |    |-- GPU 2   rank 2: 8-11
 *       |    |-- GPU 1   rank 1: 4-7   |    |-- GPU 3   rank 3: 12-15
 *       |    '-- NIC 0   ranks 0, 1    |    '-- NIC 1   ranks 2, 3
 *
 * Without, cores alone are shared out, and of the ways that keep every rank inside one node, or
 * give it whole nodes, the one is taken that leaves the poorest rank most: all wait for it.
 *
 *     2 nodes of 4   1 rank   0-7                        whole nodes
 *                    3 ranks  0-1 | 2-3 | 4-7            never 2-4, across the border
 *                    5 ranks  0 | 1 | 2-3 | 4-5 | 6-7
 *
 * Planning is a function of a machine and nothing else. A plan is carried out by the shim, on the
 * rank's own host, before it starts the program, which inherits the binding.
 */
#ifndef LAUNCHER_BIND_H
#define LAUNCHER_BIND_H

#include "launcher/machine.h"
#include "launcher/text.h"

/* none: nothing is set at all. numa: a rank may use the whole node, or nodes, that its cores are
 * on. cores: its own cores only. auto: cores, but none where there are more ranks than cores (GPU
 * and NIC are chosen all the same). */
typedef enum bind_how { BIND_AUTO, BIND_NONE, BIND_NUMA, BIND_CORES } bind_how;
bool bind_how_read(const char *word, bind_how *how); /* false: not one of these words */

/* The rank's number among those on its host, and how many they are. */
typedef struct bind_seat {
    int rank, size;
} bind_seat;

typedef struct binding {
    bool bound;                /* else `cpus` is what the process may use anyway */
    cpu_set_t cpus;            /* hardware threads; siblings are never parted */
    int first_node, last_node; /* of the rank's own cores; indices into the machine's */
    int threads;               /* to compute with: own cores, or fewer by quota; 0: nobody knows */
    char gpu[48];              /* as CUDA_VISIBLE_DEVICES would name it; "": none */
    const machine_device *gpu_device, *nic; /* of the machine; NULL: none, or not known */
    int gpu_sharers; /* ranks of this host that have the same GPU, this one included */
} binding;

/* `visible` is the user's CUDA_VISIBLE_DEVICES, whose words then stand for the GPUs; NULL: not
 * set. */
binding bind_plan(const machine *m, const char *visible, bind_seat seat, bind_how how);

/* "cores 0-3, NUMA node 0, GPU 1 (0000:07:00.0), NIC mlx5_0 (0000:05:00.0)" */
void bind_describe(const machine *m, const binding *b, text *out);

/* ---- in the shim: bind_rank.c ---- */

/* How the supervisor's wish comes to the shims: the variables of the options themselves. */
#define BIND_VARIABLE "TORC_BIND"
#define BIND_REPORT_VARIABLE "TORC_REPORT_BINDING"

typedef void bind_listener(void *context, const char *line);

/* For the shim, before it starts the program: plans for this host and this rank's seat there, and
 * binds this process. CUDA_VISIBLE_DEVICES becomes the rank's own GPU, also where it was a list
 * ("2,3,5", GPU-.., MIG-..): rank r of the host has the r-th word (unless TORC_DEVICE is cpu or
 * cuda:N). What the user has not set himself is set: OMP_NUM_THREADS (unless TORC_THREADS is there)
 * and CUDA_DEVICE_ORDER; and where there are several NICs, NCCL_IB_HCA and UCX_NET_DEVICES to the
 * planned one, or, where these do no RDMA, NCCL_SOCKET_IFNAME and Open MPI's btl_tcp_if_include.
 * Failing is no error: `listener` gets one line, as it gets the notices and, where the user asked
 * for it, the plan. */
void bind_as_told(bind_listener *listener, void *context);

/* Its parts. The seat is what mpirun and srun tell each process they start; false where they do
 * not. */
bool bind_find_seat(bind_seat *seat);
void bind_this_process(bind_how how, bind_seat seat, bool report, bind_listener *listener,
                       void *context);

#endif
