/*
 * conv2d of the CPU and its gradients against their formula in f64: strides, padding, dilation,
 * groups, both orders of channels, empty batches.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

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

static int64_t places(int64_t size, window how)
{
    return (size + 2 * how.padding - how.dilation * (how.kernel - 1) - 1) / how.stride + 1;
}

static tensor *image(torc_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w, bool last)
{
    tensor *t = made(dtype, SHAPE(n * c * h * w));
    return made_view(t, SHAPE(n, c, h, w),
                     last ? STRIDES(c * h * w, 1, c * w, c) : STRIDES(c * h * w, h * w, w, 1), 0);
}

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

static void compare(const tensor *found, const double *values, double before, double tolerance)
{
    for (int64_t i = 0; i < tensor_numel(found); i++)
        CHECK_NEAR(value_at(found, i), before + values[i], tolerance);
}

static void set_all(tensor *t, double value)
{
    for (int64_t i = 0; i < tensor_numel(t); i++)
        set_value(t, i, value);
}

/* way: channels last of x, of g, adding, with a bias. In f32 the error of dw grows like the root of
 * the number of products in it. */
static void check_case(torc_dtype dtype, sizes z, int way)
{
    int64_t rows = places(z.h, z.how), columns = places(z.w, z.how), k = z.how.kernel;
    double before = way & 4 ? 0.5 : 0,
           tolerance =
               dtype == TORC_F64 ? 1e-12 : 2e-7 * sqrt(100 + (double)(z.n * rows * columns));
    tensor *x = image(dtype, z.n, z.c, z.h, z.w, way & 1),
           *y = image(dtype, z.n, z.o, rows, columns, way & 2);
    tensor *dx = image(dtype, z.n, z.c, z.h, z.w, way & 1),
           *g = image(dtype, z.n, z.o, rows, columns, way & 2);
    tensor *w = made(dtype, SHAPE(z.o, z.c / z.how.groups, k, k)), *bias = made(dtype, SHAPE(z.o));
    tensor *dw = made(dtype, SHAPE(z.o, z.c / z.how.groups, k, k)), *db = made(dtype, SHAPE(z.o));
    set_random(x, -1, 1, 1);
    set_random(w, -1, 1, 2);
    set_random(g, -1, 1, 3);
    set_random(bias, -1, 1, 4);
    set_all(dx, before), set_all(dw, before), set_all(db, before);
    sums s = expected(z, x, w, way & 8 ? bias : NULL, g);
    cpu_kernels()->conv2d(y, x, w, way & 8 ? bias : NULL, z.how);
    cpu_kernels()->conv2d_grad_input((sink){dx, way & 4}, g, w, z.how);
    cpu_kernels()->conv2d_grad_weight((sink){dw, way & 4}, (sink){way & 8 ? db : NULL, way & 4}, g,
                                      x, z.how);
    compare(y, s.y, 0, tolerance);
    compare(dx, s.dx, before, tolerance);
    compare(dw, s.dw, before, tolerance);
    if (way & 8)
        compare(db, s.db, before, tolerance);
    free(s.y), free(s.dx), free(s.dw), free(s.db);
}

TEST(forward_and_gradients_f32)
{
    for (int way = 0; way < 16; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            check_case(TORC_F32, cases[i], way);
}

TEST(forward_and_gradients_f64)
{
    for (int way = 0; way < 16; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            check_case(TORC_F64, cases[i], way);
}

/* Wide rows, so that a part has several chunks of columns. */
TEST(many_chunks_and_parts)
{
    check_case(TORC_F32, (sizes){2, 8, 70, 64, 8, {3, 1, 1, 1, 1}}, 3 + 8);
    check_case(TORC_F32, (sizes){40, 24, 12, 90, 4, {3, 1, 1, 1, 1}}, 3);
}

TEST(no_channels)
{
    const torc_dtype dtypes[] = {TORC_F32, TORC_F64};
    for (int way = 0; way < 16; way++)
        for (int d = 0; d < 2; d++) {
            check_case(dtypes[d], (sizes){2, 0, 4, 4, 3, {3, 1, 0, 1, 1}}, way);
            check_case(dtypes[d], (sizes){2, 3, 4, 4, 0, {3, 1, 0, 1, 1}}, way);
        }
}

TEST(weight_gradient_has_the_same_bits_on_any_number_of_threads)
{
    tensor *x = image(TORC_F32, 20, 8, 16, 16, true), *g = image(TORC_F32, 20, 12, 14, 14, true);
    tensor *dw[3], *db = made(TORC_F32, SHAPE(12));
    set_random(x, -1, 1, 1);
    set_random(g, -1, 1, 2);
    for (int threads = 1; threads <= 3; threads++) {
        tensor *d = dw[threads - 1] = made(TORC_F32, SHAPE(12, 8, 3, 3));
        omp_set_num_threads(threads);
        cpu_kernels()->conv2d_grad_weight((sink){d, false}, (sink){db, false}, g, x,
                                          (window){3, 1, 0, 1, 1});
        CHECK(!memcmp(tensor_data(d), tensor_data(dw[0]), 12 * 8 * 9 * sizeof(float)));
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
        cpu_kernels()->conv2d(y[threads], x, w, NULL, (window){3, 1, 1, 1, 1});
        cpu_kernels()->conv2d_grad_input((sink){dx[threads], false}, x, w, (window){3, 1, 1, 1, 1});
        CHECK_INT(omp_get_max_threads(), threads);
        CHECK(!memcmp(tensor_data(y[threads]), tensor_data(y[1]), 512 * 16 * sizeof(float)));
        CHECK(!memcmp(tensor_data(dx[threads]), tensor_data(dx[1]), 512 * 16 * sizeof(float)));
    }
}
