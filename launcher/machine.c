/* machine -- see machine.h. */
#define _GNU_SOURCE /* cpu_set_t */
#include "launcher/machine.h"

#include <hwloc.h>
#include <hwloc/glibc-sched.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

int machine_node(const machine *m, int number)
{
    for (int i = 0; i < m->node_count; i++)
        if (m->nodes[i] == number)
            return i;
    return -1;
}

static int add_node(machine *m, int number)
{
    int known = machine_node(m, number);
    if (known >= 0)
        return known;
    m->nodes = base_grow(m->nodes, (size_t)m->node_count + 1, sizeof *m->nodes);
    m->nodes[m->node_count] = number;
    return m->node_count++;
}

void machine_add_device(machine_device **table, int *count, const machine_device *device)
{
    *table = base_grow(*table, (size_t)*count + 1, sizeof **table);
    int at = (*count)++;
    for (; at > 0 && strcmp((*table)[at - 1].bus, device->bus) > 0; at--)
        (*table)[at] = (*table)[at - 1];
    (*table)[at] = *device;
}

/* A board for remote control, or for the operators' own network, is no way for gradients. */
static void keep_fastest_nics(machine *m)
{
    int fast = 0;
    for (int i = 0; i < m->nic_count; i++)
        fast += m->nics[i].rdma;
    if (fast == 0)
        return;
    fast = 0;
    for (int i = 0; i < m->nic_count; i++)
        if (m->nics[i].rdma)
            m->nics[fast++] = m->nics[i];
    m->nic_count = fast;
}

/* ---- cores ---- */

static void add_core(machine *m, hwloc_topology_t t, hwloc_obj_t core, const cpu_set_t *allowed)
{
    machine_core c = {0};
    hwloc_cpuset_to_glibc_sched_affinity(t, core->cpuset, &c.threads, sizeof c.threads);
    if (allowed)
        CPU_AND(&c.threads, &c.threads, allowed);
    if (CPU_COUNT(&c.threads) == 0)
        return;
    c.node = add_node(m, (int)hwloc_bitmap_first(core->nodeset));
    m->cores = base_grow(m->cores, (size_t)m->core_count + 1, sizeof *m->cores);
    m->cores[m->core_count++] = c;
}

static void add_cores(machine *m, hwloc_topology_t t, const cpu_set_t *chosen)
{
    cpu_set_t allowed;
    hwloc_bitmap_t mask = hwloc_bitmap_alloc();
    CPU_ZERO(&allowed);
    if (!chosen && m->here && mask && hwloc_get_cpubind(t, mask, HWLOC_CPUBIND_PROCESS) == 0) {
        hwloc_cpuset_to_glibc_sched_affinity(t, mask, &allowed, sizeof allowed);
        chosen = &allowed;
    }
    hwloc_bitmap_free(mask);
    /* hwloc's order follows its tree, of which a node is a part: the cores of one stay together.
     * Some virtual machines show processors without saying which core they belong to; "or below"
     * then takes the processors. */
    int depth = hwloc_get_type_or_below_depth(t, HWLOC_OBJ_CORE);
    for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_depth(t, depth, core));)
        add_core(m, t, core, chosen);
}

/* ---- devices of a stored host ---- */

static void print_bus(char *bus, const struct hwloc_pcidev_attr_s *a)
{
    snprintf(bus, BUS_SIZE, "%04x:%02x:%02x.%01x", a->domain & 0xffffu, a->bus, a->dev, a->func);
}

/* The bridges above `object`, root first, in the kernel's words. */
static void write_path(hwloc_obj_t object, char *path, size_t size)
{
    hwloc_obj_t above = object->parent;
    if (!above || above->type != HWLOC_OBJ_BRIDGE)
        return;
    write_path(above, path, size);
    size_t n = strlen(path);
    const struct hwloc_bridge_attr_s *b = &above->attr->bridge;
    char bus[BUS_SIZE];
    print_bus(bus, &b->upstream.pci);
    if (b->upstream_type == HWLOC_OBJ_BRIDGE_PCI)
        snprintf(path + n, size - n, "%s/", bus);
    else
        snprintf(path + n, size - n, "pci%04x:%02x/", b->downstream.pci.domain & 0xffffu,
                 b->downstream.pci.secondary_bus);
}

/* The operating system's names of a card: the verbs' is the one that communication libraries
 * take. */
static void read_names(hwloc_obj_t object, machine_device *d)
{
    for (hwloc_obj_t o = object->io_first_child; o; o = o->next_sibling) {
        bool verbs =
            o->type == HWLOC_OBJ_OS_DEVICE && o->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
        bool net = o->type == HWLOC_OBJ_OS_DEVICE && o->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK;
        if (verbs || (net && !d->rdma))
            snprintf(d->name, sizeof d->name, "%s", o->name);
        d->rdma |= verbs;
    }
}

/* The node of all the cores that a device is as near to as to any; -1 where these are of several.
 * (hwloc's own nodeset also counts memory of other kinds, which has no cores.) */
