/*
 * machine -- what a host is made of, as far as it matters where a rank runs.
 *
 *     nodes    0                        1                        memory with cores of its own
 *     cores    0 1 2 3                  4 5 6 7
 *     PCI      pci0000:00               pci0000:80               what hangs on which root
 *               '-- 00:01.0 switch       '-- 80:01.0 switch
 *                    |-- 02:00.0 GPU          |-- 82:00.0 GPU
 *                    '-- 03:00.0 NIC          '-- 83:00.0 NIC
 *
 * Words
 *   allowed  what this process may use already: its cgroup's, its taskset's, Slurm's cores. Others
 *            are not in the tables at all, so that no plan can go beyond them
 *   core     with all its allowed hardware threads; two ranks never share one while there is a
 *            second
 *   node     a NUMA node that has allowed cores
 *   path     the PCI bridges above a device, root first, as the kernel writes them:
 *            "pci0000:00/0000:00:01.0/". Two devices are the nearer the more of it they share
 *   NIC      a network card; if any card of the host speaks RDMA, only those that do
 *
 * Cores come from hwloc. Devices come from /sys/bus/pci for this very host and from hwloc for a
 * stored one: both know the same, but hwloc takes 25 ms to ask every card (and needs a plugin that
 * is often not installed), the files take 1 ms, and every rank has to pay it.
 */
#ifndef LAUNCHER_MACHINE_H
#define LAUNCHER_MACHINE_H

#include "core/base.h"

#include <sched.h>

enum { BUS_SIZE = 16 };

typedef struct machine_core {
    int node;          /* index into nodes */
    cpu_set_t threads; /* by the kernel's numbers; those above CPU_SETSIZE are not used */
} machine_core;

typedef struct machine_device {
    char bus[BUS_SIZE]; /* 0000:82:00.0; the tables are in this order */
    char name[32];      /* of a NIC: mlx5_0, eth0; "" where it has none */
    char uuid[48];      /* of a GPU: GPU-6a4e...; "" where the driver does not tell */
    char path[160];
    int node; /* index into nodes; -1: not known, or none that is allowed */
    bool rdma;
} machine_device;

typedef struct machine {
    machine_core *cores;         /* [core_count]; neighbours share caches, nodes are contiguous */
    int *nodes;                  /* [node_count]; the kernel's numbers */
    machine_device *gpus, *nics; /* [gpu_count], [nic_count] */
    int core_count, node_count, gpu_count, nic_count;
    double quota; /* cores' worth of time that the cgroup grants; INFINITY: no limit */
    bool here;    /* this very host: a plan for it can be carried out */
} machine;

/* Where a description comes from. {0}: this host; tests describe others. The variables
 * HWLOC_SYNTHETIC and HWLOC_XMLFILE mean what they mean to every program with hwloc. */
typedef struct machine_source {
    const char *synthetic, *xml; /* a text of hwloc's; the name of a file */
    const char *root;            /* in front of /sys and /proc; NULL: "" */
    const cpu_set_t *allowed;    /* fewer than all; NULL: what the kernel says */
} machine_source;

/* False with a sentence in torc_last_error(), and nothing to free, where nothing can be learnt. */
bool machine_read(machine *m, const machine_source *from);
void machine_free(machine *m);

/* Adds the NVIDIA GPUs and the NICs of /sys/bus/pci: machine_pci.c. */
void machine_add_pci(machine *m, const char *root);
/* Whether a folder of /sys/bus/pci/devices is an NVIDIA GPU's, usable or not. */
bool machine_is_gpu(const char *folder);
/* For both readers; keeps the table in order. */
void machine_add_device(machine_device **table, int *count, const machine_device *device);
/* The index of the node that the kernel calls `number`; -1: no node with allowed cores. */
int machine_node(const machine *m, int number);

/* How near two devices are: 0 knows nothing, 1 the same NUMA node, above that a PCI root, and one
 * more for each switch, that they share. */
int machine_nearness(const machine_device *a, const machine_device *b);

/* "0-3,8": threads as the kernel lists them. Cut with "..." where it is too long for `size`. */
void machine_list(const cpu_set_t *set, char *list, size_t size);

#endif
