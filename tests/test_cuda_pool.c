/*
 * The GPU's poolings beside the CPU's: overlapping windows, gaps, padding, and every pair of orders
 * of channels.
 */
#include "tests/cuda_tensors.h"
#include "tests/images.h"

typedef struct sizes {
    int64_t n, c, h, w;
    window how;
} sizes;

static const sizes cases[] = {
    {2, 5, 8, 6, {2, 2, 0, 1, 1}},    {2, 16, 7, 9, {3, 2, 1, 1, 1}},
    {1, 24, 6, 6, {3, 1, 1, 1, 1}},   {3, 1, 9, 9, {2, 3, 1, 1, 1}},
    {1, 8, 16, 15, {15, 4, 7, 1, 1}}, {0, 3, 4, 4, {2, 2, 0, 1, 1}},
    {2, 0, 4, 4, {2, 2, 0, 1, 1}},    {1, 3, 3, 3, {3, 1, 0, 1, 1}},
    {2, 8, 7, 5, {2, 2, 0, 1, 1}},    {1, 40, 9, 8, {2, 2, 0, 1, 1}},
};
static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};
static const double tolerances[] = {1e-6, 1e-2, 0x1p-10, 1e-13};

/* With some that win or never win. */
static twin picture(torc_dtype dtype, const sizes *z, bool last)
{
    tensor *x = image(dtype, z->n, z->c, z->h, z->w, last);
    set_random(x, -2, 2, 1);
    for (int64_t i = 0; i < tensor_numel(x); i++)
        if (i % 23 == 5 || i % 31 == 6)
            set_value(x, i, i % 23 == 5 ? NAN : -INFINITY);
    return twin_of(x);
}

static void compare_max(int type, const sizes *z, bool x_last, bool y_last)
{
    int64_t rows = places(z->h, z->how), columns = places(z->w, z->how);
    twin x = picture(floats[type], z, x_last);
    twin y = twin_of(image(floats[type], z->n, z->c, rows, columns, y_last));
    twin at = twin_of(image(TORC_U8, z->n, z->c, rows, columns, y_last));
    twin g = twin_random(image(floats[type], z->n, z->c, rows, columns, y_last), -1, 1, 2);
    cpu_kernels()->max_pool2d(y.host, at.host, x.host, z->how);
    cuda_kernels.max_pool2d(y.gpu, at.gpu, x.gpu, z->how);
    check_twins(y, 0);
    check_twins(at, 0);
    for (int add = 0; add < 2; add++) {
        twin dx = twin_random(image(floats[type], z->n, z->c, z->h, z->w, x_last), -1, 1, 3);
        cpu_kernels()->max_pool2d_grad((sink){dx.host, add}, g.host, at.host, z->how);
        cuda_kernels.max_pool2d_grad((sink){dx.gpu, add}, g.gpu, at.gpu, z->how);
        check_twins(dx, tolerances[type]);
    }
}

static void compare_avg(int type, const sizes *z, bool x_last, bool y_last)
{
    int64_t rows = places(z->h, z->how), columns = places(z->w, z->how);
    twin x = twin_random(image(floats[type], z->n, z->c, z->h, z->w, x_last), -1, 1, 1);
    twin y = twin_of(image(floats[type], z->n, z->c, rows, columns, y_last));
    twin g = twin_random(image(floats[type], z->n, z->c, rows, columns, y_last), -1, 1, 2);
    cpu_kernels()->avg_pool2d(y.host, x.host, z->how);
    cuda_kernels.avg_pool2d(y.gpu, x.gpu, z->how);
    check_twins(y, tolerances[type]);
    for (int add = 0; add < 2; add++) {
        twin dx = twin_random(image(floats[type], z->n, z->c, z->h, z->w, x_last), -1, 1, 3);
        cpu_kernels()->avg_pool2d_grad((sink){dx.host, add}, g.host, z->how);
        cuda_kernels.avg_pool2d_grad((sink){dx.gpu, add}, g.gpu, z->how);
        check_twins(dx, tolerances[type]);
    }
}

TEST(windows_of_every_kind)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++)
            for (int orders = 0; orders < 4; orders++) {
                compare_max(type, &cases[i], orders & 1, orders >> 1);
                compare_avg(type, &cases[i], orders & 1, orders >> 1);
            }
}

TEST(gradients_that_nobody_wants)
{
    cuda_kernels.max_pool2d_grad((sink){NULL, false}, NULL, NULL, cases[0].how);
    cuda_kernels.avg_pool2d_grad((sink){NULL, false}, NULL, cases[0].how);
}
