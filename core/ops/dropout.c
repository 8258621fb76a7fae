/*
 * dropout -- y = x / (1 - p) where a draw is at least p, else 0; dx = g by the same draws
 * (Srivastava et al. 2014).
 *
 * The draws are functions of a counter, so backward makes them again instead of keeping a mask.
 */
#include "core/ops/ops.h"
#include "core/rng.h"

typedef struct dropout_saved {
    double p;
    uint64_t key, counter;
} dropout_saved;

static void dropout_backward(node *n, tensor *grad)
{
    const dropout_saved *s = n->saved;
    kernels_here()->dropout(tape_sink(n, 0), grad, s->p, s->key, s->counter);
}

static void dropout_remake(node *n)
{
    const dropout_saved *s = n->saved;
    kernels_here()->dropout((sink){n->out, false}, n->in[0], s->p, s->key, s->counter);
}

torc_tensor *torc_dropout_op(torc_site at, torc_tensor *handle, double p, bool training)
{
    const call c = {at, __func__};
    op_float(&c, handle);
    if (!(p >= 0 && p <= 1))
        call_die(&c, "expected a probability from 0 to 1, found %g", p);
    if (!training || p == 0)
        return handle;
    tensor *x = tensor_of(&c, torc_contiguous(at, handle));
    dropout_saved s = {.p = p};
    s.counter = rng_take_own(tensor_numel(x), &s.key);
    tensor *y = tensor_create(&c, x->dtype, x->ndim, x->shape, OWNER_TAPE);
    kernels_here()->dropout((sink){y, false}, x, p, s.key, s.counter);
    dropout_saved *saved = tape_record(&c, dropout_backward, y, 1, &x, sizeof s);
    if (saved) {
        *saved = s;
        y->maker->remake = tape_is_lean() ? dropout_remake : NULL;
        y->maker->remake_reads = true;
    }
    tape_unread(y, true, true);
    return tensor_handle(y);
}
