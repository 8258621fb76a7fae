/*
 * compressor -- the user's own way to the mean of the gradients: what `.compressor` of torc_ddp()
 * attaches.
 *
 *     backward   layer 3  layer 2  layer 1  end
 *     weights    [----]
 *     buckets    stay where they are        [ user's function: gradients -> what the step sees ]
 *     its means                               [chunk] [chunk] ..   torc_ddp_mean()
 *
 * Nothing is sent during backward: a compressor sees whole gradients, and most make few large
 * messages of them. Its means travel through the spare buffer (team.h) behind the gradients, in
 * chunks of a buffer's size, so that the gradients stay as they are meanwhile.
 *
 * The mean stays exact for uneven shares. The gradients of rank r arrive multiplied by its weight
 * w_r, and the reducer's scale makes their sum the mean over the global batch (reducer.h). The
 * function sees n * scale * w_r g_r on n ranks, whose plain mean over the ranks is that sum: it
 * need not know of weights, and a rank without samples takes part with zeros.
 */
#ifndef TORC_COMPRESSOR_H
#define TORC_COMPRESSOR_H

#include "allreduce/reducer.h"

/* Dies where the options, or the parameters of `net`, do not go together with a compressor. */
void compressor_check(torc_site at, torc_module *net, torc_ddp_options o);
/* Has the user's function make of this rank's gradients what the optimizer shall see. The weights
 * of all ranks have come; every rank calls it. */
void compressor_run(reducer *r);
/* torc_ddp_mean(). */
void compressor_mean(reducer *r, torc_site at, float *values, int64_t n);

#endif
