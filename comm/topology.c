/*
 * topology -- how many of the host's cores a rank may call its own.
 *
 * Ranks on one host may have been bound to cores of their own (mpirun --bind-to core, srun,
 * torcrun), or share one mask because nobody bound them. Nobody has to say which: every rank tells
 * its mask, and a core that k ranks may use counts 1/k to each of them.
 *
 *     cores     0 1 2 3              0 1 2 3              0 1 2 3 4 5
 *     rank 0    x x . .  -> 2        x x x x  -> 2        x x x x . .  -> 1 + 1 + 1/2 + 1/2 = 3
 *     rank 1    . . x x  -> 2        x x x x  -> 2        . . x x x x  -> 3
 *
 * Cores are counted, not hyperthreads: two threads of arithmetic on one core share its vector units
 * and gain nothing.
 */
#include "comm/backend.h"

#include <hwloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the mask of this process ---- */

/* Cores only: caches, NUMA nodes and PCI devices are not asked for, and the loading stays at a few
 * milliseconds. False, with nothing to destroy, where hwloc cannot see the host. */
static bool load_cores(hwloc_topology_t *topology)
{
    if (hwloc_topology_init(topology) != 0)
        return false;
    hwloc_topology_set_all_types_filter(*topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(*topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_load(*topology) == 0)
        return true;
    hwloc_topology_destroy(*topology);
    return false;
}

static void add_core(comm_cores_set *set, hwloc_obj_t core)
{
    int first = hwloc_bitmap_first(core->complete_cpuset);
    if (first >= 0 && first < COMM_MAX_CORES)
        set->bits[first / 64] |= UINT64_C(1) << (first % 64);
}

comm_cores_set comm_cores_allowed(void)
{
    comm_cores_set set = {{0}};
    hwloc_topology_t topology;
    if (!load_cores(&topology))
        return set;
    hwloc_bitmap_t mask = hwloc_bitmap_alloc();
    /* A description of another host (HWLOC_SYNTHETIC) has no binding: all its cores are meant. */
    if (hwloc_get_cpubind(topology, mask, HWLOC_CPUBIND_PROCESS) != 0)
        hwloc_bitmap_fill(mask);
    /* Some virtual machines show processors without saying which core they belong to; "or below"
     * then counts the processors. */
    int depth = hwloc_get_type_or_below_depth(topology, HWLOC_OBJ_CORE);
    for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_depth(topology, depth, core));)
        if (hwloc_bitmap_intersects(core->cpuset, mask))
            add_core(&set, core);
    hwloc_bitmap_free(mask);
    hwloc_topology_destroy(topology);
    return set;
}

/* ---- masks to shares ---- */

static bool has_core(const comm_cores_set *set, int core)
{
    return set->bits[core / 64] >> (core % 64) & 1;
}

int comm_cores_share(const comm_cores_set *sets, int n, int me)
{
    double share = 0;
    for (int core = 0; core < COMM_MAX_CORES; core++) {
        if (!has_core(&sets[me], core))
            continue;
        int users = 0;
        for (int i = 0; i < n; i++)
            users += has_core(&sets[i], core);
        share += 1.0 / users;
    }
    /* Six times 1/6 is a little less than 1 in floating point; that must not cost a core. */
    return (int)max_i64(1, (int64_t)floor(share + 1e-6));
}

/* ---- quotas: a container of 2 cores' time on a host of 64 has the mask of all 64 ---- */

/* cpu.max holds "QUOTA PERIOD" in microseconds, or "max PERIOD". */
static double read_quota(const char *mount, const char *group)
{
    char *path = base_format("%s%s/cpu.max", mount, group);
    double quota = 0, period = 0;
    FILE *f = fopen(path, "r");
    bool limited = f && fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0;
    if (f)
        fclose(f);
    free(path);
    return limited ? quota / period : INFINITY;
}

double comm_cores_quota(const char *mount, const char *group)
{
    char *at = base_strdup(strcmp(group, "/") ? group : "");
    double least = read_quota(mount, at);
    for (char *slash; (slash = strrchr(at, '/'));) {
        *slash = 0;
        least = fmin(least, read_quota(mount, at));
    }
    free(at);
    return least;
}

double comm_cores_my_quota(void)
{
    char line[4096];
    double quota = INFINITY;
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "0::/", 4)) /* version 2's one line */
            quota = comm_cores_quota("/sys/fs/cgroup", line + 3);
    }
    if (f)
        fclose(f);
    return quota;
}
