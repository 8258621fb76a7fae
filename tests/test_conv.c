/* conv2d and pooling as ops: values against loops in double, gradients over stride, padding,
 * dilation, groups. */
#include "core/torc.h"

#include "tests/gradients.h"
#include "tests/low.h"

#include "core/ops/ops.h"

#include <math.h>
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

typedef struct activated {
    const geometry *g;
    elementwise_op act;
    bool no_bias;
} activated;

static torc_tensor *conv_act(torc_tensor *const *in, const void *how)
{
    const activated *a = how;
    const geometry *g = a->g;
    return op_conv2d_act(TORC_HERE, in[0], in[1], a->no_bias ? NULL : in[2],
                         (torc_conv2d_options){.stride = g->stride,
                                               .padding = g->padding,
                                               .dilation = g->dilation,
                                               .groups = g->groups},
                         a->act);
}

static const elementwise_op acts[] = {EW_NONE, EW_relu, EW_gelu_tanh, EW_tanh};

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
        for (size_t a = 0; a < ARRAY_LENGTH(acts); a++)
            for (int no_bias = 0; no_bias < 2; no_bias++)
                check_gradients("conv2d with an activation", conv_act,
                                &(activated){g, acts[a], no_bias}, 3 - no_bias, shapes, -1, 1);
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

/* ---- the activation, bf16, f16 ---- */

typedef struct pass {
    int64_t n[4];
    double *value[4]; /* of y and the gradients of x, w, bias */
    torc_dtype dtype[4];
} pass;

static void note(pass *p, int i, torc_tensor *t)
{
    p->n[i] = torc_numel(t);
    p->dtype[i] = torc_dtype_of(t);
    p->value[i] = malloc((size_t)(p->n[i] + 1) * sizeof(double));
    torc_read(t, TORC_F64, p->value[i], p->n[i]);
}

/* Of the sum of the squares of y / 2, with inputs that bf16 and f16 hold exactly. */
static pass run(const geometry *g, elementwise_op act, bool fused, torc_dtype dtype,
                torc_dtype scope)
{
    pass p;
    torc_tensor *in[3], *y = NULL;
    const torc_shape shapes[] = {TORC_SHAPE(g->n, g->c, g->h, g->w),
                                 TORC_SHAPE(g->out, g->c / g->groups, g->kernel, g->kernel),
                                 TORC_SHAPE(g->out)};
    torc_seed(3);
    for (int i = 0; i < 3; i++) {
        torc_tensor *exact = torc_to(torc_randn(shapes[i]), TORC_BF16);
        in[i] = torc_keep(torc_detach(torc_to(exact, dtype)));
        torc_set_requires_grad(in[i], true);
    }
    torc_autocast(scope)
    {
        y = fused ? conv_act(in, &(activated){g, act, false})
                  : op_activation(TORC_HERE, conv_act(in, &(activated){g, EW_NONE, false}), act);
        torc_backward(torc_mul_scalar(torc_sum(torc_mul(y, y)), 0.5));
    }
    note(&p, 0, y);
    for (int i = 0; i < 3; i++) {
        note(&p, i + 1, torc_grad(in[i]));
        torc_tensor_free(in[i]);
    }
    torc_tape_clear();
    return p;
}

static double largest(const pass *p, int i)
{
    double most = 0;
    for (int64_t k = 0; k < p->n[i]; k++)
        most = fmax(most, fabs(p->value[i][k]));
    return most;
}

/* In units of the largest value: `of_y` for y, `of_gradients` for the rest. */
static void compare(pass a, pass b, double of_y, double of_gradients)
{
    for (int i = 0; i < 4; i++) {
        double allowed = (i ? of_gradients : of_y) * largest(&b, i);
        CHECK_INT(a.n[i], b.n[i]);
        for (int64_t k = 0; k < a.n[i]; k++)
            CHECK_NEAR(a.value[i][k], b.value[i][k], allowed);
        free(a.value[i]), free(b.value[i]);
    }
}

TEST_LOW(one_pass_computes_what_two_do)
{
    for (size_t k = 0; k < ARRAY_LENGTH(grid); k++)
        for (size_t a = 0; a < ARRAY_LENGTH(acts); a++) {
            const geometry *g = &grid[k];
            compare(run(g, acts[a], true, TORC_F32, TORC_F32),
                    run(g, acts[a], false, TORC_F32, TORC_F32), 0, 1e-6);
            compare(run(g, acts[a], true, low, TORC_F32), run(g, acts[a], false, low, TORC_F32), 0,
                    2 * low_unit(low));
        }
}

/* y is rounded once or, with an activation, twice; g, dpre and dx are rounded on their way, and
 * each of the sums after them has many terms (and tanh's slope, 1 - y^2, is off by a unit of 1). */
TEST_LOW(autocast_stays_near_f32)
{
    for (size_t k = 0; k < ARRAY_LENGTH(grid); k++)
        for (size_t a = 0; a < ARRAY_LENGTH(acts); a++) {
            pass p = run(&grid[k], acts[a], true, TORC_F32, low);
            CHECK_INT(p.dtype[0], low);
            for (int i = 1; i < 4; i++) /* masters are f32, so are their gradients */
                CHECK_INT(p.dtype[i], TORC_F32);
            compare(p, run(&grid[k], acts[a], true, TORC_F32, TORC_F32), 2 * low_unit(low),
                    16 * low_unit(low));
        }
}

TEST_LOW(low_tensors_have_low_gradients)
{
    for (size_t k = 0; k < ARRAY_LENGTH(grid); k++) {
        pass p = run(&grid[k], EW_gelu_tanh, true, low, TORC_F32);
        for (int i = 0; i < 4; i++)
            CHECK_INT(p.dtype[i], low);
        compare(p, run(&grid[k], EW_gelu_tanh, true, TORC_F32, TORC_F32), 2 * low_unit(low),
                8 * low_unit(low));
    }
}

/* Low operands, f32 results: only dpre and what is multiplied are rounded. */
TEST_LOW(matmul_precision_keeps_results_f32)
{
    for (size_t k = 0; k < ARRAY_LENGTH(grid); k++) {
        torc_set_matmul_precision(low);
        pass p = run(&grid[k], EW_relu, true, TORC_F32, TORC_F32);
        torc_set_matmul_precision(TORC_F32);
        for (int i = 0; i < 4; i++)
            CHECK_INT(p.dtype[i], TORC_F32);
        compare(p, run(&grid[k], EW_relu, true, TORC_F32, TORC_F32), 1e-6, 2 * low_unit(low));
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
