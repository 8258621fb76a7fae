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

typedef struct lesson { /* of plan_learn() */
    size_t bytes;
    const wire_algorithm *by;
} lesson;

#define LESSONS 16
static lesson lessons[LESSONS];
static int learned;

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

const wire_algorithm *plan_algorithm(int i)
{
    return i < ARRAY_LENGTH(algorithms) ? algorithms[i] : NULL;
}

void plan_learn(size_t bytes, const wire_algorithm *by)
{
    if (learned == LESSONS)
        bug("a table of more than %d sizes", LESSONS);
    lessons[learned++] = (lesson){bytes, by};
}

static const wire_algorithm *as_learned(size_t bytes)
{
    for (int i = 0; i < learned; i++)
        if (bytes <= lessons[i].bytes || i == learned - 1)
            return lessons[i].by;
    return NULL;
}

const wire_algorithm *plan_wire(size_t bytes, int hosts)
{
    const wire_algorithm *by = asked_for();
    if (!by)
        by = as_learned(bytes);
    for (int i = 0; !by && i < ARRAY_LENGTH(table); i++)
        if (hosts <= table[i].hosts && bytes <= table[i].bytes)
            by = table[i].by;
    return by;
}

/* Sizes from 4 KiB on, a line where the choice changes. */
void plan_print(int hosts)
{
    const wire_algorithm *last = NULL;
    for (size_t bytes = 4096; bytes <= (size_t)1 << 30; bytes *= 2) {
        const wire_algorithm *by = plan_wire(bytes, hosts);
        if (by != last)
            printf("between %d hosts, slices from %zu KiB: %s\n", hosts,
                   last ? (bytes / 2 >> 10) : 0, by->name);
        last = by;
    }
}
