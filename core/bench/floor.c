/*
 * floor -- what this machine can do at best, by this rank's threads: the roofs over the table's
 * rows (Williams, Waterman, Patterson 2009).
 *
 * Compute: the best of some runs of a product that lives in the caches, in each dtype. Memory: the
 * best of some copies of as many bytes as the pass moves, because what fits into a cache is read
 * from there:
 *
 *     bytes read and written   64 K      1 M      16 M     256 M
 *     found in                 L1, L2    L2       L3       memory      a rate for each power of two
 *
 * A copy writes as much as it reads. A pass that mostly reads can be faster, and a product that is
 * luckier with its shape than the one measured here: then its share is above 100 %.
 */
#include "core/bench/bench.h"

#include "core/kernels.h"
#include "core/ops/autocast.h"

#include <math.h>

enum {
    SIDE = 512,    /* of the product's matrices; a run takes a ms, which others rarely disturb */
    SMALLEST = 12, /* 2^ bytes of a copy */
    LARGEST = 28,
    RUNS = 5, /* of either, at least, */
    LOOKS = 8
};
#define COPYING 0.02 /* and for so many seconds */
#define MULTIPLYING 0.3

static const call here = {{__FILE__, __LINE__}, BENCH_PROGRAM};

/* Ones: numbers that cost no more than others, on pages that were touched. */
static tensor *ones(torc_dtype dtype, int64_t rows, int64_t columns)
{
    tensor *t = tensor_create(&here, dtype, 2, (int64_t[]){rows, columns}, OWNER_HOUSE);
    kernels_here()->fill(t, 1);
    return t;
}

typedef void (*work)(tensor *out, const tensor *in);

static void multiply(tensor *out, const tensor *in)
{
    kernels_here()->matmul(out, in, in, NULL, false);
}

static void copy(tensor *out, const tensor *in)
{
    kernels_here()->copy(out, in);
}

/* Seconds of the fastest of some runs of `run`, each of so many calls that a look at the clock is
 * nothing. */
static double fastest(work run, tensor *out, const tensor *in, int calls, double seconds)
{
    double best = INFINITY, start = torc_seconds();
    for (int n = 0; n < RUNS || torc_seconds() - start < seconds; n++) {
        double began = torc_seconds();
        for (int i = 0; i < calls; i++)
            run(out, in);
        best = fmin(best, (torc_seconds() - began) / calls);
    }
    return best;
}

/* From one matrix to another like it. */
static double measure(work run, torc_dtype dtype, int64_t rows, int64_t columns, int calls,
                      double seconds)
{
    tensor *out = ones(dtype, rows, columns), *in = ones(dtype, rows, columns);
    double best = fastest(run, out, in, calls, seconds);
    tensor_drop(out);
    tensor_drop(in);
    return best;
}

double bench_peak(torc_dtype dtype)
{
    static double peak[TORC_DTYPES];
    if (peak[dtype] == 0)
        peak[dtype] =
            2.0 * SIDE * SIDE * SIDE / measure(multiply, dtype, SIDE, SIDE, 1, MULTIPLYING);
    return peak[dtype];
}

/* The first times that a size is asked for are a look each, of which the best counts: a moment in
 * which others had the processors spoils one of them. */
double bench_copy_rate(int64_t bytes)
{
    static double rate[LARGEST + 1];
    static int looks[LARGEST + 1];
    int power = (int)lround(log2((double)max_i64(bytes, 1)));
    power = power < SMALLEST ? SMALLEST : power > LARGEST ? LARGEST : power;
    int64_t whole = (int64_t)1 << power, floats = whole / 2 / (int64_t)sizeof(float);
    int calls = (int)max_i64(1, ((int64_t)1 << 20) / whole);
    if (looks[power]++ < LOOKS) {
        double seconds = measure(copy, TORC_F32, 1, floats, calls, COPYING);
        rate[power] = fmax(rate[power], (double)whole / seconds);
    }
    return rate[power];
}

double bench_floor(const bench_pass *p, torc_dtype dtype)
{
    return fmax((double)p->flops / bench_peak(dtype), (double)p->bytes / bench_copy_rate(p->bytes));
}

bool bench_has_bf16(void)
{
    bool has = false;
    torc_autocast(TORC_BF16)
    {
        has = autocast_here() == TORC_BF16;
    }
    return has;
}
