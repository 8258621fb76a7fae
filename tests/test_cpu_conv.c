/*
 * conv2d of the CPU and its gradients against their formula in f64: strides, padding, dilation,
 * groups, both orders of channels, empty batches; bf16; the activation at the end.
 */
#include "core/cpu/conv.h"
#include "tests/harness.h"
#include "tests/images.h"

typedef struct sizes {
    int64_t n, c, h, w, o;
    window how; /* kernel, stride, padding, dilation, groups */
} sizes;

static const sizes cases[] = {
    {2, 1, 9, 8, 5, {3, 1, 0, 1, 1}},     {3, 4, 7, 9, 6, {3, 1, 1, 1, 1}},
    {2, 3, 12, 11, 20, {3, 2, 1, 1, 1}},  {2, 8, 10, 10, 4, {5, 3, 2, 1, 1}},
    {1, 6, 13, 12, 9, {3, 2, 2, 2, 3}},   {2, 16, 6, 6, 32, {1, 1, 0, 1, 1}},
    {2, 5, 8, 8, 5, {3, 1, 1, 1, 5}},     {1, 18, 5, 5, 17, {3, 1, 1, 1, 1}},
    {2, 2, 5, 5, 3, {1, 2, 1, 1, 1}},     {0, 3, 6, 6, 4, {3, 1, 1, 1, 1}},
    {2, 32, 14, 13, 16, {3, 1, 0, 1, 2}}, {1, 2, 20, 20, 3, {3, 4, 0, 3, 1}},
};

/* A tensor's values in row-major order. */
static double *values(const tensor *t)
{
    double *v = base_alloc((size_t)tensor_numel(t) + 1, sizeof *v);
    for (int64_t i = 0; i < tensor_numel(t); i++)
        v[i] = value_at(t, i);
    return v;
}

typedef struct sums { /* row-major, zero at first */
    double *y, *dx, *dw, *db;
} sums;

/* The three sums of products of one output place. */
static void visit(sizes z, const double *x, const double *w, const double *g, sums *s, int64_t n,
                  int64_t o, int64_t i, int64_t j)
{
    int64_t group = z.c / z.how.groups, first = o / (z.o / z.how.groups) * group;
    int64_t k = z.how.kernel, rows = places(z.h, z.how), columns = places(z.w, z.how);
    int64_t at = ((n * z.o + o) * rows + i) * columns + j;
    s->db[o] += g[at];
    for (int64_t c = 0; c < group; c++)
        for (int64_t u = 0; u < k; u++)
            for (int64_t v = 0; v < k; v++) {
                int64_t row = i * z.how.stride - z.how.padding + u * z.how.dilation;
                int64_t column = j * z.how.stride - z.how.padding + v * z.how.dilation;
                if (row < 0 || row >= z.h || column < 0 || column >= z.w)
                    continue;
                int64_t xi = ((n * z.c + first + c) * z.h + row) * z.w + column;
                int64_t wi = ((o * group + c) * k + u) * k + v;
                s->y[at] += x[xi] * w[wi];
                s->dx[xi] += g[at] * w[wi];
                s->dw[wi] += g[at] * x[xi];
            }
}

static sums expected(sizes z, const tensor *x, const tensor *w, const tensor *bias, const tensor *g)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), y = z.n * z.o * rows * columns;
    sums s = {base_alloc((size_t)y + 1, 8), base_alloc((size_t)tensor_numel(x) + 1, 8),
              base_alloc((size_t)tensor_numel(w) + 1, 8), base_alloc((size_t)z.o + 1, 8)};
    double *xs = values(x), *ws = values(w), *gs = values(g);
    for (int64_t at = 0; at < y; at++) {
        int64_t o = at / (rows * columns) % z.o;
        s.y[at] = bias ? value_at(bias, o) : 0;
        visit(z, xs, ws, gs, &s, at / (rows * columns) / z.o, o, at / columns % rows, at % columns);
    }
    free(xs), free(ws), free(gs);
    return s;
}

/* Rounding adds `relative` of the value to what the sums are off by. */
static void compare(const tensor *found, const double *values, double before, double tolerance,
                    double relative)
{
    for (int64_t i = 0; i < tensor_numel(found); i++)
        CHECK_NEAR(value_at(found, i), before + values[i],
                   tolerance + relative * fabs(before + values[i]));
}

static void set_all(tensor *t, double value)
{
    for (int64_t i = 0; i < tensor_numel(t); i++)
        set_value(t, i, value);
}

/* Of what is multiplied, of y and dx. */
typedef struct types {
    torc_dtype operand, result;
} types;

static const types f32 = {TORC_F32, TORC_F32}, f64 = {TORC_F64, TORC_F64};
static const types low = {TORC_BF16, TORC_BF16}, low_to_f32 = {TORC_BF16, TORC_F32};

/* The dtype of what is summed over images: never low. */
static torc_dtype sums_of(types t)
{
    return t.operand == TORC_BF16 ? TORC_F32 : t.operand;
}

