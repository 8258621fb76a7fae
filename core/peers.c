/* peers -- see peers.h. */
#include "core/peers.h"

static peers_sum_function served_by;

void peers_set_sum(peers_sum_function sum)
{
    served_by = sum;
}

void peers_sum(torc_site at, const char *op, double *values, int64_t count)
{
    if (served_by)
        served_by(at, op, values, count);
}
