/* devices -- see devices.h. */
#include "launcher/devices.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count_files(const char *pattern)
{
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return 0;
    int n = (int)found.gl_pathc;
    globfree(&found);
    return n;
}

/* The list is read as CUDA reads it: what stands behind a -1 is hidden, and "" or "-1" hides all.
 * "NoDevFiles" is what some batch systems write for none. */
static int listed(const char *list)
{
    int n = 0;
    if (!*list || !strcmp(list, "NoDevFiles"))
        return 0;
    for (const char *at = list;; at++) {
        if (!strncmp(at, "-1", 2))
            return n;
        n++;
        at += strcspn(at, ",");
        if (!*at)
            return n;
    }
}

/* In a job of Slurm's all are in /dev, and the cgroup may refuse some. */
static int usable_gpus(void)
{
    glob_t found;
    int n = 0;
    if (glob("/dev/nvidia[0-9]*", 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        n += access(found.gl_pathv[i], R_OK | W_OK) == 0;
    globfree(&found);
    return n;
}

int devices_gpus(void)
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    return list ? listed(list) : usable_gpus();
}

static bool has_cores(const char *path)
{
    FILE *f = fopen(path, "re");
    int core;
    bool any = f && fscanf(f, "%d", &core) == 1;
    if (f)
        fclose(f);
    return any;
}

int devices_numa_nodes(void)
{
    glob_t found;
    int n = 0;
    if (glob("/sys/devices/system/node/node[0-9]*/cpulist", 0, NULL, &found) != 0)
        return 1;
    for (size_t i = 0; i < found.gl_pathc; i++)
        n += has_cores(found.gl_pathv[i]);
    globfree(&found);
    return n > 0 ? n : 1;
}

bool devices_fabric(void)
{
    return count_files("/sys/class/infiniband/*") || count_files("/dev/hfi1_[0-9]*") ||
           count_files("/dev/cxi[0-9]*");
}
