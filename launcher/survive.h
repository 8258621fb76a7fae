/*
 * survive -- where the ranks go when hosts have gone.
 *
 *     a 0 1 | b 2 3 | c 4 5     b is gone, and there is
 *     a 0 1 | d 2 3 | c 4 5     a spare host d
 *     a 0 1 | c 2 3 | c 4 5     room on c
 *     a 0 1 | c 2 3             neither: a smaller world, where --nnodes MIN:MAX allows it
 *
 * Ranks whose host is left stay on it. They keep their numbers, unless the world shrinks: then
 * those behind the gap move up. A host may stand in the list more than once.
 */
#ifndef LAUNCHER_SURVIVE_H
#define LAUNCHER_SURVIVE_H

#include "launcher/place.h"

/* Changes `now` from what it was; `known` are all hosts that the job may use, with their slots, and
 * gone[i] says that known->of[i] is lost. Returns the number of ranks, or 0 with a sentence in
 * torc_last_error() where too few hosts are left; then `now` is as it was. */
int survive(hosts *now, const hosts *known, const bool *gone, const wish *w);

#endif
