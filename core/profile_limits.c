/*
 * profile_limits -- what this device can do: the roofs over the table's rows (Williams, Waterman,
 * Patterson 2009).
 *
 * The best of some runs each of a product and of a copy. On a CPU the product lives in the caches
 * and the copy does not fit into them. This rank's threads do it, beside those of the other ranks
 * of the host, as they compute at the same time: memory is shared, and so is its roof.
 *
 * On a GPU both grow until a run takes long enough to fill it, or there is no room: to a product of
 * 8192 x 8192 matrices on a large card, and a copy of 256 MiB, several times its cache.
 */
#include "core/kernels.h"
#include "core/profile.h"

#include <string.h>

typedef struct trial {
    void (*run)(tensor t[3]); /* t[2] from the others */
    torc_dtype dtype;
    int64_t columns;     /* of the matrices; 0: as many as rows */
    int64_t first, last; /* rows */
    double (*work)(double rows, double columns);
} trial;

#define LONG_ENOUGH 0.02 /* seconds for all runs of a size */
#define FULL 1e-4        /* a run that takes so long keeps a GPU busy; until one does, */
#define GROWTH 8         /* times as many rows */

/* ---- time ---- */

/* The host's clock shows what a device does that the host does not wait for only as stamps. */
static double seconds_of(void (*run)(tensor t[3]), tensor t[3])
{
    const device *d = device_current();
    double began = torc_seconds();
    if (d->stamp)
        d->stamp(0, false);
    run(t);
    if (!d->stamp)
        return torc_seconds() - began;
    d->stamp(1, false);
    profile_wait_for(1);
    return d->between(0, 1);
}

/* ---- a size ---- */

/* A tensor without a handle over memory that the cache of storages does not count. */
static tensor bare(storage *s, torc_dtype dtype, int64_t rows, int64_t columns)
{
    s->bytes = (size_t)(rows * columns) * torc_dtype_size(dtype);
    s->data = device_current()->alloc(s->bytes);
    tensor t = {.ndim = 2, .dtype = dtype, .shape = {rows, columns}, .store = s};
    shape_strides(2, t.shape, t.stride);
    if (s->data) /* its pages are touched, and hold numbers that cost no more than others */
        device_current()->kernels()->fill(&t, 1);
    return t;
}

static void multiply(tensor t[3])
{
    device_current()->kernels()->matmul(&t[2], &t[0], &t[1], NULL, false);
}

static void move(tensor t[3])
{
    device_current()->kernels()->copy(&t[2], &t[0]);
}

static double fastest_run(const trial *r, tensor t[3])
{
    double best = 0, start = torc_seconds();
    for (int n = 0; n < 3 || torc_seconds() - start < LONG_ENOUGH; n++) {
        double took = seconds_of(r->run, t);
        best = n == 0 || took < best ? took : best;
    }
    return best;
}

/* Seconds of the fastest of some runs; the first one of all finds the threads still asleep. 0: no
 * room. */
static double fastest(const trial *r, int64_t rows)
{
    storage s[3] = {0};
    tensor t[3];
    bool room = true;
    for (int i = 0; i < 3 && room; i++) {
        t[i] = r->run == move && i == 1
                   ? t[0]
                   : bare(&s[i], r->dtype, rows, r->columns ? r->columns : rows);
        room = t[i].store->data;
    }
    double best = room ? fastest_run(r, t) : 0;
    for (int i = 0; i < 3; i++)
        if (s[i].data)
            device_current()->release(s[i].data, s[i].bytes);
    return best;
}

/* ---- the limits ---- */

static double flops(double rows, double columns)
{
    return 2 * rows * rows * columns;
}

static double bytes_moved(double rows, double columns)
{
    return 2 * sizeof(float) * rows * columns;
}

/* Work a second, of the best size. */
static double rate(trial r)
{
    double best = 0, took = 0;
    for (int64_t rows = r.first; rows <= r.last && took < FULL; rows *= GROWTH) {
        took = fastest(&r, rows);
        if (took == 0)
            break;
        double now = r.work((double)rows, (double)(r.columns ? r.columns : rows)) / took;
        best = now > best ? now : best;
    }
    return best;
}

const profile_limits *profile_measure(void)
{
    static profile_limits limits;
    if (limits.flops > 0)
        return &limits;
    bool host = device_is_host();
    trial product = {multiply, TORC_F32, 0, host ? 768 : 128, host ? 768 : 8192, flops};
    trial copy = {move, TORC_F32, 4096, host ? 2048 : 32, host ? 2048 : 16384, bytes_moved};
    limits.flops = rate(product);
    product.dtype = TORC_BF16;
    if (device_current()->multiplies(TORC_BF16))
        limits.low_flops = rate(product);
    limits.bytes = rate(copy);
    return &limits;
}
