/* gradients -- see gradients.h. */
#include "tests/gradients.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_INPUTS = 8 };
typedef enum layout { CONTIGUOUS, REVERSED, STRIDED, LAYOUTS } layout;
static const char *const layout_names[] = {"contiguous", "reversed", "strided"};

typedef struct probe {
    test_op f;
    const void *how;
    layout how_laid;
} probe;

/* The shape that is stored so that view_of() gives `shape`. */
static torc_shape stored_shape(torc_shape shape, layout l)
{
    torc_shape s = shape;
    for (int i = 0; l == REVERSED && i < s.ndim; i++)
        s.dim[i] = shape.dim[s.ndim - 1 - i];
    if (l == STRIDED && s.ndim > 0)
        s.dim[s.ndim - 1] = 2 * shape.dim[s.ndim - 1];
    return s;
}

static torc_tensor *view_of(torc_tensor *stored, layout l)
{
    int ndim = torc_ndim(stored);
    torc_shape reverse = {.ndim = ndim};
    for (int i = 0; i < ndim; i++)
        reverse.dim[i] = ndim - 1 - i;
    if (l == REVERSED)
        return torc_permute(stored, reverse);
    if (l == STRIDED && ndim > 0)
        return torc_slice(stored, -1, 0, INT64_MAX, 2);
    return stored;
}

/* sum of w_i y_i with w_i = 0.5 .. 1.6, no two neighbours alike */
static torc_tensor *weighted_sum(torc_tensor *y)
{
    int64_t n = torc_numel(y);
    double *w = malloc((size_t)(n + 1) * sizeof *w);
    for (int64_t i = 0; i < n; i++)
        w[i] = 0.5 + (double)(i * 7 % 12) / 10;
    torc_tensor *weights = torc_zeros(torc_shape_of(y), .dtype = TORC_F64);
    torc_write(weights, TORC_F64, w, n);
    free(w);
    return torc_sum(torc_mul(y, weights));
}

static torc_tensor *scalar(torc_tensor *const *in, void *context)
{
    const probe *p = context;
    torc_tensor *views[MOST_INPUTS];
    for (int i = 0; i < MOST_INPUTS && in[i]; i++)
        views[i] = view_of(in[i], p->how_laid);
    return weighted_sum(p->f(views, p->how));
}

/* Values spread evenly over (low, high) in a scrambled order: no ties, none at a kink by accident.
 */
static torc_tensor *spread_values(torc_shape shape, int salt, double low, double high)
{
    torc_tensor *t = torc_tensor_new(shape, .dtype = TORC_F64, .requires_grad = true);
    int64_t n = torc_numel(t), prime = 1000003;
    double *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = low +
               (high - low) * ((double)((i * 7919 + salt * 104729 + 31) % prime) / (double)prime);
    torc_write(t, TORC_F64, v, n);
    free(v);
    return t;
}

void check_gradients(const char *name, test_op f, const void *how, int n, const torc_shape *shape,
                     double low, double high)
{
    for (layout l = CONTIGUOUS; l < LAYOUTS; l++) {
        probe p = {f, how, l};
        torc_tensor *in[MOST_INPUTS + 1] = {NULL};
        for (int i = 0; i < n; i++)
            in[i] = spread_values(stored_shape(shape[i], l), i, low, high);
        char worst[256];
        double off = torc_gradcheck(scalar, &p, n, in, worst, sizeof worst);
        test_check(off <= 1e-6, __FILE__, __LINE__, "%s, %s inputs: off by %g at %s", name,
                   layout_names[l], off, worst);
        for (int i = 0; i < n; i++)
            torc_tensor_free(in[i]);
    }
}
