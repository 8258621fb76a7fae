/* cores -- see cores.h. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "launcher/cores.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* The lowest-numbered hardware thread of the same core stands for the core. */
static int core_of(int thread)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             thread);
    int first = thread;
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%d", &first) != 1)
            first = thread;
        fclose(f);
    }
    return first >= 0 && first < CPU_SETSIZE ? first : thread;
}

static void list_range(cores *c, int from, int to)
{
    size_t n = strlen(c->list);
    if (n + 16 > sizeof c->list) /* a list for the eye: cut where nobody would read on */
        return;
    if (from == to)
        snprintf(c->list + n, sizeof c->list - n, "%s%d", n ? "," : "", from);
    else
        snprintf(c->list + n, sizeof c->list - n, "%s%d-%d", n ? "," : "", from, to);
}

cores cores_here(void)
{
    cpu_set_t allowed, counted;
    CPU_ZERO(&allowed);
    CPU_ZERO(&counted);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        CPU_SET(0, &allowed); /* more threads than the mask has bits: count one, -n says more */
    cores c = {0};
    int from = -1;
    for (int i = 0; i <= CPU_SETSIZE; i++) {
        bool in = i < CPU_SETSIZE && CPU_ISSET(i, &allowed);
        if (in)
            CPU_SET(core_of(i), &counted);
        if (in && from < 0)
            from = i;
        if (!in && from >= 0) {
            list_range(&c, from, i - 1);
            from = -1;
        }
    }
    c.count = CPU_COUNT(&counted);
    return c;
}
