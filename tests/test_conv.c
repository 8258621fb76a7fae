/* conv2d and pooling as ops: values against loops in double, gradients over stride, padding,
 * dilation, groups. */
#include "tests/gradients.h"
#include "tests/harness.h"

#include <stdlib.h>

typedef struct geometry {
    int64_t n, c, h, w, out;
    int kernel, stride, padding, dilation, groups;
} geometry;

static const geometry grid[] = {
    {2, 1, 5, 6, 3, 3, 1, 0, 1, 1}, {2, 3, 6, 5, 4, 3, 2, 1, 1, 1}, {1, 4, 7, 7, 4, 3, 1, 2, 2, 2},
    {2, 2, 4, 4, 2, 1, 1, 0, 1, 1}, {1, 4, 5, 5, 4, 2, 1, 0, 1, 4}, {0, 2, 5, 5, 3, 3, 1, 0, 1, 1},
};

static torc_tensor *conv(torc_tensor *const *in, const void *how)
{
    const geometry *g = how;
    return torc_conv2d_op(in[0], in[1], torc_contiguous(in[2]), .stride = g->stride,
                          .padding = g->padding, .dilation = g->dilation, .groups = g->groups);
}

/* One output by the definition. */
static double conv_at(const geometry *g, const float *x, const float *w, int64_t n, int64_t o,
                      int64_t i, int64_t j)
{
    int64_t per = g->c / g->groups, group = o / (g->out / g->groups);
    double sum = 0;
    for (int64_t c = 0; c < per; c++)
        for (int u = 0; u < g->kernel; u++)
            for (int v = 0; v < g->kernel; v++) {
                int64_t y = i * g->stride + u * g->dilation - g->padding;
                int64_t z = j * g->stride + v * g->dilation - g->padding;
                if (y < 0 || y >= g->h || z < 0 || z >= g->w)
                    continue;
                sum += (double)x[((n * g->c + group * per + c) * g->h + y) * g->w + z] *
                       w[((o * per + c) * g->kernel + u) * g->kernel + v];
            }
    return sum;
}

static torc_tensor *random_tensor(torc_shape shape, float **values)
{
    torc_tensor *t = torc_randn(shape);
    int64_t n = torc_numel(t);
    *values = malloc((size_t)(n + 1) * sizeof **values);
    torc_read(t, TORC_F32, *values, n);
    return t;
}

TEST(values_by_definition)
{
    for (size_t k = 0; k < sizeof grid / sizeof *grid; k++) {
        const geometry *g = &grid[k];
        float *x, *w, *found;
        torc_tensor *tx = random_tensor(TORC_SHAPE(g->n, g->c, g->h, g->w), &x);
        torc_tensor *tw =
            random_tensor(TORC_SHAPE(g->out, g->c / g->groups, g->kernel, g->kernel), &w);
        torc_tensor *in[] = {tx, tw, torc_full(TORC_SHAPE(g->out), 0.25)};
        torc_tensor *y = conv(in, g);
        int64_t height = torc_size(y, 2), width = torc_size(y, 3), at = 0;
        found = malloc((size_t)(torc_numel(y) + 1) * sizeof *found);
        torc_read(y, TORC_F32, found, torc_numel(y));
        for (int64_t n = 0; n < g->n; n++)
            for (int64_t o = 0; o < g->out; o++)
                for (int64_t i = 0; i < height; i++)
                    for (int64_t j = 0; j < width; j++)
                        CHECK_NEAR(found[at++], conv_at(g, x, w, n, o, i, j) + 0.25, 1e-5);
        free(x), free(w), free(found);
        torc_tape_clear();
    }
}

TEST(gradients_match_differences)
{
    for (size_t k = 0; k < sizeof grid / sizeof *grid; k++) {
        const geometry *g = &grid[k];
        const torc_shape shapes[] = {TORC_SHAPE(g->n, g->c, g->h, g->w),
                                     TORC_SHAPE(g->out, g->c / g->groups, g->kernel, g->kernel),
                                     TORC_SHAPE(g->out)};
        check_gradients("conv2d", conv, g, 3, shapes, -1, 1);
    }
}

/* In f32 through the fast path: backward of f32 against backward of f64 on the same numbers. */
TEST(f32_gradients_match_f64)
{
    for (size_t k = 0; k < sizeof grid / sizeof *grid; k++) {
        const geometry *g = &grid[k];
        const torc_shape shapes[] = {TORC_SHAPE(g->n, g->c, g->h, g->w),
                                     TORC_SHAPE(g->out, g->c / g->groups, g->kernel, g->kernel),
                                     TORC_SHAPE(g->out)};
        torc_tensor *in[2][3];
        for (int d = 0; d < 2; d++) {
            torc_seed(7);
            for (int i = 0; i < 3; i++) {
                torc_tensor *v = torc_to(torc_randn(shapes[i]), d ? TORC_F64 : TORC_F32);
                in[d][i] = torc_keep(torc_mul_scalar(v, 1));
                torc_set_requires_grad(in[d][i], true);
            }
            torc_tensor *y = conv(in[d], g);
            torc_backward(torc_sum(torc_mul(y, y)));
        }
        for (int i = 0; i < 3; i++) {
            int64_t n = torc_numel(in[0][i]);
            double *a = malloc((size_t)(n + 1) * sizeof *a),
                   *b = malloc((size_t)(n + 1) * sizeof *b);
            torc_read(torc_grad(in[0][i]), TORC_F64, a, n);
            torc_read(torc_grad(in[1][i]), TORC_F64, b, n);
            for (int64_t j = 0; j < n; j++)
                CHECK_NEAR(a[j], b[j], 1e-4);
            free(a), free(b);
        }
        torc_tape_clear();
    }
}

TEST_DIES(channels_must_agree, 1, "expected an input of 3 channels in 1 groups")
{
    torc_conv2d_op(torc_ones(TORC_SHAPE(1, 2, 5, 5)), torc_ones(TORC_SHAPE(4, 3, 3, 3)), NULL);
}

TEST_DIES(the_window_must_fit, 1, "a window of 3 does not fit into 2 with padding 0")
{
    torc_conv2d_op(torc_ones(TORC_SHAPE(1, 1, 2, 2)), torc_ones(TORC_SHAPE(1, 1, 3, 3)), NULL);
}
