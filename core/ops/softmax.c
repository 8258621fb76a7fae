/*
 * softmax -- softmax, log_softmax and logsumexp.
 *
 *     softmax      y = exp(x - lse)      dx = y (g - sum y g)
 *     log_softmax  y = x - lse           dx = g - exp(y) sum g
 *     logsumexp    y = lse = m + log sum exp(x - m), m = max x      dx = g exp(x - y)
 *
 * The kernels work on rows of the last dimension, in f32 or f64; other dimensions are brought there
 * by views, and one copy. The result of bf16 is bf16, but f32 within torc_autocast().
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

static void softmax_backward(node *n, tensor *grad)
{
    kernels_here()->softmax_grad(tape_sink(n, 0), n->out, grad, *(const bool *)n->saved);
}

/* x contiguous, over its last dimension. */
static torc_tensor *softmax_rows(const call *c, tensor *x, bool log)
{
    tensor *y = tensor_create(c, x->dtype, x->ndim, x->shape, OWNER_TAPE);
    kernels_here()->softmax(y, x, log);
    bool *saved = tape_record(c, softmax_backward, y, 1, &x, sizeof *saved);
    if (saved)
        *saved = log;
    return tensor_handle(y);
}

static torc_tensor *softmax(const call *c, torc_tensor *x, int dim, bool log)
{
    const tensor *t = op_float(c, x);
    torc_dtype dtype = t->dtype;
    int d = t->ndim ? shape_dim(c, dim, t->ndim) : 0, last = t->ndim - 1;
    if (t->ndim == 0) /* one number alone: a row of one */
        return torc_squeeze(c->at, softmax(c, torc_unsqueeze(c->at, x, 0), 0, log), 0);
    x = torc_to(c->at, x, op_compute_dtype(dtype));
    x = torc_contiguous(c->at, torc_transpose(c->at, x, d, last));
    torc_tensor *y = softmax_rows(c, tensor_of(c, x), log);
    return torc_to(c->at, d == last ? y : torc_transpose(c->at, y, d, last), autocast_sum(dtype));
}

torc_tensor *torc_softmax(torc_site at, torc_tensor *x, int dim)
{
    return softmax(&(call){at, __func__}, x, dim, false);
}

torc_tensor *torc_log_softmax(torc_site at, torc_tensor *x, int dim)
{
    return softmax(&(call){at, __func__}, x, dim, true);
}

/* ---- logsumexp ---- */

static void logsumexp_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    tensor *x = n->in[0];
    tensor *y = tensor_broadcast(c, n->out, x->ndim, x->shape);
    tensor *g = tensor_broadcast(c, grad, x->ndim, x->shape);
    tensor *p = tensor_create_like(c, x, x->dtype, OWNER_HOUSE);
    kernels_here()->elementwise(EW_sub, p, 2, (const tensor *[]){x, y}, 0, 0, false);
    kernels_here()->elementwise(EW_exp, p, 1, (const tensor *[]){p}, 0, 0, false);
    sink dx = tape_sink(n, 0);
    kernels_here()->elementwise(EW_mul, dx.t, 2, (const tensor *[]){p, g}, 0, 0, dx.add);
    tensor_drop(p);
    tensor_drop(g);
    tensor_drop(y);
}

/* [.., n] contiguous -> [.., 1] */
static torc_tensor *logsumexp_rows(const call *c, tensor *x)
{
    int64_t shape[TORC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        shape[i] = i < x->ndim - 1 ? x->shape[i] : 1;
    tensor *y = tensor_create(c, x->dtype, x->ndim, shape, OWNER_TAPE);
    kernels_here()->logsumexp(y, x);
    tape_record(c, logsumexp_backward, y, 1, &x, 0);
    return tensor_handle(y);
}

/* The reduced dimensions move to the end and become one. */
torc_tensor *torc_logsumexp(torc_site at, torc_tensor *x, torc_reduce_options o)
{
    const call c = {at, __func__};
    const tensor *t = op_float(&c, x);
    torc_dtype dtype = t->dtype;
    torc_shape order = {.ndim = t->ndim}, rows = {0}, left = {0};
    bool gone[TORC_MAX_DIMS] = {false};
    for (int i = 0; i < o.dims.ndim; i++)
        gone[shape_dim(&c, (int)o.dims.dim[i], t->ndim)] = true;
    int64_t count = 1;
    for (int i = 0; i < t->ndim; i++) {
        bool goes = gone[i] || o.dims.ndim == 0;
        count *= goes ? t->shape[i] : 1;
        if (!goes) {
            order.dim[rows.ndim] = i;
            rows.dim[rows.ndim++] = t->shape[i];
        }
        if (!goes || o.keepdim)
            left.dim[left.ndim++] = goes ? 1 : t->shape[i];
    }
    for (int i = 0, at_end = rows.ndim; i < t->ndim; i++)
        if (gone[i] || o.dims.ndim == 0)
            order.dim[at_end++] = i;
    rows.dim[rows.ndim++] = count;
    x = torc_to(at, x, op_compute_dtype(dtype));
    x = torc_contiguous(at, torc_reshape(at, torc_permute(at, x, order), rows));
    return torc_to(at, torc_reshape(at, logsumexp_rows(&c, tensor_of(&c, x)), left),
                   autocast_sum(dtype));
}