static int node_of(const machine *m, hwloc_topology_t t, hwloc_obj_t device)
{
    hwloc_obj_t above = hwloc_get_non_io_ancestor_obj(t, device);
    cpu_set_t near, both;
    int node = -1;
    hwloc_cpuset_to_glibc_sched_affinity(t, above->cpuset, &near, sizeof near);
    for (int i = 0; i < m->core_count; i++) {
        CPU_AND(&both, &near, &m->cores[i].threads);
        if (CPU_COUNT(&both) > 0 && node >= 0 && node != m->cores[i].node)
            return -1;
        if (CPU_COUNT(&both) > 0)
            node = m->cores[i].node;
    }
    return node;
}

static void add_devices(machine *m, hwloc_topology_t t)
{
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(t, o));) {
        const struct hwloc_pcidev_attr_s *a = &o->attr->pcidev;
        bool gpu = a->vendor_id == 0x10de && a->class_id >> 8 == 3;
        machine_device d = {.node = node_of(m, t, o)};
        print_bus(d.bus, a);
        write_path(o, d.path, sizeof d.path);
        read_names(o, &d);
        if (gpu)
            machine_add_device(&m->gpus, &m->gpu_count, &d);
        else if (a->class_id >> 8 == 2)
            machine_add_device(&m->nics, &m->nic_count, &d);
    }
}

/* ---- quotas: a container of 2 cores' time on a host of 64 has the mask of all 64 ---- */

/* cpu.max holds "QUOTA PERIOD" in microseconds, or "max PERIOD". */
static double read_quota(const char *root, const char *group)
{
    char *path = base_format("%s/sys/fs/cgroup%s/cpu.max", root, group);
    double quota, period;
    FILE *f = fopen(path, "re");
    bool limited = f && fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0;
    if (f)
        fclose(f);
    free(path);
    return limited ? quota / period : INFINITY;
}

/* The least of the group's own limit and of those above it. */
static double find_quota(const char *root)
{
    char *path = base_format("%s/proc/self/cgroup", root), line[4096];
    double least = read_quota(root, "");
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::/", 4)) /* version 2's one line */
            continue;
        for (char *slash; (slash = strrchr(line + 3, '/')) && slash[1]; *slash = 0)
            least = fmin(least, read_quota(root, line + 3));
    }
    if (f)
        fclose(f);
    free(path);
    return least;
}

/* ---- all of it ---- */

static bool load(hwloc_topology_t *t, const machine_source *from, bool devices)
{
    if (hwloc_topology_init(t) != 0)
        return false;
    hwloc_topology_set_all_types_filter(*t, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(*t, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    /* What NUMA nodes hang on: without these all nodes of a package would be one. */
    hwloc_topology_set_type_filter(*t, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
    hwloc_topology_set_type_filter(*t, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    if (devices)
        hwloc_topology_set_io_types_filter(*t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    bool fine = (!from->synthetic || hwloc_topology_set_synthetic(*t, from->synthetic) == 0) &&
                (!from->xml || hwloc_topology_set_xml(*t, from->xml) == 0) &&
                hwloc_topology_load(*t) == 0;
    if (!fine)
        hwloc_topology_destroy(*t);
    return fine;
}

bool machine_read(machine *m, const machine_source *from)
{
    const char *root = from->root ? from->root : "";
    hwloc_topology_t t;
    *m = (machine){0};
    if (!load(&t, from, from->xml || getenv("HWLOC_XMLFILE")))
        return fail(TORC_ERR_IO, "hwloc cannot see the cores of this host") == TORC_OK;
    m->here = hwloc_topology_is_thissystem(t);
    add_cores(m, t, from->allowed);
    add_devices(m, t);
    hwloc_topology_destroy(t);
    if (m->here || from->root)
        machine_add_pci(m, root);
    keep_fastest_nics(m);
    m->quota = m->here || from->root ? find_quota(root) : INFINITY;
    if (m->core_count > 0)
        return true;
    machine_free(m);
    return fail(TORC_ERR_IO, "this process may use none of the host's cores") == TORC_OK;
}

void machine_free(machine *m)
{
    free(m->cores);
    free(m->nodes);
    free(m->gpus);
    free(m->nics);
    *m = (machine){0};
}

/* ---- questions ---- */

int machine_nearness(const machine_device *a, const machine_device *b)
{
    int shared = 0;
    for (int i = 0; a->path[i] && a->path[i] == b->path[i]; i++)
        shared += a->path[i] == '/';
    return shared > 0 ? 1 + shared : a->node >= 0 && a->node == b->node;
}

void machine_list(const cpu_set_t *set, char *list, size_t size)
{
    size_t n = 0;
    list[0] = 0;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, set))
            continue;
        int first = i;
        while (i + 1 < CPU_SETSIZE && CPU_ISSET(i + 1, set))
            i++;
        if (n + 16 > size) {
            snprintf(list + n, size - n, "...");
            return;
        }
        n += (size_t)snprintf(list + n, size - n, "%s%d", n ? "," : "", first);
        if (i > first)
            n += (size_t)snprintf(list + n, size - n, "-%d", i);
    }
}
