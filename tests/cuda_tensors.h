/*
 * cuda_tensors -- a tensor of the host and its twin on the GPU, for the tests that compare a kernel
 * of the GPU with the CPU's.
 *
 *     twin x = twin_of(made_as(SLICED, TORC_F32, SHAPE(3, 5)));     filled as cpu_tensors.h does
 *     cpu_kernels()->softmax(y.host, x.host, false);
 *     cuda_kernels.softmax(y.gpu, x.gpu, false);
 *     check_twins(y, 1e-6);
 */
#ifndef TESTS_CUDA_TENSORS_H
#define TESTS_CUDA_TENSORS_H

#include "core/cuda/cuda.h"
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

typedef struct twin {
    tensor *host, *gpu;
} twin;

/* Copies the whole storage: what lies between a view's elements shall stay as it is. */
static inline twin twin_of(tensor *host)
{
    twin t = {host, base_alloc(1, sizeof *host)};
    *t.gpu = *host;
    t.gpu->store = storage_new(host->store->bytes);
    device_cuda.from_host(t.gpu->store->data, host->store->data, host->store->bytes);
    return t;
}

static inline twin twin_random(tensor *host, double low, double high, uint64_t seed)
{
    set_random(host, low, high, seed);
    return twin_of(host);
}

/* Gives the GPU's memory back, for the next twin: every launch looks at all blocks there are. */
static inline void twin_drop(twin t)
{
    storage_release(t.gpu->store);
}

/* Every byte of the storage that is no element is the same on both sides, and the elements differ
 * by at most `tolerance` x (1 + |expected|); NaN is only equal to NaN. */
static inline void check_twins_at(twin t, double tolerance, const char *file, int line)
{
    storage *store = base_alloc(1, sizeof *store);
    *store =
        (storage){.data = base_alloc(t.host->store->bytes + 1, 1), .bytes = t.host->store->bytes};
    device_cuda.to_host(store->data, t.gpu->store->data, store->bytes);
    tensor found = *t.host;
    found.store = store;
    for (int64_t i = 0; i < tensor_numel(&found); i++) {
        double f = value_at(&found, i), e = value_at(t.host, i);
        bool near = f == e || (isnan(f) && isnan(e)) || fabs(f - e) <= tolerance * (1 + fabs(e));
        test_check(near, file, line, "element %lld of %s: expected %.9g, found %.9g", (long long)i,
                   tensor_shape_text(&found), e, f);
        if (!near)
            break;
    }
    for (int64_t i = 0; i < tensor_numel(t.host); i++)
        set_value(&found, i, value_at(t.host, i));
    test_check(!memcmp(store->data, t.host->store->data, store->bytes), file, line,
               "bytes beside the elements of %s were written", tensor_shape_text(&found));
}
#define check_twins(t, tolerance) check_twins_at(t, tolerance, __FILE__, __LINE__)

#endif
