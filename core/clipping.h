/*
 * clipping -- what a step multiplies its gradients by, and whether it is skipped: three functions
 * of a few numbers in the device's memory, the same on every device; the host waits for none.
 *
 *     torc_backward()     gradients are `scale` times the true ones: from scale d loss / d loss
 *     torc_step()         squares -> norm -> factor = (max_norm / norm or 1) / scale -> p, m, v
 *                                      '-> infinite or NaN: skip, nothing is written
 *     torc_backward()     scale <- what the steps before say, once, however many optimizers stepped
 *
 * Small gradients become 0 in f16, whose smallest number is 2^-24; multiplied by the scale they do
 * not, and what then is too large says so by being infinite (Micikevicius et al. 2018,
 * arXiv:1710.03740, section 3.2). Every rank sees the same squares, so every rank decides alike.
 */
#ifndef TORC_CLIPPING_H
#define TORC_CLIPPING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define CLIPPING_FUNCTION __host__ __device__ static inline
#else
#define CLIPPING_FUNCTION static inline
#endif

/* A loss scale stays between these. Below 1 it would make gradients smaller than they are, and what
 * is infinite at 1 is so without it: then the model is at fault, and not the scale. Above 2^126 its
 * inverse is no normal float any more. */
#define LOSS_SCALE_LEAST 1.0f
#define LOSS_SCALE_MOST 0x1p126f

typedef struct clipping {
    double squares; /* the sum of the squares of all gradients, as they are */
    double norm;    /* its root, of the true gradients */
    float factor;   /* that they are multiplied by: 1 where that is short enough, or not finite */
    int32_t skip;   /* 1: they are infinite or NaN, and the step is skipped */
} clipping;

typedef struct loss_scale {
    float scale;     /* of the gradients until the next step (first: it is read as a tensor) */
    int32_t skipped; /* 1: a step was, that `scale` knows nothing of yet */
    int64_t good;    /* steps in a row that were not, of those it knows of */
} loss_scale;

typedef struct scale_rule {
    float growth, backoff; /* factors, after `interval` good steps in a row, after a skipped one */
    int64_t interval;
} scale_rule;

/* norm and factor from squares: max_norm / (norm + 1e-6), as in PyTorch, where that is below 1.
 * With an infinity or a NaN among them, scaling would only spread it. s NULL: no scale. */
CLIPPING_FUNCTION void clipping_find(clipping *c, double max_norm, const loss_scale *s)
{
    c->norm = sqrt(c->squares) / (s ? s->scale : 1);
    double factor = max_norm / (c->norm + 1e-6);
    c->factor = isfinite(c->norm) && factor < 1 ? (float)factor : 1;
    c->skip = 0;
}

/* The factor takes the scale out of the gradients, too, where they can be used. */
CLIPPING_FUNCTION void clipping_unscale(clipping *c, loss_scale *s)
{
    c->factor = (float)(c->factor / (double)s->scale);
    c->skip = !isfinite(c->norm);
    s->skipped |= c->skip;
}

/* As torch.amp.GradScaler.update(), between two bounds. */
CLIPPING_FUNCTION void loss_scale_next(loss_scale *s, scale_rule r)
{
    bool grows = !s->skipped && ++s->good >= r.interval; /* more: of a run with a longer one */
    float scale = s->scale * (s->skipped ? r.backoff : grows ? r.growth : 1);
    s->scale = fminf(fmaxf(scale, LOSS_SCALE_LEAST), LOSS_SCALE_MOST);
    if (s->skipped || grows)
        s->good = 0;
    s->skipped = 0;
}

#endif
