/*
 * bench_sum -- the task "sum": torc's algorithms, the MPI library's own call, and the floor.
 */
#include "allreduce/bench.h"

#include "allreduce/job.h"

#include <mpi.h>
#include <string.h>

/* torc sums where gradients are born, in the team's window; MPI in memory that the user brought. */
char *bench_data(const bench *b, const bench_method *m)
{
    return m->role == BENCH_TORC ? team_buffer(b->t, b->t->local, 0) : b->private;
}

/* ---- data ---- */

/* A mask of so many low bits that the sum over all ranks stays below 257: up to there bfloat16 has
 * every whole number. (More than 256 ranks: one bit, exact in the other dtypes.) */
static uint32_t mask_of(int ranks)
{
    uint32_t most = ranks <= 256 ? 256u / (uint32_t)ranks : 1;
    return (1u << (31 - __builtin_clz(most + 1))) - 1;
}

/* Scattered (by Knuth's factor), so that no slice or segment looks like another. */
double bench_value(int ranks, int rank, size_t i)
{
    uint32_t mixed = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u * 65536u;
    return (mixed >> 16) & mask_of(ranks);
}

double bench_total(int ranks, size_t i)
{
    double total = 0;
    for (int r = 0; r < ranks; r++)
        total += bench_value(ranks, r, i);
    return total;
}

void bench_fill(bench *b, const bench_method *m, size_t count)
{
    char *data = bench_data(b, m);
    int ranks = comm_size(b->c), me = comm_rank(b->c);
    if (b->o.dtype == TORC_F64)
        for (size_t i = 0; i < count; i++)
            ((double *)data)[i] = bench_value(ranks, me, i);
    else
        for (size_t i = 0; i < count; i++)
            ((float *)data)[i] = (float)bench_value(ranks, me, i);
}

static void clear(bench *b, const bench_method *m, size_t count)
{
    memset(bench_data(b, m), 0, count * torc_dtype_size(b->o.dtype));
}

static const void *result(const bench *b, const bench_method *m)
{
    return bench_data(b, m);
}

/* ---- methods ---- */

void bench_reduce(bench *b, reduction_what what)
{
    bool done = false;
    torc_status s = TORC_OK;
    reduction_start(&b->r, b->t, what);
    for (wait w = wait_start(b->timeout); s == TORC_OK && !done;) {
        s = reduction_poll(&b->r, &done);
        if (s == TORC_OK && !done && !wait_once(&w))
            s = fail(TORC_ERR_TIMEOUT, "%s, %zu elements: not done after %g s", what.name,
                     what.count, b->timeout);
    }
    job_check(TORC_HERE, BENCH_PROGRAM, s);
}

void bench_sum_torc(bench *b, const bench_method *m, size_t count)
{
    bench_reduce(b, (reduction_what){.count = count,
                                     .dtype = b->o.dtype,
                                     .name = m->name,
                                     .algorithm = m->by,
                                     .compress = b->o.compress});
}

bool bench_mpi_runs(void)
{
    int runs = 0;
    MPI_Initialized(&runs);
    return runs;
}

/* As a user calls it: in place, on MPI_COMM_WORLD, whose usual handler ends the job when something
 * goes wrong. MPI was started by comm/mpi.c; a user's OMPI_MCA_... settings are in force. */
void bench_sum_mpi(bench *b, const bench_method *m, size_t count)
{
    MPI_Datatype type = b->o.dtype == TORC_F64 ? MPI_DOUBLE : MPI_FLOAT;
    MPI_Allreduce(MPI_IN_PLACE, bench_data(b, m), (int)count, type, MPI_SUM, MPI_COMM_WORLD);
}

/* Bytes are what counts: doubles are multiplied as twice as many floats. */
static void touch(bench *b, const bench_method *m, size_t count)
{
    int64_t floats = (int64_t)(count * torc_dtype_size(b->o.dtype) / sizeof(float));
    const stretch all = {.g = (float *)bench_data(b, m), .n = floats};
    kernels_of_host()->scale(&all, 1, &(clipping){.factor = 0.5f});
}

static const bench_method methods[] = {
    {"direct", BENCH_TORC, ONE_HOST, NULL, bench_sum_torc},
    {"auto", BENCH_TORC, SEVERAL_HOSTS, NULL, bench_sum_torc},
    {"ring", BENCH_TORC, SEVERAL_HOSTS, &wire_ring, bench_sum_torc},
    {"exchange", BENCH_TORC, SEVERAL_HOSTS, &wire_exchange, bench_sum_torc},
    {"doubling", BENCH_TORC, SEVERAL_HOSTS, &wire_doubling, bench_sum_torc},
    {"mpi", BENCH_PEER, ANYWHERE, NULL, bench_sum_mpi},
    {"floor", BENCH_FLOOR, ANYWHERE, NULL, touch},
};
_Static_assert(ARRAY_LENGTH(methods) <= BENCH_METHODS, "room for the results of a task");

const bench_task bench_sum = {.name = "sum",
                              .method = methods,
                              .methods = ARRAY_LENGTH(methods),
                              .fill = bench_fill,
                              .rest = clear,
                              .result = result,
                              .expected = bench_total};