/* way: channels last of x, of g, adding, with a bias. In f32 the error of dw grows like the root of
 * the number of products in it; bf16 operands are exact, a result in bf16 is off by half a unit of
 * its 8 bits. */
static void check_case(types t, sizes z, int way)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), k = z.how.kernel;
    double before = way & 4 ? 0.5 : 0, relative = t.result == TORC_BF16 ? 0x1p-8 : 0;
    double unit = t.operand == TORC_F64 ? 1e-13 : 4e-7;
    double tolerance = unit * sqrt(100 + (double)(z.n * rows * columns));
    tensor *x = image(t.operand, z.n, z.c, z.h, z.w, way & 1),
           *y = image(t.result, z.n, z.o, rows, columns, way & 2);
    tensor *dx = image(t.result, z.n, z.c, z.h, z.w, way & 1),
           *g = image(t.operand, z.n, z.o, rows, columns, way & 2);
    tensor *w = made(t.operand, SHAPE(z.o, z.c / z.how.groups, k, k)),
           *dw = made(sums_of(t), SHAPE(z.o, z.c / z.how.groups, k, k));
    tensor *bias = made(sums_of(t), SHAPE(z.o)), *db = made(sums_of(t), SHAPE(z.o));
    set_random(x, -1, 1, 1);
    set_random(w, -1, 1, 2);
    set_random(g, -1, 1, 3);
    set_random(bias, -1, 1, 4);
    set_all(dx, before), set_all(dw, before), set_all(db, before);
    sums s = expected(z, x, w, way & 8 ? bias : NULL, g);
    cpu_kernels()->conv2d(y, NULL, x, w, way & 8 ? bias : NULL, z.how, EW_NONE);
    cpu_kernels()->conv2d_grad_input((sink){dx, way & 4}, g, w, z.how);
    cpu_kernels()->conv2d_grad_weight((sink){dw, way & 4}, (sink){way & 8 ? db : NULL, way & 4}, g,
                                      x, z.how);
    compare(y, s.y, 0, tolerance, relative);
    compare(dx, s.dx, before, tolerance, relative);
    compare(dw, s.dw, before, tolerance, 0);
    if (way & 8)
        compare(db, s.db, before, tolerance, 0);
    free(s.y), free(s.dx), free(s.dw), free(s.db);
}

static void check_cases(types t)
{
    for (int way = 0; way < 16; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            check_case(t, cases[i], way);
}

TEST(forward_and_gradients_f32)
{
    check_cases(f32);
}

TEST(forward_and_gradients_f64)
{
    check_cases(f64);
}

TEST(forward_and_gradients_bf16)
{
    check_cases(low);
    check_cases(low_to_f32);
}

/* As on a processor for which oneDNN has no code of bf16. */
TEST(bf16_in_f32_where_there_is_no_code)
{
    CHECK_INT(dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2), dnnl_success);
    check_cases(low);
    check_cases(low_to_f32);
}

/* Wide rows, so that a part has several chunks of columns; more images than a part. */
TEST(many_chunks_and_parts)
{
    const types all[] = {f32, low, low_to_f32};
    for (int i = 0; i < 3; i++) {
        check_case(all[i], (sizes){2, 8, 70, 64, 8, {3, 1, 1, 1, 1}}, 3 + 8);
        check_case(all[i], (sizes){40, 24, 12, 90, 4, {3, 1, 1, 1, 1}}, 3);
        check_case(all[i], (sizes){77, 3, 9, 7, 5, {3, 1, 1, 1, 1}}, 3 + 4 + 8);
    }
}

TEST(no_channels)
{
    const types all[] = {f32, f64, low, low_to_f32};
    for (int way = 0; way < 16; way++)
        for (int i = 0; i < 4; i++) {
            check_case(all[i], (sizes){2, 0, 4, 4, 3, {3, 1, 0, 1, 1}}, way);
            check_case(all[i], (sizes){2, 3, 4, 4, 0, {3, 1, 0, 1, 1}}, way);
        }
}

/* ---- the activation ---- */

static bool same_bits(const tensor *a, const tensor *b)
{
    return !memcmp(tensor_data(a), tensor_data(b), (size_t)tensor_numel(a) * tensor_item_size(a));
}

/* y and pre of one pass against those of two, with NaN and infinities on the way. */
static void check_activation(types t, sizes z, elementwise_op act, bool keeps, bool last)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), k = z.how.kernel;
    tensor *x = image(t.operand, z.n, z.c, z.h, z.w, last),
           *w = made(t.operand, SHAPE(z.o, z.c / z.how.groups, k, k));
    tensor *bias = made(sums_of(t), SHAPE(z.o)), *made_of[4];
    for (int i = 0; i < 4; i++)
        made_of[i] = image(t.result, z.n, z.o, rows, columns, last);
    tensor *y = made_of[0], *pre = made_of[1], *product = made_of[2], *activated = made_of[3];
    set_random(x, -1, 1, 1);
    set_random(w, -1, 1, 2);
    set_random(bias, -1, 1, 3);
    for (int64_t i = 0; i < tensor_numel(x); i += 37)
        set_value(x, i, i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
    cpu_kernels()->conv2d(product, NULL, x, w, bias, z.how, EW_NONE);
    cpu_kernels()->elementwise(act, activated, 1, (const tensor *[]){product}, 0, 0, false);
    cpu_kernels()->conv2d(y, keeps ? pre : NULL, x, w, bias, z.how, act);
    CHECK(same_bits(y, activated));
    CHECK(!keeps || same_bits(pre, product));
}

