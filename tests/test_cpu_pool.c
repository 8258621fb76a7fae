/*
 * max_pool2d and avg_pool2d of the CPU, at every level, against plain loops in f64: overlapping
 * windows, gaps between windows, padding, both orders of channels.
 */
#include "tests/harness.h"
#include "tests/images.h"

typedef struct sizes {
    int64_t n, c, h, w;
    window how;
} sizes;

static const sizes cases[] = {
    {2, 5, 8, 6, {2, 2, 0, 1, 1}},     {2, 64, 7, 9, {3, 2, 1, 1, 1}},
    {1, 100, 6, 6, {3, 1, 1, 1, 1}},   {3, 1, 9, 9, {2, 3, 1, 1, 1}},
    {1, 17, 16, 15, {15, 4, 7, 1, 1}}, {0, 3, 4, 4, {2, 2, 0, 1, 1}},
    {2, 0, 4, 4, {2, 2, 0, 1, 1}},     {1, 3, 3, 3, {3, 1, 0, 1, 1}},
    {2, 1, 7, 5, {2, 2, 0, 1, 1}},     {2, 7, 5, 7, {2, 2, 0, 1, 1}},
    {1, 16, 6, 7, {2, 2, 0, 1, 1}},    {2, 33, 7, 6, {2, 2, 0, 1, 1}},
    {1, 64, 9, 8, {2, 2, 0, 1, 1}},    {1, 33, 8, 10, {3, 3, 0, 1, 1}},
};

typedef struct problem {
    sizes z;
    int64_t rows, columns;
    tensor *x, *dx, *y, *at, *g;
} problem;

static problem problem_of(torc_dtype dtype, sizes z, bool x_last, bool y_last)
{
    problem p = {.z = z, .rows = places(z.h, z.how), .columns = places(z.w, z.how)};
    p.x = image(dtype, z.n, z.c, z.h, z.w, x_last);
    p.dx = image(dtype, z.n, z.c, z.h, z.w, x_last);
    p.y = image(dtype, z.n, z.c, p.rows, p.columns, y_last);
    p.at = image(TORC_U8, z.n, z.c, p.rows, p.columns, y_last);
    p.g = image(dtype, z.n, z.c, p.rows, p.columns, y_last);
    set_random(p.x, -2, 2, 1);
    set_random(p.g, -1, 1, 2);
    return p;
}

/* Visits the cells of window `i` (in row-major order of y) that lie inside. Returns how many;
 * index[] gets their places in x, cell[] their numbers in the window. */
static int cells(const problem *p, int64_t i, int64_t *index, int *cell)
{
    const window *how = &p->z.how;
    int64_t column = i % p->columns, row = i / p->columns % p->rows,
            plane = i / p->columns / p->rows;
    int n = 0;
    for (int64_t k = 0; k < how->kernel * how->kernel; k++) {
        int64_t r = row * how->stride - how->padding + k / how->kernel;
        int64_t c = column * how->stride - how->padding + k % how->kernel;
        if (r < 0 || r >= p->z.h || c < 0 || c >= p->z.w)
            continue;
        index[n] = (plane * p->z.h + r) * p->z.w + c;
        cell[n++] = (int)k;
    }
    return n;
}

/* The number in index[] of the first largest; the first NaN, if there is one. */
static int largest(const problem *p, int n, const int64_t *index)
{
    int best = 0;
    for (int k = 1; k < n; k++) {
        double value = value_at(p->x, index[k]), before = value_at(p->x, index[best]);
        if (value > before || (isnan(value) && !isnan(before)))
            best = k;
    }
    return best;
}

static void check_max(const kernels *k, const problem *p, bool add, double tolerance)
{
    int64_t index[225];
    int cell[225];
    double *dx = base_alloc((size_t)tensor_numel(p->x) + 1, sizeof *dx);
    for (int64_t i = 0; i < tensor_numel(p->dx); i++)
        set_value(p->dx, i, 0.25);
    k->max_pool2d(p->y, p->at, p->x, p->z.how);
    k->max_pool2d_grad((sink){p->dx, add}, p->g, p->at, p->z.how);
    for (int64_t i = 0; i < tensor_numel(p->y); i++) {
        int best = largest(p, cells(p, i, index, cell), index);
        CHECK_NEAR(value_at(p->y, i), value_at(p->x, index[best]), 0); /* bf16 too: a choice */
        CHECK_INT(value_at(p->at, i), cell[best]);
        dx[index[best]] += value_at(p->g, i);
    }
    for (int64_t i = 0; i < tensor_numel(p->dx); i++)
        CHECK_NEAR(value_at(p->dx, i), dx[i] + (add ? 0.25 : 0), tolerance);
    free(dx);
}

