/*
 * machine_pci -- the GPUs and NICs of this host, from the kernel's files.
 *
 *     /sys/bus/pci/devices/0000:82:00.0  ->  ../../../devices/pci0000:80/0000:80:01.0/0000:82:00.0
 *         class vendor numa_node             '--------- the path -----------'
 *         net/eth0  virtio0/net/eth0  infiniband/mlx5_0
 *     /proc/driver/nvidia/gpus/0000:82:00.0/information
 *         GPU UUID: GPU-6a4e...   Device Minor: 3  ->  /dev/nvidia3
 */
#define _GNU_SOURCE /* cpu_set_t */
#include "launcher/machine.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VENDOR_NVIDIA = 0x10de, CLASS_NETWORK = 0x02, CLASS_DISPLAY = 0x03 };

/* A number as the kernel writes it, 0x030200 or -1; `usual` where there is none. */
static long read_number(const char *folder, const char *name, long usual)
{
    char *path = base_format("%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    long n = usual;
    if (f && fscanf(f, "%li", &n) != 1)
        n = usual;
    if (f)
        fclose(f);
    free(path);
    return n;
}

/* The last part of the first path that matches; false where none does. */
static bool find_name(const char *folder, const char *pattern, char *name, size_t size)
{
    char *path = base_format("%s/%s", folder, pattern);
    glob_t found;
    bool any = glob(path, 0, NULL, &found) == 0;
    if (any)
        snprintf(name, size, "%s", strrchr(found.gl_pathv[0], '/') + 1);
    if (any)
        globfree(&found);
    free(path);
    return any;
}

bool machine_is_gpu(const char *folder)
{
    return read_number(folder, "class", 0) >> 16 == CLASS_DISPLAY &&
           read_number(folder, "vendor", 0) == VENDOR_NVIDIA;
}

/* From where the link leads: what stands between "devices/" and the device itself. */
static void read_path(const char *folder, machine_device *d)
{
    char target[PATH_MAX];
    ssize_t n = readlink(folder, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    const char *start = strstr(target, "devices/pci"), *end = strrchr(target, '/');
    if (start)
        start += strlen("devices/");
    if (start && end > start && end + 1 - start < (ptrdiff_t)sizeof d->path)
        snprintf(d->path, sizeof d->path, "%.*s", (int)(end + 1 - start), start);
}

/* ---- what the driver says ---- */

/* Whether a program could open this GPU. A container that was given one of eight sees all eight on
 * the PCI bus, and often in the driver's list, but only the one in /dev; and in a job of Slurm's
 * all are in /dev, but the cgroup refuses the others, which asking for R_OK notices and F_OK does
 * not. */
static bool is_usable(const char *root, machine_device *d)
{
    char *path = base_format("%s/proc/driver/nvidia/gpus/%s/information", root, d->bus), line[256];
    int minor = -1;
    FILE *f = fopen(path, "re");
    free(path);
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "GPU UUID : %47s", d->uuid) != 1)
            (void)sscanf(line, "Device Minor : %d", &minor);
    if (f)
        fclose(f);
    path = base_format("%s/dev/nvidia%d", root, minor);
    bool there = minor >= 0 && access(path, R_OK | W_OK) == 0;
    free(path);
    return there;
}

/* ---- all ---- */

/* A card's port that leads nowhere is none to choose: "4: ACTIVE" is what an RDMA card says of one
 * that does, "down" what a plain one says of one that does not. Who says nothing is believed. */
static bool is_connected(const char *folder, const machine_device *d)
{
    char *path = d->rdma ? base_format("%s/infiniband/%s/ports/1/state", folder, d->name)
                         : base_format("%s/net/%s/operstate", folder, d->name);
    char word[16] = "";
    FILE *f = fopen(path, "re");
    bool said = f && fscanf(f, "%15s", word) == 1;
    if (f)
        fclose(f);
    free(path);
    return !said || (d->rdma ? word[0] == '4' : strcmp(word, "down") != 0);
}

/* -1 is what the kernel says of every device where there is one node only. */
static int node_in(const machine *m, const char *folder)
{
    long number = read_number(folder, "numa_node", -1);
    return number < 0 && m->node_count == 1 ? 0 : machine_node(m, (int)number);
}

static void add(machine *m, const char *root, const char *folder)
{
    bool gpu = machine_is_gpu(folder);
    machine_device d = {.node = -1};
    if (!gpu && read_number(folder, "class", 0) >> 16 != CLASS_NETWORK)
        return;
    snprintf(d.bus, sizeof d.bus, "%s", strrchr(folder, '/') + 1);
    d.node = node_in(m, folder);
    read_path(folder, &d);
    if (gpu && is_usable(root, &d))
        machine_add_device(&m->gpus, &m->gpu_count, &d);
    if (gpu)
        return;
    d.rdma = find_name(folder, "infiniband/*", d.name, sizeof d.name);
    bool any = d.rdma || find_name(folder, "net/*", d.name, sizeof d.name) ||
               find_name(folder, "virtio*/net/*", d.name, sizeof d.name);
    if (any && is_connected(folder, &d))
        machine_add_device(&m->nics, &m->nic_count, &d);
}

void machine_add_pci(machine *m, const char *root)
{
    char *all = base_format("%s/sys/bus/pci/devices/*", root);
    glob_t found;
    if (glob(all, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++)
            add(m, root, found.gl_pathv[i]);
        globfree(&found);
    }
    free(all);
}
