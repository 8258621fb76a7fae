/*
 * losses -- scalars to minimise, each the mean over what was counted.
 *
 *     cross_entropy      (1 - s) (lse(x) - x[t]) + s (lse(x) - mean(x)), s the label smoothing
 *                        (Szegedy et al. 2016)
 *     mse                (x - t)^2
 *     l1                 |x - t|
 *     bce_with_logits    max(x, 0) - x t + log(1 + exp(-|x|))
 *
 * A loss notes its weight, the number of rows or elements that it counted, and is 0 with weight 0
 * where nothing was.
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

/* ---- cross entropy: of bf16 logits too the loss and lse are f32 ---- */

typedef struct entropy_saved {
    tensor *lse; /* [N] */
    int64_t counted, ignore;
    double smoothing;
} entropy_saved;

/* Rows of classes, whatever stood before them. */
static tensor *rows_view(const call *c, const tensor *t)
{
    int64_t classes = t->shape[t->ndim - 1], n = 1;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return tensor_view(c, t, 2, (int64_t[]){n, classes}, (int64_t[]){max_i64(classes, 1), 1},
                       t->offset, OWNER_HOUSE);
}

static void entropy_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const entropy_saved *s = n->saved;
    sink dx = tape_sink(n, 0);
    tensor *rows = rows_view(c, n->in[0]), *drows = rows_view(c, dx.t);
    kernels_here()->cross_entropy_grad((sink){drows, dx.add}, grad, s->lse, rows, n->in[1],
                                       s->counted, s->ignore, s->smoothing);
    tensor_drop(rows);
    tensor_drop(drows);
}

static void check_target(const call *c, const tensor *x, const tensor *target, int64_t ignore)
{
    bool fits = x->ndim >= 2 && target->ndim == x->ndim - 1 && target->dtype == TORC_I64;
    for (int i = 0; fits && i < target->ndim; i++)
        fits = target->shape[i] == x->shape[i];
    if (!fits)
        call_die(c, "expected logits [N, C] and an int64 target [N], found %s and %s %s",
                 tensor_shape_text(x), torc_dtype_name(target->dtype), tensor_shape_text(target));
    int64_t classes = x->shape[x->ndim - 1];
    int64_t bad = kernels_here()->check_index(target, classes, ignore);
    if (bad >= 0) {
        int64_t value;
        device_current()->to_host(&value, (int64_t *)tensor_data(target) + bad, sizeof value);
        call_die(c, "target %lld at position %lld is outside the classes 0 .. %lld",
                 (long long)value, (long long)bad, (long long)classes - 1);
    }
}

torc_tensor *torc_cross_entropy(torc_site at, torc_tensor *hx, torc_tensor *htarget,
                                torc_cross_entropy_options o)
{
    const call c = {at, __func__};
    torc_dtype compute = op_compute_dtype(op_float(&c, hx)->dtype);
    tensor *x = tensor_of(&c, torc_contiguous(at, hx));
    tensor *target = tensor_of(&c, torc_contiguous(at, htarget));
    int64_t ignore = o.ignore_index == 0 ? -100 : o.ignore_index == INT64_MIN ? 0 : o.ignore_index;
    if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
        call_die(&c, "expected label_smoothing from 0 to 1, found %g", (double)o.label_smoothing);
    check_target(&c, x, target, ignore);
    tensor *rows = rows_view(&c, x);
    tensor *y = tensor_create(&c, compute, 0, NULL, OWNER_TAPE);
    tensor *lse = tensor_create(&c, compute, 1, rows->shape, OWNER_TAPE);
    entropy_saved s = {lse, kernels_here()->count_targets(target, ignore), ignore,
                       o.label_smoothing};
    kernels_here()->cross_entropy(y, lse, rows, target, s.counted, ignore, s.smoothing);
    tensor_drop(rows);
    entropy_saved *saved =
        tape_record(&c, entropy_backward, y, 2, (tensor *[]){x, target}, sizeof s);
    if (saved)
        *saved = s;
    y->weight = (double)s.counted;
    return tensor_handle(y);
}

/* ---- the others are means of elementwise expressions; their gradients are those of their parts
 * ---- */

/* Of two dtypes in torc_autocast() the bf16 one is widened. */
static void check_pair(const call *c, torc_tensor **hx, torc_tensor **ht)
{
    autocast_meet(c, hx, ht);
    const tensor *x = op_float(c, *hx), *t = op_float(c, *ht);
    op_same_dtype(c, x, t);
    if (!tensor_same_shape(x, t))
        call_die(c, "expected a target of the shape %s, found %s", tensor_shape_text(x),
                 tensor_shape_text(t));
}

/* The mean; of nothing it is 0, not NaN. */
static torc_tensor *mean_of(torc_site at, torc_tensor *x)
{
    const call c = {at, __func__};
    torc_reduce_options all = {0};
    if (tensor_numel(tensor_of(&c, x)) > 0)
        return torc_mean(at, x, all);
    torc_tensor *none = torc_sum(at, x, all);
    tensor_of(&c, none)->weight = 0;
    return none;
}

torc_tensor *torc_mse_loss(torc_site at, torc_tensor *x, torc_tensor *target)
{
    check_pair(&(call){at, __func__}, &x, &target);
    torc_tensor *off = torc_sub(at, x, target);
    return mean_of(at, torc_mul(at, off, off));
}

torc_tensor *torc_l1_loss(torc_site at, torc_tensor *x, torc_tensor *target)
{
    check_pair(&(call){at, __func__}, &x, &target);
    return mean_of(at, torc_abs(at, torc_sub(at, x, target)));
}

torc_tensor *torc_bce_with_logits(torc_site at, torc_tensor *x, torc_tensor *target)
{
    check_pair(&(call){at, __func__}, &x, &target);
    return mean_of(at, torc_sub(at, torc_softplus(at, x), torc_mul(at, x, target)));
}
