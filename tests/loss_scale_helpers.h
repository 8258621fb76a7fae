/*
 * loss_scale_helpers -- lessons in which some steps go wrong, and the same without those steps: a
 * step that was skipped must not be seen in anything that comes after it.
 *
 *     bad       1 2 3 X 5 X 7       on one rank the loss is infinite
 *     without   1 2 3   5   7       the same batches
 */
#ifndef TESTS_LOSS_SCALE_HELPERS_H
#define TESTS_LOSS_SCALE_HELPERS_H

#include "tests/ddp_helpers.h"

/* `SOME(2) | SOME(5)`: the third and the sixth step. */
#define SOME(step) (1u << (step))

typedef enum learner { BY_SGD, BY_MOMENTUM, BY_ADAM, BY_ADAMW, LEARNERS } learner;

typedef struct scaled_lesson {
    learner learner;
    int steps;
    unsigned bad;  /* steps in which the last rank's loss is infinite */
    unsigned left; /* steps that are left out */
    int parts;     /* backwards a step; only the first is bad. 0: one */
    float clips;
    torc_ddp_options how;
    bool ddp;
} scaled_lesson;

static inline torc_optimizer *optimizer_of(const scaled_lesson *l, torc_module *net)
{
    switch (l->learner) {
    case BY_SGD:
        return torc_sgd(net, .lr = 0.1f, .weight_decay = 0.02f, .clip_norm = l->clips);
    case BY_MOMENTUM: /* its first step is another one */
        return torc_sgd(net, .lr = 0.1f, .momentum = 0.9f, .dampening = 0.5f,
                        .clip_norm = l->clips);
    case BY_ADAM:
        return torc_adam(net, .lr = 0.01f, .weight_decay = 0.1f, .clip_norm = l->clips);
    default:
        return torc_adamw(net, .lr = 0.01f, .clip_norm = l->clips);
    }
}

/* This rank's share of a batch of this step's own. The arithmetic is the same, bad or not. */
static inline void scaled_backward(torc_module *net, int step, bool bad)
{
    int from = step % 4, size = BATCH - 4;
    int first = from + share(torc_rank(), size), end = from + share(torc_rank() + 1, size);
    torc_tensor *loss =
        torc_cross_entropy(torc_forward(net, inputs(first, end)), labels(first, end));
    bool mine = bad && torc_rank() == torc_world_size() - 1;
    torc_backward(torc_mul_scalar(loss, mine ? INFINITY : 1));
}

static inline void scaled_step(torc_module *net, torc_optimizer *opt, const scaled_lesson *l,
                               int step)
{
    for (int part = 0; part < (l->parts ? l->parts : 1); part++)
        scaled_backward(net, step + part, part == 0 && l->bad & SOME(step));
    torc_step(opt);
    torc_tape_clear();
}

static inline torc_module *taught(const scaled_lesson *l)
{
    torc_module *net = l->ddp ? (torc_ddp)(TORC_HERE, network(1), l->how) : network(1);
    torc_optimizer *opt = optimizer_of(l, net);
    for (int step = 0; step < l->steps; step++)
        if (!(l->left & SOME(step)))
            scaled_step(net, opt, l, step);
    torc_optimizer_free(opt);
    return net;
}

/* With a scale and its bad steps, against neither: the same bits. */
static inline void check_lesson(scaled_lesson l)
{
    torc_set_loss_scale(.interval = 2);
    torc_module *scaled = taught(&l);
    torc_set_loss_scale(.off = true);
    l.left = l.bad;
    l.bad = 0;
    torc_module *plain = taught(&l);
    compare_bits(scaled, plain);
    CHECK(!l.ddp || torc_replicas_agree(scaled));
}

#endif
