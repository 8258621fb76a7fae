/*
 * autocast -- which dtype an op computes in within torc_autocast(), and the copies that it takes.
 *
 *     master   a parameter: f32, its gradient too, and all that an optimizer keeps of it
 *     low      bf16, a float of 8 bits, or f16, one of 11 bits and a small range: half the bytes,
 *              and products at twice to ten times the rate
 *
 *     masters     w f32 ------ low, once a step ------.                     .---- dw f32
 *                                                     v                     |
 *     activations x low -------------------------> product (sums in f32) --> y low --> gelu --> ..
 *
 * Who does what is decided by three kinds of ops:
 *
 *     products (linear, matmul, conv2d, attention), embedding .... low operands, low results
 *     what adds up many elements (sum, mean, softmax, losses) .... any operands, f32 results
 *     all other ops .............................................. follow the dtype of their input
 *
 * Nothing here is recorded: an op records the tensors that it was given, keeps the copies that it
 * computed with, and its backward gives each input a gradient of the input's own dtype. So the
 * gradient of a master is added up in f32 and never rounded on its way.
 */
#ifndef TORC_AUTOCAST_H
#define TORC_AUTOCAST_H

#include "core/tape.h"

/* Of a product whose input is of `dtype`, here and now. */
typedef struct product_types {
    torc_dtype operand; /* of what is multiplied: low in torc_autocast(low) and after
                           torc_set_matmul_precision(low) */
    torc_dtype result;  /* low in torc_autocast(low) only */
} product_types;
product_types autocast_product(torc_dtype dtype);

/* t in `dtype`, f32 or low: t itself; of a parameter the copy that is made once a step; else a new
 * copy. The tape owns what is new, so the result may be kept for a backward. Laid out like t. */
tensor *autocast_operand(const call *c, tensor *t, torc_dtype dtype);

/* A backward has used the copy for the last time: unless it is `given` itself or the copy of a
 * parameter, its memory goes. */
void autocast_drop(tensor *copy, const tensor *given);

/* Whether a product may take a and b as they are: f32 and the scope's dtype side by side,
 * within torc_autocast(). */
bool autocast_mixes(const tensor *a, const tensor *b);
/* For ops of two inputs that follow their dtype: within torc_autocast(), where one is low and the
 * other f32, the first is widened (differentiably), so that nothing is lost. */
void autocast_meet(const call *c, torc_tensor **a, torc_tensor **b);

/* The dtype of a sum over elements of `dtype`: f32 for a low one in torc_autocast(), else dtype. */
torc_dtype autocast_sum(torc_dtype dtype);

/* The dtype of this moment's scope, TORC_F32 outside of any; and to return to it in a second run of
 * the same ops. */
torc_dtype autocast_here(void);
void autocast_return(torc_dtype dtype);

#endif
