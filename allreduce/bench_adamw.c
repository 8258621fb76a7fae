/*
 * bench_adamw -- the task "adamw": gradients are added over the ranks, and parameters updated.
 *
 *     direct    sum, stored into all gradients; then every rank updates all parameters
 *     sharded   every rank adds its slice and updates it, a piece at a time, in parameters that the
 *               host shares: the steps of torc_ddp(.shard_optimizer = true), see shard.h
 *     mpi       MPI_Allreduce; then every rank updates all parameters
 *
 * Adam divides a gradient by its own size, so that a wrong sum would hardly show: the check uses an
 * eps as large as the gradients. In the timed steps, whose gradients are zero, averages that forget
 * almost nothing and a tiny weight decay keep all numbers away from the denormal ones.
 */
#include "allreduce/bench.h"

#include <math.h>

/* Floats: what is added stays in L2 until it is used, as in core/optim/optimizer.c. */
#define PIECE 16384

static const float keep = 0.999999f, decay = 1e-6f, eps = 100;

static adam_step first_step(void)
{
    return (adam_step){.lr = 1,
                       .beta1 = keep,
                       .beta2 = keep,
                       .eps = eps,
                       .weight_decay = decay,
                       .decoupled = true,
                       .bias1 = 1 - (double)keep,
                       .bias2 = 1 - (double)keep};
}

/* ---- methods ---- */

static void update(const bench *b, const bench_method *m, size_t count)
{
    stretch all = {b->p, (float *)bench_data(b, m), b->m, b->v, (int64_t)count};
    kernels_here()->adam(&all, 1, first_step(), NULL);
}

static void torc_and_adamw(bench *b, const bench_method *m, size_t count)
{
    bench_sum_torc(b, m, count);
    update(b, m, count);
}

static void mpi_and_adamw(bench *b, const bench_method *m, size_t count)
{
    bench_sum_mpi(b, m, count);
    update(b, m, count);
}

static float *shared_parameters(const bench *b)
{
    return (float *)team_buffer(b->t, 0, b->t->buffers);
}

static void update_slice(const bench *b, size_t count)
{
    size_t first, end;
    _Alignas(64) float g[PIECE];
    reduction_slice(b->t, count, TORC_F32, &first, &end);
    for (size_t at = first, n; at < end; at += n) {
        n = end - at < PIECE ? end - at : PIECE;
        reduction_add(b->t, at * sizeof *g, (int64_t)n, TORC_F32, 1, g);
        stretch piece = {shared_parameters(b) + at, g, b->m + at, b->v + at, (int64_t)n};
        kernels_here()->adam(&piece, 1, first_step(), NULL);
    }
}

/* The last one moves nothing: all have updated what is theirs. */
static void sharded_adamw(bench *b, const bench_method *m, size_t count)
{
    bench_reduce(b, (reduction_what){
                        .count = count, .dtype = TORC_F32, .name = m->name, .keep_slices = true});
    update_slice(b, count);
    bench_reduce(b, (reduction_what){.dtype = TORC_F32, .name = "updated parameters"});
}

/* ---- data ---- */

static float *parameters_of(const bench *b, const bench_method *m)
{
    return m->once == sharded_adamw ? shared_parameters(b) : b->p;
}

/* Of shared parameters, those that are this rank's. */
static void set(bench *b, const bench_method *m, size_t count, float moments)
{
    float *p = parameters_of(b, m);
    size_t first = 0, end = count;
    if (p != b->p)
        reduction_slice(b->t, count, TORC_F32, &first, &end);
    for (size_t i = first; i < end; i++) {
        p[i] = 1;
        b->m[i] = b->v[i] = moments;
    }
}

static void fill(bench *b, const bench_method *m, size_t count)
{
    bench_fill(b, m, count);
    set(b, m, count, 0);
}

static void rest(bench *b, const bench_method *m, size_t count)
{
    bench_sum.rest(b, m, count);
    set(b, m, count, 1);
}

static const void *result(const bench *b, const bench_method *m)
{
    return parameters_of(b, m);
}

/* The first step from p = 1, m = v = 0: the corrected averages are g and g^2. */
static double expected(int ranks, size_t i)
{
    double g = bench_total(ranks, i);
    return 1 - decay - g / (fabs(g) + eps);
}

static const bench_method methods[] = {
    {"direct + AdamW", BENCH_TORC, ONE_HOST, NULL, torc_and_adamw},
    {"auto + AdamW", BENCH_TORC, SEVERAL_HOSTS, NULL, torc_and_adamw},
    {"sharded + AdamW", BENCH_TORC, ANYWHERE, NULL, sharded_adamw},
    {"mpi + AdamW", BENCH_PEER, ANYWHERE, NULL, mpi_and_adamw},
};
_Static_assert(ARRAY_LENGTH(methods) <= BENCH_METHODS, "room for the results of a task");

const bench_task bench_adamw = {.name = "adamw",
                                .method = methods,
                                .methods = ARRAY_LENGTH(methods),
                                .fill = fill,
                                .rest = rest,
                                .result = result,
                                .expected = expected,
                                .tolerance = 1e-4};
