/*
 * conv_f64 -- the convolution of conv.h as its formula reads, for gradient checks.
 *
 * Forward and both gradients visit the same triples (x, w, y) and differ in which of the three is
 * the sum of products of the other two.
 */
#include "core/cpu/conv.h"

typedef enum wanted { WANT_Y, WANT_X, WANT_W } wanted;

typedef struct taps {
    conv c;
    wanted want;
    double *x, *w, *y;
    const int64_t *x_stride, *w_stride, *y_stride;
} taps;

/* All products of one output place, y pointing at it. */
static void visit_place(const taps *t, double *y, const double *x, int64_t o, int64_t i, int64_t j)
{
    const conv *c = &t->c;
    int64_t group = c->in / c->how.groups, first = o / (c->out / c->how.groups) * group;
    for (int64_t k = 0; k < group; k++)
        for (int64_t u = 0; u < c->how.kernel; u++)
            for (int64_t v = 0; v < c->how.kernel; v++) {
                int64_t row = i * c->how.stride + u * c->how.dilation - c->how.padding;
                int64_t column = j * c->how.stride + v * c->how.dilation - c->how.padding;
                if (row < 0 || row >= c->height || column < 0 || column >= c->width)
                    continue;
                double *xs = (double *)x + (first + k) * t->x_stride[1] + row * t->x_stride[2] +
                             column * t->x_stride[3];
                double *ws = t->w + o * t->w_stride[0] + k * t->w_stride[1] + u * t->w_stride[2] +
                             v * t->w_stride[3];
                if (t->want == WANT_Y)
                    *y += *xs * *ws;
                else if (t->want == WANT_X)
                    *xs += *y * *ws;
                else
                    *ws += *y * *xs;
            }
}

static void visit_channel(const taps *t, int64_t n, int64_t o)
{
    for (int64_t i = 0; i < t->c.rows; i++)
        for (int64_t j = 0; j < t->c.columns; j++)
            visit_place(t,
                        t->y + n * t->y_stride[0] + o * t->y_stride[1] + i * t->y_stride[2] +
                            j * t->y_stride[3],
                        t->x + n * t->x_stride[0], o, i, j);
}

/* A thread has images of its own, or, for dw, output channels of its own. */
static void visit(const taps *t)
{
    if (t->want == WANT_W) {
#pragma omp parallel for schedule(static)
        for (int64_t o = 0; o < t->c.out; o++)
            for (int64_t n = 0; n < t->c.images; n++)
                visit_channel(t, n, o);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < t->c.images; n++)
        for (int64_t o = 0; o < t->c.out; o++)
            visit_channel(t, n, o);
}

static taps taps_of(wanted want, const tensor *x, const tensor *w, const tensor *y, window how)
{
    return (taps){conv_of(x, y, how), want,      tensor_data(x), tensor_data(w),
                  tensor_data(y),     x->stride, w->stride,      y->stride};
}

void conv_f64(tensor *y, const tensor *x, const tensor *w, window how)
{
    taps t = taps_of(WANT_Y, x, w, y, how);
    visit(&t);
}

void conv_grad_input_f64(tensor *dx, const tensor *g, const tensor *w, window how)
{
    taps t = taps_of(WANT_X, dx, w, g, how);
    visit(&t);
}

void conv_grad_weight_f64(tensor *dw, const tensor *g, const tensor *x, window how)
{
    taps t = taps_of(WANT_W, x, dw, g, how);
    visit(&t);
}
