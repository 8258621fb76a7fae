/* clip -- gradients scaled so that their joint norm stays below a limit (Pascanu, Mikolov, Bengio
 * 2013). */
#include "core/optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

double torc_clip_grad_norm(torc_site at, torc_module *net, double max_norm)
{
    const call c = {at, __func__};
    if (!(max_norm >= 0))
        call_die(&c, "expected a max_norm of 0 or more, found %g", max_norm);
    int64_t n;
    stretch *s = optimizer_gradients(&c, net, &n);
    double norm = sqrt(kernels_here()->sum_squares(s, n));
    if (isfinite(norm) && norm > max_norm)
        kernels_here()->scale(s, n, max_norm / (norm + 1e-6)); /* PyTorch's 1e-6 */
    free(s);
    return norm;
}
