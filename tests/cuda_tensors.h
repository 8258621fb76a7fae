/*
 * cuda_tensors -- a tensor of the host and its twin on the GPU, for the tests that compare a kernel
 * of the GPU with the CPU's.
 *
 *     twin x = twin_of(made_as(SLICED, TORC_F32, SHAPE(3, 5)));     filled as cpu_tensors.h does
 *     cpu_kernels()->softmax(y.host, x.host, false);
 *     cuda_kernels.softmax(y.gpu, x.gpu, false);
 *     check_twins(y, 1e-6);
 *
 * The CPU does not compute in f16: the host's side of such a twin is f32, with values that f16 has.
 * Its kernels' results are rounded to f16 when they are checked, as the GPU's are once they are
 * computed.
 */
#ifndef TESTS_CUDA_TENSORS_H
#define TESTS_CUDA_TENSORS_H

#include "core/cuda/cuda.h"
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

typedef struct twin {
    tensor *host, *gpu;
} twin;

static inline storage *host_storage(size_t bytes)
{
    storage *s = base_alloc(1, sizeof *s);
    *s = (storage){.data = base_alloc(bytes + 1, 1), .bytes = bytes};
    return s;
}

/* f16 becomes f32; views of the same storage do not notice. */
static inline void widen_host(tensor *t)
{
    size_t n = t->store->bytes / sizeof(uint16_t);
    storage *wide = host_storage(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        ((float *)wide->data)[i] = f16_to_f32(((const uint16_t *)t->store->data)[i]);
    t->store = wide;
    t->dtype = TORC_F32;
}

/* The bytes that a GPU's twin of this dtype has, when it has what the host has. */
static inline storage *twin_bytes(const tensor *host, torc_dtype dtype)
{
    bool narrow = dtype == TORC_F16;
    size_t bytes = host->store->bytes / (narrow ? 2 : 1);
    storage *s = host_storage(bytes);
    for (size_t i = 0; narrow && i < bytes / sizeof(uint16_t); i++)
        ((uint16_t *)s->data)[i] = f16_from_f32(((const float *)host->store->data)[i]);
    if (!narrow && bytes)
        memcpy(s->data, host->store->data, bytes);
    return s;
}

/* What the host has now, on the GPU once more, in memory of its own. Copies the whole storage: what
 * lies between a view's elements shall stay as it is. */
static inline twin twin_again(twin t)
{
    storage *given = twin_bytes(t.host, t.gpu->dtype);
    tensor *gpu = base_alloc(1, sizeof *gpu);
    *gpu = *t.gpu;
    gpu->store = storage_new(given->bytes);
    device_cuda.from_host(gpu->store->data, given->data, given->bytes);
    return (twin){t.host, gpu};
}

static inline twin twin_of(tensor *host)
{
    tensor *gpu = base_alloc(1, sizeof *gpu);
    *gpu = *host;
    if (host->dtype == TORC_F16)
        widen_host(host);
    return twin_again((twin){host, gpu});
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

/* To what the GPU's dtype has. */
static inline void round_host(twin t)
{
    for (int64_t i = 0; t.gpu->dtype == TORC_F16 && i < tensor_numel(t.host); i++)
        set_value(t.host, i, f16_to_f32(f16_from_f32((float)value_at(t.host, i))));
}

/* Every byte of the storage that is no element is the same on both sides, and the elements differ
 * by at most `tolerance` x (1 + |expected|); NaN is only equal to NaN. */
static inline void check_twins_at(twin t, double tolerance, const char *file, int line)
{
    round_host(t);
    storage *store = twin_bytes(t.host, t.gpu->dtype), *expected = twin_bytes(t.host, t.gpu->dtype);
    device_cuda.to_host(store->data, t.gpu->store->data, store->bytes);
    tensor found = *t.gpu;
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
    test_check(!memcmp(store->data, expected->data, store->bytes), file, line,
               "bytes beside the elements of %s were written", tensor_shape_text(&found));
}
#define check_twins(t, tolerance) check_twins_at(t, tolerance, __FILE__, __LINE__)

#endif
