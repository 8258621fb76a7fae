/*
 * optimizer -- what SGD and Adam share: the list of stretches over a net's parameters, their
 * state, the step.
 *
 *     parameters   [0.weight]  [0.bias]  [2.weight]       where they are, gradients beside them
 *     m            [0.weight | 0.bias | 2.weight]         one piece of memory, a cache line's
 *     v            [0.weight | 0.bias | 2.weight]         room at most between two
 *
 * A step is one kernel call over all stretches: one pass over parameters, gradients and state.
 * Where the work is divided over ranks (tape.h, sharding) the list holds what this rank owns, in
 * pieces whose gradients fit the cache: they are added up right before the kernel reads them. As in
 * PyTorch, a parameter counts its own steps: one that no backward has reached yet is left as it
 * is, and when its first gradient comes, that is its step 1.
 */
#ifndef TORC_OPTIMIZER_H
#define TORC_OPTIMIZER_H

#include "core/kernels.h"
#include "core/nn/module.h"

struct torc_optimizer {
    tape_taker taker; /* in_backward.c */
    /* The rule: changes n stretches whose parameters take their step number `step` (from 1). */
    void (*update)(const torc_optimizer *o, const stretch *s, int64_t n, int64_t step);
    union { /* the rule's constants */
        sgd_step sgd;
        adam_step adam;
    };
    float lr;
    float clip_norm;          /* clip.c */
    storage *clip;            /* a clipping, of the last step; NULL: none was measured */
    const clipping *clipping; /* that of the step under way; NULL: it takes gradients as they are */
    clipping *told;           /* skip.c: the same on the host, where it may be on its way */
    bool learns;              /* nobody has looked there since the last step ... */
    bool *took;               /* ... in which these took part */
    torc_optimizer *learns_too; /* another of which that is true */
    int64_t count;
    tensor **parameters; /* each with a reference of ours, so that it is there to be asked about */
    int64_t updates;     /* calls of torc_step() that had their turn, skipped ones too */
    int64_t *steps;      /* in which each took part, as far as is known (optimizer_learn()) */
    bool *taken;         /* in the backward of the step under way; NULL: not in_backward */
    int64_t *offset;     /* of each in m and v, in elements ... */
    int64_t *first;      /* ... where its element of this number is the first that has state */
    storage *m, *v;      /* NULL where the rule has no such state */
    stretch *stretches;  /* of the step under way: those that take part ... */
    int64_t *step_of;    /* ... and which of their steps it is */
    int64_t listed;      /* their number */
    float *room;         /* for gradients that are added up on the way; NULL until needed */
    int64_t room_size, room_used; /* floats */
    torc_optimizer *prev, *next;
};

/* Checks that lr was given and that the parameters are f32, and makes `states` pieces of zeroed
 * state: none, m, or m and v. */
torc_optimizer *optimizer_new(const call *c, torc_module *net, float lr, int states);
/* The parameter's update, and those of others that are listed, now. */
void optimizer_update(torc_optimizer *o, int64_t i);
/* From now on backward updates what it can (in_backward.c). */
void optimizer_take_in_backward(const call *c, torc_optimizer *o);
/* Is there one that updates in backward? */
bool optimizer_any_in_backward(void);
/* From now on a step clips first; max_norm 0: it does not (clip.c). */
void optimizer_clip_in_step(const call *c, torc_optimizer *o, float max_norm);
/* Queues, for the step under way: o->clipping, where there is a clip_norm or a loss scale. */
void optimizer_measure(torc_optimizer *o, torc_site at);
/* Dies unless low <= value < high. */
void optimizer_check(const call *c, const char *name, float value, float low, float high);

/* Dies unless it is something that an optimizer can change. */
void optimizer_check_item(const call *c, const module_item *item);
/* Backward was not called. */
_Noreturn void optimizer_die_of_no_gradient(const call *c);

/* Are the gradients of net those of a part of the batch (tape_hook.partial)? */
bool optimizer_must_wait(torc_module *net);

/* ---- steps that a loss scale skips (skip.c) ---- */

/* A step is over: where it may have been skipped, how it ended is sent to the host. */
void optimizer_tell(torc_optimizer *o);
/* Takes the last step out of steps[] if it was skipped: to be called before they are read or
 * written. */
void optimizer_learn(torc_optimizer *o);
void optimizer_drop_clipping(torc_optimizer *o);

/* ---- for checkpoints: the state as if one rank had all of it ----
 *
 * A piece of state is m (number 0) or v (1): a float for every element of every parameter, the
 * parameters one after the other, each in row-major order. Where it is divided over ranks, every
 * rank calls optimizer_read_state(), and all get it. */
int optimizer_pieces(const torc_optimizer *o);
int64_t optimizer_elements(const torc_optimizer *o); /* of a piece */
/* out NULL: this rank only gives. */
void optimizer_read_state(const call *c, const torc_optimizer *o, int piece, float *out);
/* In how many steps each parameter took part. One that did goes on doing so, gradient or not. */
void optimizer_write_steps(const call *c, torc_optimizer *o, const int64_t *steps);
/* Of parameter i alone; a rank takes what it owns. */
void optimizer_write_state(const call *c, torc_optimizer *o, int piece, int64_t i,
                           const float *values);

/* Frees every optimizer that is left. */
void optimizer_free_all(void);

#endif
