/*
 * attention -- y = softmax(q k^T scale) v, in blocks, so that no T x T matrix exists (Dao et al.
 * 2022).
 *
 * With p = softmax(q k^T scale) and lse the logarithm of its denominators, which is all that is
 * kept of it: dv = p^T g      dp = g v^T      ds = p (dp - sum of g y)      dq = scale ds k      dk
 * = scale ds^T q
 *
 * op_qkv_attention() is the same on a projection that holds q, k and v side by side:
 *
 *     x [B, T, 3 D]   | q: D | k: D | v: D |      three strided views [B, H, T, D / H], no copies
 */
#include "core/ops/autocast.h"
#include "core/ops/ops.h"

#include <math.h>

typedef struct attention_saved {
    tensor *in[3]; /* q, k and v, or all in the first, in the dtype that they were read in */
    tensor *lse;   /* [B, H, T] */
    double scale;
    bool causal;
    int heads; /* of a packed projection */
} attention_saved;

/* bf16 or f16 in torc_autocast(). torc_set_matmul_precision() changes nothing: no kernel of
 * attention reads f32 and multiplies in less. */
static torc_dtype dtype_of(const tensor *t)
{
    return autocast_product(t->dtype).result;
}

/* ---- q, k and v apart ---- */

static void attention_backward(node *n, tensor *grad)
{
    const attention_saved *s = n->saved;
    sink dq = tape_sink(n, 0), dk = tape_sink(n, 1), dv = tape_sink(n, 2);
    kernels_here()->attention_grad(dq, dk, dv, grad, n->out, s->lse, s->in[0], s->in[1], s->in[2],
                                   s->scale, s->causal);
    for (int i = 0; i < 3; i++)
        autocast_drop(s->in[i], n->in[i]);
}

/* Stride 1 in the last dimension. */
static tensor *operand(const call *c, torc_tensor *handle)
{
    tensor *t = tensor_of(c, handle);
    if (t->stride[t->ndim - 1] != 1 && t->shape[t->ndim - 1] > 1)
        t = tensor_of(c, torc_contiguous(c->at, handle));
    return t;
}

/* A view of its own: a tensor that is two of q, k and v at once must not have its one gradient
 * written by both. */
static tensor *apart(const call *c, tensor *t)
{
    torc_tensor *handle = tensor_handle(t);
    return tensor_of(c, torc_reshape(c->at, handle, torc_shape_of(c->at, handle)));
}

static void check_operands(const call *c, const tensor *q, const tensor *k, const tensor *v)
{
    bool fits = q->ndim == 4 && k->ndim == 4 && v->ndim == 4;
    for (int i = 0; fits && i < 4; i++)
        fits = k->shape[i] == v->shape[i] && (i == 2 || q->shape[i] == k->shape[i]);
    if (!fits)
        call_die(c, "expected q [B, H, T, D] and k, v [B, H, S, D], found %s, %s, %s",
                 tensor_shape_text(q), tensor_shape_text(k), tensor_shape_text(v));
    if (!autocast_mixes(q, k))
        op_same_dtype(c, q, k);
    if (!autocast_mixes(q, v))
        op_same_dtype(c, q, v);
}

torc_tensor *torc_scaled_dot_product_attention(torc_site at, torc_tensor *hq, torc_tensor *hk,
                                               torc_tensor *hv, torc_attention_options o)
{
    const call c = {at, __func__};
    tensor *q = op_float(&c, hq), *k = op_float(&c, hk), *v = op_float(&c, hv);
    check_operands(&c, q, k, v);
    q = operand(&c, hq);
    k = hk == hq ? apart(&c, q) : operand(&c, hk);
    v = hv == hq || hv == hk ? apart(&c, hv == hq ? q : k) : operand(&c, hv);
    tensor *const given[] = {q, k, v};
    torc_dtype dtype = dtype_of(q);
    attention_saved s = {.causal = o.causal};
    s.scale = o.scale != 0 ? o.scale : 1 / sqrt((double)max_i64(q->shape[3], 1));
    for (int i = 0; i < 3; i++)
        s.in[i] = autocast_operand(&c, given[i], dtype);
    tensor *y = tensor_create(&c, dtype, 4, q->shape, OWNER_TAPE);
    s.lse = tensor_create(&c, op_compute_dtype(dtype), 3, q->shape, OWNER_TAPE);
    kernels_here()->attention(y, s.lse, s.in[0], s.in[1], s.in[2], s.scale, s.causal);
    attention_saved *saved = tape_record(&c, attention_backward, y, 3, given, sizeof s);
    if (saved)
        *saved = s;
    tape_unread(y, s.in[0] != q && s.in[1] != k && s.in[2] != v, false);
    return tensor_handle(y);
}

