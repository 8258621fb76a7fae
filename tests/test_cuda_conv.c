/*
 * conv2d of the GPU and its gradients against the CPU's: strides, padding, dilation, groups, both
 * orders of channels, packs and single channels, several tiles and parts, every dtype, activations.
 */
#include "tests/cuda_tensors.h"
#include "tests/images.h"

typedef struct sizes {
    int64_t n, c, h, w, o;
    window how; /* kernel, stride, padding, dilation, groups */
} sizes;

static const sizes cases[] = {
    {2, 1, 9, 8, 5, {3, 1, 0, 1, 1}},    {3, 4, 7, 9, 6, {3, 1, 1, 1, 1}},
    {2, 3, 12, 11, 20, {3, 2, 1, 1, 1}}, {2, 8, 10, 10, 4, {5, 3, 2, 1, 1}},
    {1, 6, 13, 12, 9, {3, 2, 2, 2, 3}},  {2, 16, 6, 6, 32, {1, 1, 0, 1, 1}},
    {2, 5, 8, 8, 5, {3, 1, 1, 1, 5}},    {1, 18, 5, 5, 17, {3, 1, 1, 1, 1}},
    {2, 2, 5, 5, 3, {1, 2, 1, 1, 1}},    {0, 3, 6, 6, 4, {3, 1, 1, 1, 1}},
    {2, 32, 7, 6, 16, {3, 1, 0, 1, 2}},  {1, 2, 20, 20, 3, {3, 4, 0, 3, 1}},
};

/* Of what is multiplied, of y and dx. */
typedef struct types {
    torc_dtype operand, result;
} types;

static const types all_types[] = {{TORC_F32, TORC_F32},   {TORC_F64, TORC_F64},
                                  {TORC_BF16, TORC_BF16}, {TORC_BF16, TORC_F32},
                                  {TORC_F16, TORC_F16},   {TORC_F16, TORC_F32}};
enum { TYPES = ARRAY_LENGTH(all_types) };

static twin random_image(torc_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w, bool last,
                         uint64_t seed)
{
    return twin_random(image(dtype, n, c, h, w, last), -1, 1, seed);
}

/* Sums are exact in f32 up to its rounding; those of many places are off by more. */
static double tolerance_of(torc_dtype dtype, int64_t terms)
{
    if (dtype_is_low(dtype))
        return dtype == TORC_F16 ? 1.0 / 1024 : 1.0 / 128;
    return (dtype == TORC_F64 ? 1e-15 : 4e-7) * (30 + (double)(terms / 4));
}

/* way: channels last of x, of g, adding, with a bias. */
static void compare(types t, sizes z, int way)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), k = z.how.kernel;
    int64_t seen = k * k * z.c / z.how.groups, sees = k * k * z.o / z.how.groups;
    bool add = way & 4, with_bias = way & 8;
    torc_dtype wide = dtype_is_low(t.operand) ? TORC_F32 : t.operand;
    twin x = random_image(t.operand, z.n, z.c, z.h, z.w, way & 1, 1),
         y = random_image(t.result, z.n, z.o, rows, columns, way & 2, 2),
         g = random_image(t.operand, z.n, z.o, rows, columns, way & 2, 3),
         dx = random_image(t.result, z.n, z.c, z.h, z.w, way & 1, 4);
    twin w = twin_random(made(t.operand, SHAPE(z.o, z.c / z.how.groups, k, k)), -1, 1, 5),
         dw = twin_random(made(wide, SHAPE(z.o, z.c / z.how.groups, k, k)), -1, 1, 6);
    twin bias = twin_random(made(wide, SHAPE(z.o)), -1, 1, 7),
         db = twin_random(made(wide, SHAPE(z.o)), -1, 1, 8);
    const kernels *cpu = cpu_kernels(), *gpu = &cuda_kernels;
    cpu->conv2d(y.host, NULL, x.host, w.host, with_bias ? bias.host : NULL, z.how, EW_NONE);
    gpu->conv2d(y.gpu, NULL, x.gpu, w.gpu, with_bias ? bias.gpu : NULL, z.how, EW_NONE);
    check_twins(y, tolerance_of(t.result, seen));
    cpu->conv2d_grad_input((sink){dx.host, add}, g.host, w.host, z.how);
    gpu->conv2d_grad_input((sink){dx.gpu, add}, g.gpu, w.gpu, z.how);
    check_twins(dx, tolerance_of(t.result, sees));
    cpu->conv2d_grad_weight((sink){dw.host, add}, (sink){with_bias ? db.host : NULL, add}, g.host,
                            x.host, z.how);
    gpu->conv2d_grad_weight((sink){dw.gpu, add}, (sink){with_bias ? db.gpu : NULL, add}, g.gpu,
                            x.gpu, z.how);
    check_twins(dw, tolerance_of(wide, z.n * rows * columns));
    check_twins(db, tolerance_of(wide, z.n * rows * columns));
    const twin all[] = {x, y, g, dx, w, dw, bias, db};
    for (int i = 0; i < ARRAY_LENGTH(all); i++)
        twin_drop(all[i]);
}

