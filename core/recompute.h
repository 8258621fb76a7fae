/* recompute -- what layers need of torc_recompute() (torc.h). */
#ifndef TORC_RECOMPUTE_H
#define TORC_RECOMPUTE_H

#include "core/base.h"

/* While a function of torc_recompute() runs, the first time or again: the place that called
 * torc_recompute(). */
torc_site recompute_site(void);

#endif