/* ---- packed ---- */

/* The view [B, H, T, D / H] of part 0 .. parts - 1 of t [B, T, parts D]. */
static tensor *heads_of(const call *c, const tensor *t, int parts, int part, int heads)
{
    int64_t width = t->shape[2] / parts, head = width / heads;
    int64_t shape[] = {t->shape[0], heads, t->shape[1], head};
    int64_t stride[] = {t->stride[0], head, t->stride[1], 1};
    return tensor_view(c, t, 4, shape, stride, t->offset + part * width, OWNER_HOUSE);
}

static void qkv_backward(node *n, tensor *grad)
{
    const call *c = &n->made;
    const attention_saved *s = n->saved;
    sink dx = tape_sink(n, 0);
    tensor *g = heads_of(c, grad, 1, 0, s->heads), *y = heads_of(c, n->out, 1, 0, s->heads);
    tensor *in[3], *d[3];
    for (int i = 0; i < 3; i++) {
        in[i] = heads_of(c, s->in[0], 3, i, s->heads);
        d[i] = heads_of(c, dx.t, 3, i, s->heads);
    }
    kernels_here()->attention_grad((sink){d[0], dx.add}, (sink){d[1], dx.add}, (sink){d[2], dx.add},
                                   g, y, s->lse, in[0], in[1], in[2], s->scale, s->causal);
    for (int i = 0; i < 3; i++) {
        tensor_drop(in[i]);
        tensor_drop(d[i]);
    }
    tensor_drop(g);
    tensor_drop(y);
    autocast_drop(s->in[0], n->in[0]);
}

torc_tensor *op_qkv_attention(torc_site at, torc_tensor *handle, int heads, bool causal)
{
    const call c = {at, "torc_causal_self_attention"};
    tensor *x = op_float(&c, torc_contiguous(at, handle));
    if (x->ndim != 3 || x->shape[2] % (3 * heads))
        call_die(&c, "expected [B, T, 3 D] with D divisible by %d heads, found %s", heads,
                 tensor_shape_text(x));
    int64_t shape[] = {x->shape[0], x->shape[1], x->shape[2] / 3};
    int64_t lse_shape[] = {shape[0], heads, shape[1]};
    torc_dtype dtype = dtype_of(x);
    attention_saved s = {.causal = causal, .heads = heads};
    s.scale = 1 / sqrt((double)max_i64(shape[2] / heads, 1));
    s.in[0] = autocast_operand(&c, x, dtype);
    tensor *y = tensor_create(&c, dtype, 3, shape, OWNER_TAPE);
    s.lse = tensor_create(&c, op_compute_dtype(dtype), 3, lse_shape, OWNER_TAPE);
    tensor *out = heads_of(&c, y, 1, 0, heads), *in[3];
    for (int i = 0; i < 3; i++)
        in[i] = heads_of(&c, s.in[0], 3, i, heads);
    kernels_here()->attention(out, s.lse, in[0], in[1], in[2], s.scale, causal);
    for (int i = 0; i < 3; i++)
        tensor_drop(in[i]);
    tensor_drop(out);
    attention_saved *saved = tape_record(&c, qkv_backward, y, 1, &x, sizeof s);
    if (saved)
        *saved = s;
    tape_unread(y, s.in[0] != x, false);
    return tensor_handle(y);
}
