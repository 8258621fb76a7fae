/* init -- see init.h. */
#include "core/nn/init.h"

#include "core/kernels.h"
#include "core/rng.h"

#include <math.h>

typedef void (*draw)(tensor *out, uint64_t key, uint64_t counter, double a, double b);

/* Fills t by `how`; a dtype or layout that it cannot write gets the values converted. */
static void fill(const call *c, tensor *t, draw how, double a, double b)
{
    if (!tensor_is_float(t))
        call_die(c, "expected a float dtype, found %s", torc_dtype_name(t->dtype));
    uint64_t key, counter = rng_take(tensor_numel(t), &key);
    bool direct = !dtype_is_low(t->dtype) && tensor_is_contiguous(t);
    torc_dtype dtype = dtype_is_low(t->dtype) ? TORC_F32 : t->dtype;
    tensor *values =
        direct ? tensor_share(t) : tensor_create(c, dtype, t->ndim, t->shape, OWNER_HOUSE);
    how(values, key, counter, a, b);
    if (!direct)
        kernels_here()->copy(t, values);
    tensor_drop(values);
}

void torc_init_normal(torc_site at, torc_tensor *t, double mean, double std)
{
    const call c = {at, __func__};
    if (!(std >= 0))
        call_die(&c, "expected a standard deviation of 0 or more, found %g", std);
    fill(&c, tensor_of(&c, t), kernels_here()->normal, mean, std);
}

void torc_init_uniform(torc_site at, torc_tensor *t, double low, double high)
{
    const call c = {at, __func__};
    if (!(low <= high))
        call_die(&c, "expected low <= high, found %g and %g", low, high);
    fill(&c, tensor_of(&c, t), kernels_here()->uniform, low, high);
}

void torc_init_constant(torc_site at, torc_tensor *t, double value)
{
    kernels_here()->fill(tensor_of(&(call){at, __func__}, t), value);
}

torc_tensor *init_uniform(torc_site at, torc_shape shape, double bound)
{
    torc_tensor *t = torc_zeros(at, shape, (torc_create_options){0});
    torc_init_uniform(at, t, -bound, bound);
    return t;
}

double init_bound(int64_t fan_in)
{
    return fan_in > 0 ? 1 / sqrt((double)fan_in) : 0;
}
