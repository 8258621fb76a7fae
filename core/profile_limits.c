/*
 * profile_limits -- what this machine can do: the roofs over the table's rows (Williams, Waterman,
 * Patterson 2009).
 *
 * The best of some runs each of a product that lives in the caches and of a copy that does not fit
 * into them, by this rank's threads. Ranks of a host measure at the same time, as they compute at
 * the same time: memory is shared, and so is its roof.
 */
#include "core/kernels.h"
#include "core/profile.h"

#include <string.h>

#define SIDE 768                  /* of the product's matrices: 0.9 GF, some ms */
#define COPIED ((int64_t)8 << 20) /* f32 elements: 32 MiB from, 32 MiB to */
#define LONG_ENOUGH 0.02          /* seconds for each */

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

static void product(tensor t[3])
{
    device_current()->kernels()->matmul(&t[2], &t[0], &t[1], NULL, false);
}

static void stream(tensor t[3])
{
    device_current()->kernels()->copy(&t[2], &t[0]);
}

/* Seconds of the fastest of some runs; the first one of all finds the threads still asleep. */
static double fastest(void (*run)(tensor t[3]), torc_dtype dtype, int64_t rows, int64_t columns)
{
    storage s[3] = {0};
    tensor t[3];
    bool room = true;
    double best = 0, start = torc_seconds();
    for (int i = 0; i < 3; i++) {
        t[i] = run == stream && i == 1 ? t[0] : bare(&s[i], dtype, rows, columns);
        room = room && t[i].store->data;
    }
    for (int n = 0; room && (n < 3 || torc_seconds() - start < LONG_ENOUGH); n++) {
        double began = torc_seconds();
        run(t);
        double took = torc_seconds() - began;
        best = n == 0 || took < best ? took : best;
    }
    for (int i = 0; i < 3; i++)
        if (s[i].data)
            device_current()->release(s[i].data, s[i].bytes);
    return best;
}

static double product_rate(torc_dtype dtype)
{
    double seconds = fastest(product, dtype, SIDE, SIDE);
    return seconds > 0 ? 2.0 * SIDE * SIDE * SIDE / seconds : 0;
}

const profile_limits *profile_measure(void)
{
    static profile_limits limits;
    if (limits.flops > 0)
        return &limits;
    limits.flops = product_rate(TORC_F32);
    if (device_current()->multiplies_bf16())
        limits.low_flops = product_rate(TORC_BF16);
    double copy = fastest(stream, TORC_F32, COPIED / 4096, 4096);
    limits.bytes = copy > 0 ? 2.0 * (double)COPIED * sizeof(float) / copy : 0;
    return &limits;
}