TEST(forward_and_gradients)
{
    for (int way = 0; way < 16; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            if ((way + i) % 2) /* the other half: every_dtype */
                compare(all_types[(way + i) / 2 % TYPES], cases[i], way);
}

TEST(every_dtype)
{
    for (int t = 0; t < TYPES; t++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            compare(all_types[t], cases[i], 3 + 8 * (i % 2));
}

/* Channels in packs of every dtype: tiles of 32, 64 and 128 channels, rests of them, groups. */
TEST(tiles_of_packs)
{
    for (int t = 0; t < TYPES; t++) {
        compare(all_types[t], (sizes){2, 8, 9, 9, 24, {3, 1, 1, 1, 1}}, 3);
        compare(all_types[t], (sizes){2, 40, 5, 6, 72, {3, 2, 1, 1, 1}}, 3 + 8);
        compare(all_types[t], (sizes){1, 16, 4, 5, 136, {3, 1, 1, 1, 1}}, 3 + 4);
        compare(all_types[t], (sizes){1, 136, 4, 5, 8, {3, 1, 1, 1, 1}}, 3);
        compare(all_types[t], (sizes){2, 48, 5, 5, 16, {3, 1, 1, 2, 2}}, 3);
    }
}

/* So many places that the weight's gradient has parts, and y blocks enough for its widest tile. */
TEST(many_places)
{
    for (int t = 0; t < TYPES; t += 2) {
        compare(all_types[t], (sizes){9, 8, 17, 17, 8, {3, 1, 1, 1, 1}}, 3 + 8);
        compare(all_types[t], (sizes){2, 3, 31, 30, 8, {5, 1, 2, 1, 1}}, 2);
    }
    twin x = random_image(TORC_BF16, 1, 8, 130, 131, true, 1),
         y = random_image(TORC_BF16, 1, 136, 130, 131, true, 2);
    twin w = twin_random(made(TORC_BF16, SHAPE(136, 8, 1, 1)), -1, 1, 3);
    const window how = {1, 1, 0, 1, 1};
    cpu_kernels()->conv2d(y.host, NULL, x.host, w.host, NULL, how, EW_NONE);
    cuda_kernels.conv2d(y.gpu, NULL, x.gpu, w.gpu, NULL, how, EW_NONE);
    check_twins(y, tolerance_of(TORC_BF16, 8));
}

TEST(no_channels)
{
    for (int way = 0; way < 16; way += 3)
        for (int t = 0; t < TYPES; t++) {
            compare(all_types[t], (sizes){2, 0, 4, 4, 3, {3, 1, 0, 1, 1}}, way);
            compare(all_types[t], (sizes){2, 3, 4, 4, 0, {3, 1, 0, 1, 1}}, way);
        }
}

static bool same(const tensor *a, const tensor *b)
{
    size_t bytes = (size_t)tensor_numel(a) * tensor_item_size(a);
    char *x = base_alloc(bytes, 1), *y = base_alloc(bytes, 1);
    device_cuda.to_host(x, tensor_data(a), bytes);
    device_cuda.to_host(y, tensor_data(b), bytes);
    return !memcmp(x, y, bytes);
}

/* y and pre of one pass against those of two, with NaN and infinities on the way. */
static void check_activation(types t, sizes z, elementwise_op act, bool keeps, bool last)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), k = z.how.kernel;
    twin numbers = random_image(t.operand, z.n, z.c, z.h, z.w, last, 1);
    for (int64_t i = 0; i < tensor_numel(numbers.host); i += 37)
        set_value(numbers.host, i, i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
    tensor *x = twin_again(numbers).gpu, *made_of[4];
    tensor *w = twin_random(made(t.operand, SHAPE(z.o, z.c / z.how.groups, k, k)), -1, 1, 2).gpu;
    for (int i = 0; i < 4; i++)
        made_of[i] = random_image(t.result, z.n, z.o, rows, columns, last, 3).gpu;
    tensor *y = made_of[0], *pre = made_of[1], *product = made_of[2], *activated = made_of[3];
    cuda_kernels.conv2d(product, NULL, x, w, NULL, z.how, EW_NONE);
    cuda_kernels.elementwise(act, activated, 1, (const tensor *[]){product}, 0, 0, false);
    cuda_kernels.conv2d(y, keeps ? pre : NULL, x, w, NULL, z.how, act);
    CHECK(same(y, activated));
    CHECK(!keeps || same(pre, product));
}

TEST(one_pass_has_the_bits_of_two)
{
    const elementwise_op acts[] = {EW_relu, EW_gelu_tanh, EW_tanh};
    for (int t = 0; t < TYPES; t++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            check_activation(all_types[t], cases[i], acts[i % 3], (i + t) & 1, (i + t) & 2);
}

TEST(the_same_input_gives_the_same_bits)
{
    const sizes z = {5, 8, 17, 17, 8, {3, 1, 1, 1, 1}};
    twin x = random_image(TORC_F32, z.n, z.c, z.h, z.w, true, 1),
         g = random_image(TORC_F32, 5, 8, 17, 17, true, 2);
    tensor *dw[2];
    for (int i = 0; i < 2; i++) {
        dw[i] = twin_of(made(TORC_F32, SHAPE(8, 8, 3, 3))).gpu;
        cuda_kernels.conv2d_grad_weight((sink){dw[i], false}, (sink){NULL, false}, g.gpu, x.gpu,
                                        z.how);
    }
    CHECK(same(dw[0], dw[1]));
}