static void check_avg(const kernels *k, const problem *p, bool add, double tolerance)
{
    int64_t index[225];
    int cell[225], area = p->z.how.kernel * p->z.how.kernel;
    double *dx = base_alloc((size_t)tensor_numel(p->x) + 1, sizeof *dx);
    for (int64_t i = 0; i < tensor_numel(p->dx); i++)
        set_value(p->dx, i, 0.25);
    k->avg_pool2d(p->y, p->x, p->z.how);
    k->avg_pool2d_grad((sink){p->dx, add}, p->g, p->z.how);
    for (int64_t i = 0; i < tensor_numel(p->y); i++) {
        double sum = 0;
        for (int n = cells(p, i, index, cell); n--;) {
            sum += value_at(p->x, index[n]);
            dx[index[n]] += value_at(p->g, i) / area;
        }
        CHECK_NEAR(value_at(p->y, i), sum / area, tolerance);
    }
    for (int64_t i = 0; i < tensor_numel(p->dx); i++)
        CHECK_NEAR(value_at(p->dx, i), dx[i] + (add ? 0.25 : 0), tolerance);
    free(dx);
}

/* bf16: sums in f32, rounded once to 8 bits, also where windows overlap. */
TEST(pools_and_gradients)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    static const double tolerance[] = {4e-6, 1e-13, 0x1p-8};
    EACH_LEVEL(k)
    for (int way = 0; way < 24; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
            problem p = problem_of(dtypes[way / 8], cases[i], way & 1, way & 2);
            check_max(k, &p, way & 4, tolerance[way / 8]);
            check_avg(k, &p, way & 4, tolerance[way / 8]);
        }
}

TEST(same_bits_on_any_number_of_threads)
{
    for (int way = 0; way < 6; way++) {
        torc_dtype dtype = way % 3 == 0 ? TORC_F32 : way % 3 == 1 ? TORC_F64 : TORC_BF16;
        sizes z = {4, 65, 40, 40, {3, way < 3 ? 1 : 2, 1, 1, 1}};
        problem one = problem_of(dtype, z, true, true), two = problem_of(dtype, z, true, true);
        size_t bytes = (size_t)tensor_numel(one.dx) * torc_dtype_size(dtype);
        EACH_LEVEL(k)
        {
            omp_set_num_threads(1);
            k->avg_pool2d_grad((sink){one.dx, false}, one.g, z.how);
            omp_set_num_threads(2);
            k->avg_pool2d_grad((sink){two.dx, false}, two.g, z.how);
            CHECK(!memcmp(tensor_data(one.dx), tensor_data(two.dx), bytes));
        }
    }
}

TEST(nan_wins_and_padding_never_does)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 4; way++) {
        torc_dtype dtype = way & 2 ? TORC_BF16 : TORC_F32;
        bool last = way & 1;
        problem p = problem_of(dtype, (sizes){1, 20, 4, 4, {3, 2, 1, 1, 1}}, last, last);
        for (int64_t i = 0; i < tensor_numel(p.x); i++)
            set_value(p.x, i, i % 16 == 5 ? NAN : i % 16 == 6 ? INFINITY : -INFINITY);
        check_max(k, &p, false, dtype == TORC_F32 ? 1e-6 : 0x1p-8);
    }
}

/* A NaN of either sign is one, 0 and -0 are equal; what is chosen keeps its bits. */
TEST(bf16_is_compared_as_numbers)
{
    static const uint16_t values[] = {0x8000, 0,      0x7f80, 0xff80, 0x7fc0, 0xffc1,
                                      0x7f81, 0x3f80, 0xbf80, 1,      0x8001};
    EACH_LEVEL(k)
    {
        problem p = problem_of(TORC_BF16, (sizes){2, 65, 24, 24, {2, 2, 0, 1, 1}}, true, true);
        uint16_t *x = tensor_data(p.x);
        for (int64_t i = 0; i < tensor_numel(p.x); i++)
            x[i] = values[(i * 7 + i / 65 * 3 + i / 1560 * 5) % ARRAY_LENGTH(values)];
        check_max(k, &p, false, 0x1p-8);
    }
}

TEST(ties_go_to_the_first)
{
    EACH_LEVEL(k)
    {
        problem p = problem_of(TORC_F32, (sizes){1, 33, 6, 6, {2, 2, 0, 1, 1}}, true, true);
        for (int64_t i = 0; i < tensor_numel(p.x); i++)
            set_value(p.x, i, 1);
        check_max(k, &p, false, 1e-6);
    }
}