TEST(one_pass_has_the_bits_of_two)
{
    const types all[] = {f32, f64, low, low_to_f32};
    const elementwise_op acts[] = {EW_relu, EW_gelu_tanh, EW_tanh};
    for (int threads = 1; threads <= 2; threads++)
        for (int t = 0; t < 4; t++)
            for (int a = 0; a < 3; a++)
                for (int way = 0; way < 4; way++) {
                    omp_set_num_threads(threads);
                    for (int i = 0; i < ARRAY_LENGTH(cases); i++)
                        check_activation(all[t], cases[i], acts[a], way & 1, way & 2);
                    check_activation(all[t], (sizes){35, 2, 30, 33, 17, {3, 1, 0, 1, 1}}, acts[a],
                                     way & 1, way & 2);
                }
}

/* ---- bits ---- */

TEST(images_of_one_channel_are_read_where_they_are)
{
    tensor *x = image(TORC_F32, 4, 1, 5, 6, false), *two = image(TORC_F32, 4, 2, 5, 6, false);
    CHECK(conv_channels_last(x, SCRATCH_INPUT) == tensor_data(x));
    CHECK(conv_channels_last(two, SCRATCH_INPUT) != tensor_data(two));
}

/* 20 images are parts; so are 21, and one is left over. */
static void check_bits_on_threads(torc_dtype dtype, int64_t images, int64_t channels)
{
    tensor *x = image(dtype, images, channels, 16, 16, true), *y[4], *dx[4];
    tensor *g = image(dtype, images, 12, 14, 14, true), *w = made(dtype, SHAPE(12, channels, 3, 3));
    tensor *dw[4], *db[4];
    set_random(x, -1, 1, 1);
    set_random(g, -1, 1, 2);
    set_random(w, -1, 1, 3);
    for (int threads = 1; threads <= 3; threads++) {
        const window how = {3, 1, 0, 1, 1};
        y[threads] = image(dtype, images, 12, 14, 14, true);
        dx[threads] = image(dtype, images, channels, 16, 16, true);
        dw[threads] = made(TORC_F32, SHAPE(12, channels, 3, 3));
        db[threads] = made(TORC_F32, SHAPE(12));
        omp_set_num_threads(threads);
        cpu_kernels()->conv2d(y[threads], NULL, x, w, NULL, how, EW_NONE);
        cpu_kernels()->conv2d_grad_input((sink){dx[threads], false}, g, w, how);
        cpu_kernels()->conv2d_grad_weight((sink){dw[threads], false}, (sink){db[threads], false}, g,
                                          x, how);
        CHECK(same_bits(y[threads], y[1]));
        CHECK(same_bits(dx[threads], dx[1]));
        CHECK(same_bits(dw[threads], dw[1]));
        CHECK(same_bits(db[threads], db[1]));
    }
}

TEST(many_images_have_the_same_bits_on_any_number_of_threads)
{
    for (int64_t channels = 1; channels <= 8; channels++) {
        check_bits_on_threads(TORC_F32, 20, channels);
        check_bits_on_threads(TORC_BF16, 21, channels);
    }
}

/* One image of many channels: without virtual ranks its bits differ from one thread to two. */
TEST(with_virtual_ranks_threads_change_no_bits)
{
    tensor *x = image(TORC_F32, 1, 512, 4, 4, true), *w = made(TORC_F32, SHAPE(512, 512, 3, 3));
    set_random(x, -1, 1, 1);
    set_random(w, -1, 1, 2);
    base_set_world((world){.size = 1, .local_size = 1, .virtual_ranks = 2});
    tensor *y[5], *dx[5];
    for (int threads = 1; threads <= 4; threads *= 2) {
        y[threads] = image(TORC_F32, 1, 512, 4, 4, true);
        dx[threads] = image(TORC_F32, 1, 512, 4, 4, true);
        omp_set_num_threads(threads);
        cpu_kernels()->conv2d(y[threads], NULL, x, w, NULL, (window){3, 1, 1, 1, 1}, EW_NONE);
        cpu_kernels()->conv2d_grad_input((sink){dx[threads], false}, x, w, (window){3, 1, 1, 1, 1});
        CHECK_INT(omp_get_max_threads(), threads);
        CHECK(!memcmp(tensor_data(y[threads]), tensor_data(y[1]), 512 * 16 * sizeof(float)));
        CHECK(!memcmp(tensor_data(dx[threads]), tensor_data(dx[1]), 512 * 16 * sizeof(float)));
    }
}
