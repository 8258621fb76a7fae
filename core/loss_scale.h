/*
 * loss_scale -- the dynamic loss scale of this process (core/clipping.h): when it is on, when it
 * changes, what of it is in a checkpoint.
 *
 *     host     backward | step | backward                step | ...       asks, never looks
 *     device   scale 4  | skip | scale <- 2, seed = 2 w  ok   |
 *                                   '- the first backward after a step: gradients that are added
 *                                      up over several backwards have one scale
 *
 * The state is in the device's memory and changes there, in the order of kernels. It is the same on
 * every rank, because the squares of the summed gradients are (core/optim/clip.c): nothing is sent.
 */
#ifndef TORC_LOSS_SCALE_H
#define TORC_LOSS_SCALE_H

#include "core/clipping.h"
#include "core/tensor.h"

/* What is recorded from here on computes in f16: from the next step's gradients on there is a loss
 * scale, unless torc_set_loss_scale() has decided otherwise. */
void loss_scale_wanted(const call *c);
/* Whether the next torc_backward() has one. */
bool loss_scale_expected(void);
/* The state of the gradients that there are, in the device's memory; NULL: they are not scaled. */
loss_scale *loss_scale_here(void);

/* A backward begins. */
void loss_scale_begin(void);
/* g, of one element, = weight times the scale: what that backward starts from. */
void loss_scale_seed(tensor *g, double weight);
/* A step has used up the gradients, or left them out. */
void loss_scale_stepped(void);
/* How a step ended; told a step later, for the host waits for nobody. */
void loss_scale_learn(const clipping *c);
/* Scopes in which a backward is not scaled. */
void loss_scale_pause(bool on);

/* ---- for checkpoints ---- */

typedef struct loss_scale_saved {
    loss_scale state;
    bool stepped; /* what its steps say has not been applied yet */
} loss_scale_saved;
/* false: there is none. */
bool loss_scale_save(loss_scale_saved *out);
/* It goes on from there, if it is on, or as soon as it is. */
void loss_scale_restore(const loss_scale_saved *from);

/* What decides on it, for ranks to compare: a line, without its end. */
void loss_scale_describe(char *text, size_t size);
/* As before the first call. */
void loss_scale_forget(void);

#endif
