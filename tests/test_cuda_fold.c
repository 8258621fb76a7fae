/*
 * The sum of several buffers on the GPU, in a given order: the CPU's bits.
 */
#include "tests/cuda_tensors.h"

enum { MOST = 5 };

typedef struct buffers {
    twin of[MOST];
    void *host[MOST], *gpu[MOST];
} buffers;

static buffers buffers_of(torc_dtype dtype, int64_t n, int64_t offset, uint64_t seed)
{
    buffers b;
    for (int i = 0; i < MOST; i++) {
        tensor *t = made_view(made(dtype, SHAPE(n + offset)), SHAPE(n), STRIDES(1), offset);
        b.of[i] = twin_random(t, -15, 15, seed + (uint64_t)i);
        b.host[i] = tensor_data(b.of[i].host);
        b.gpu[i] = tensor_data(b.of[i].gpu);
    }
    return b;
}

static void check_buffers(const buffers *b)
{
    for (int i = 0; i < MOST; i++)
        check_twins(b->of[i], 0);
}

static int16_t only[] = {2}, in_turn[] = {0, 1, FOLD_ADD, 2, FOLD_ADD, 3, FOLD_ADD};
static int16_t halves[] = {0, 1, FOLD_ADD, 2, 3, FOLD_ADD, FOLD_ADD};
static int16_t twice[] = {4, 4, FOLD_ADD, 0, FOLD_ADD};
static int16_t deep[] = {0, 1, 2, 3, 4, FOLD_ADD, FOLD_ADD, FOLD_ADD, FOLD_ADD};
static const fold_order orders[] = {{1, only}, {7, in_turn}, {7, halves}, {5, twice}, {9, deep}};

/* inside: what is added and where it goes are the same buffers. */
static void compare(const fold_order *order, torc_dtype dtype, int64_t n, int64_t offset, int outs,
                    bool inside, bool squared)
{
    buffers in = buffers_of(dtype, n, offset, 1), out = buffers_of(dtype, n, offset, 20);
    const buffers *to = inside ? &in : &out;
    double expected = -1, found = -1;
    cpu_kernels()->fold(order, in.host, to->host, outs, n, dtype, 0.3, squared ? &expected : NULL);
    cuda_kernels.fold(order, in.gpu, to->gpu, outs, n, dtype, 0.3, squared ? &found : NULL);
    check_buffers(&in);
    check_buffers(&out);
    CHECK_NEAR(found, expected, 1e-13 * (1 + fabs(expected)));
}

TEST(orders_and_lengths)
{
    static const int64_t lengths[] = {0, 3, 4, 1023, 8192, 16387};
    for (int order = 0; order < ARRAY_LENGTH(orders); order++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++)
            for (int type = 0; type < 2; type++)
                compare(&orders[order], type ? TORC_F64 : TORC_F32, lengths[i], 0,
                        1 + (order + i) % MOST, i % 2, (i + type) % 2);
}

TEST(from_the_middle_of_a_pack)
{
    for (int64_t offset = 1; offset < 4; offset++)
        for (int order = 0; order < ARRAY_LENGTH(orders); order++)
            compare(&orders[order], order % 2 ? TORC_F64 : TORC_F32, 901, offset, 2, order % 2,
                    true);
}

/* The deepest stack there is. */
TEST(from_right_to_left)
{
    int16_t steps[2 * FOLD_DEPTH - 1];
    for (int i = 0; i < 2 * FOLD_DEPTH - 1; i++)
        steps[i] = (int16_t)(i < FOLD_DEPTH ? i % MOST : FOLD_ADD);
    const fold_order order = {2 * FOLD_DEPTH - 1, steps};
    compare(&order, TORC_F32, 1001, 0, 1, true, false);
    compare(&order, TORC_F64, 1001, 1, 1, false, true);
}

TEST(what_is_not_finite_is_seen)
{
    buffers b = buffers_of(TORC_F32, 5000, 0, 1);
    float nan = NAN, value;
    double squares;
    device_cuda.from_host((float *)b.gpu[1] + 4999, &nan, sizeof nan);
    cuda_kernels.fold(&orders[2], b.gpu, b.gpu, 1, 5000, TORC_F32, 1, &squares);
    device_cuda.to_host(&value, (float *)b.gpu[0] + 4999, sizeof value);
    CHECK(isnan(value) && isnan(squares));
}
