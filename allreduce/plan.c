/*
 * plan -- see plan.h. The rows were measured on shaped links of 1 and 10 Gbit/s: two hosts swap
 * whole slices up to where the second latency of a ring costs less than the bytes it saves; more
 * hosts double up to 256 KiB.
 */
#include "allreduce/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const wire_algorithm *const algorithms[] = {&wire_ring, &wire_exchange, &wire_doubling};

typedef struct row {
    int hosts;    /* up to so many */
    size_t bytes; /* up to so long */
    const wire_algorithm *by;
} row;

#define ANY_HOSTS 1000000000
#define ANY_BYTES SIZE_MAX

static const row table[] = {
    {2, (size_t)1 << 20, &wire_exchange},
    {2, ANY_BYTES, &wire_ring},
    {ANY_HOSTS, (size_t)256 << 10, &wire_doubling},
    {ANY_HOSTS, ANY_BYTES, &wire_ring},
};

const wire_algorithm *plan_named(const char *name)
{
    for (int i = 0; i < ARRAY_LENGTH(algorithms); i++)
        if (!strcmp(algorithms[i]->name, name))
            return algorithms[i];
    return NULL;
}

static const wire_algorithm *asked_for(void)
{
    const char *name = getenv("TORC_ALLREDUCE");
    if (!name || !*name)
        return NULL;
    const wire_algorithm *by = plan_named(name);
    if (!by)
        die_at((torc_site){0}, "TORC_ALLREDUCE",
               "expected ring, exchange or doubling, found \"%s\"", name);
    return by;
}

const wire_algorithm *plan_wire(size_t bytes, int hosts)
{
    const wire_algorithm *by = asked_for();
    for (int i = 0; !by && i < ARRAY_LENGTH(table); i++)
        if (hosts <= table[i].hosts && bytes <= table[i].bytes)
            by = table[i].by;
    return by;
}

void plan_print(int hosts)
{
    const row *from = table;
    while (hosts > from->hosts)
        from++;
    for (const row *r = from; r->hosts == from->hosts; r++) {
        if (r->bytes == ANY_BYTES)
            printf("between %d hosts, longer slices: %s\n", hosts, r->by->name);
        else
            printf("between %d hosts, slices up to %zu KiB: %s\n", hosts, r->bytes >> 10,
                   r->by->name);
        if (r == &table[ARRAY_LENGTH(table) - 1])
            break;
    }
}
