/*
 * tape -- recording, backward, hooks, clearing.
 *
 *     forward    x --matmul--> h --relu--> y --cross_entropy--> loss
 *     the tape   [ matmul ] [ relu ] [ cross_entropy ]           a node each, oldest first
 *     backward     <--3--     <--2--     <--1--                  newest first; each gives to the
 *                                                                gradients of its inputs
 *
 * An op records one node for its one result. torc_backward() first counts, for every tensor that
 * the loss depends on, how many contributions its gradient will get; then it visits the nodes from
 * the newest to the oldest. A gradient of an intermediate tensor is freed as soon as its node has
 * used it. A parameter whose last contribution is in is ready, and its hook is told.
 *
 * A gradient arrives in one of two ways: tape_give() hands over a tensor, which becomes the
 * gradient without a copy when it is the first; tape_sink() lends the gradient's own memory to a
 * kernel that writes, or adds, straight into it.
 */
#ifndef TORC_TAPE_H
#define TORC_TAPE_H

#include "core/tensor.h"

typedef struct node node;
/* Differentiates: reads n->in, n->saved and grad (the gradient of n->out), gives to the inputs that
 * want. */
typedef void (*tape_backward)(node *n, tensor *grad);

struct node {
    call made;
    tape_backward backward;
    tensor *out;
    void *saved;    /* what the op noted for its backward; zeroed, of the size it asked for */
    torc_site used; /* the backward that used the node up; file NULL before */
    /* Backward waits for the same node of every other rank. So it runs on a rank whose loss weighs
     * nothing too, as that of an empty share does: no gradient arrives there, and zeros stand in.
     * Set it on out->maker once the node is recorded. */
    bool collective;
    /* Backward does not look at the values of the inputs, of the result. */
    bool in_unread, out_unread;
    /* Writes out's values once more, the same bits (but for core/cuda/linear.c), from what backward
     * has anyway and in about the time of reading them: so they need not be kept from forward to
     * backward once nobody can name them. NULL: they are kept. Set it on out->maker. */
    void (*remake)(node *n);
    bool remake_reads; /* the values of the inputs */
    /* The same by a product, of the inputs or their copies; beside out it writes `beside`, which is
     * for the node's own backward (NULL: nothing). Set both where tape_is_lean(). */
    void (*multiply)(node *n);
    tensor *beside;
    bool by_product; /* out went, and is to be made again by `multiply` ... */
    int products;    /* ... one of so many that this takes in all */
    bool settled;    /* its inputs need not be told that its contributions are in */
    int64_t index;
    int inputs;
    tensor *in[];
};

/* A tensor that backward reads and that is no input (statistics, positions): make it the tape's
 * with tensor_set_owner(t, OWNER_TAPE). */

/* Records the node if some input requires a gradient and nothing forbids it, and makes out require
 * one. Returns the zeroed `saved` memory (never NULL when recorded), or NULL when nothing is
 * recorded. */
void *tape_record(const call *c, tape_backward backward, tensor *out, int inputs, tensor *const *in,
                  size_t saved_bytes);
bool tape_recording(void);
/* In torc_lean(): what is recorded may take a product to make again. */
bool tape_is_lean(void);
void tape_set_lean(bool on);
/* Something of the step under way was recorded there: memory matters more than time. */
bool tape_is_sparing(void);
/* torc_step() is over: then gradients, as far as they are cleared, give theirs back. */
void tape_spare_gradients(void);
/* Says so of the node, if any, that was recorded for `out`. */
void tape_unread(tensor *out, bool inputs, bool result);
/* Nobody can name t any more: its memory goes back to the cache, now, if no backward looks at its
 * values or they can be made again; else once backward has looked at them for the last time. Shape
 * and strides stay, for its gradient (remake.c). */
void tape_let_go(tensor *t);
/* What n's backward looks at, and went, is there again. */
void tape_make_again_for(node *n);

/* ---- for backward functions ---- */

/* n, which is running, looks no more at the values of this input: they go at once, if nobody else
 * in backward does either and nobody can name them. Else they go when their maker has run. */
void tape_done_with(const node *n, int input);

typedef struct sink {
    tensor *t; /* NULL: nobody wants this gradient */
    bool add;  /* the kernel adds to what is there, else it overwrites */
} sink;

bool tape_wants(const node *n, int input);
/* Made by no op: a parameter, an input, a plain value. */
static inline bool tape_is_leaf(const tensor *t)
{
    return t->maker == NULL;
}
/* A tensor like grad, the gradient that a backward function got, for the gradient one step further:
 * in grad's own memory where nobody else sees it, which saves a pass over other memory. Element by
 * element only. Released with tensor_drop(). */
tensor *tape_reuse(const call *c, tensor *grad);
/* Memory of input's gradient: dense, laid out like the input. Call it once an input and node, right
 * before the kernel. */
sink tape_sink(node *n, int input);
/* g, of the input's shape, is a contribution; the caller's hold on g passes to the tape (so give
 * what you created, or tensor_share(grad) to pass the incoming gradient on). */
void tape_give(node *n, int input, tensor *g);
/* The same after summing g, of a broadcast shape, down to the input's shape. */
void tape_give_summed(node *n, int input, tensor *g);

/* ---- a stretch of the tape: what is recorded between open and close, to be looked at,
 * differentiated by itself, and forgotten (recompute.c). Stretches nest, also within a backward;
 * while one is open, the user may not clear the tape, nor start a backward ---- */
typedef struct tape_stretch {
    int64_t first; /* its first node */
    struct chunk *chunk;
    size_t used; /* of the chunk, before it */
    int no_grad;
    tensor fence; /* before its first tensor */
} tape_stretch;

/* Records from here on, whatever TORC_NO_GRAD scope this is in. */
void tape_open(tape_stretch *s);
/* Its nodes are forgotten and its tensors gone, but `result` (may be NULL), a plain value now. */
void tape_close(tape_stretch *s, const tensor *result, torc_site where);
int64_t tape_count(void);
node *tape_node(int64_t index);
/* In the backward of n: differentiates `out`, a result of the stretch, in place of n->out. The
 * inputs of n are those of the stretch; each is ready with its last contribution, n or no n. */
void tape_differentiate(node *n, const tape_stretch *s, tensor *out, tensor *grad);
/* A backward runs: whatever is recorded now is recorded for the second time. */
bool tape_replaying(void);

/* ---- where the work of an optimizer is divided over ranks: each updates its own elements of every
 * parameter, in memory that all of them see, or are told of. Elements are counted in the order of
 * memory ---- */
struct tape_hook;
typedef struct tape_sharding {
    /* Elements [*first, *end) of p are this rank's; maybe none. */
    void (*owned)(struct tape_hook *h, const tensor *p, int64_t *first, int64_t *end);
    /* The mean gradient of p's elements first .. first + n - 1: in `room`, or where it is. NULL: it
     * is the gradient. */
    float *(*mean)(struct tape_hook *h, const tensor *p, int64_t first, int64_t n, float *room);
    /* Gives every rank the whole mean as its gradients, for what must see all of it. */
    void (*gather)(struct tape_hook *h, torc_site at);
    /* *value, an f64 in the device's memory, becomes its sum over those that own the parts: queued,
     * nobody waits. NULL: it cannot, gather. */
    void (*add_up)(struct tape_hook *h, torc_site at, double *value);
    /* This rank has updated what it owns; whatever is read of the parameters from here on is what
     * all have made of them. */
    void (*updated)(struct tape_hook *h, torc_site at);
} tape_sharding;

/* ---- the socket: who wants to know when gradients are final ----
 *
 * While a hook is attached to a parameter, the memory of its gradient does not move. */
typedef struct tape_hook {
    void (*forward)(struct tape_hook *h); /* torc_forward() on the hook's module */
    /* A backward begins that concerns this hook; `weight` is the loss's (1 when unknown), and takes
     * the place of d loss / d loss = 1, so that gradients arrive multiplied by it. */
    void (*begin)(struct tape_hook *h, torc_site at, double weight);
    void (*ready)(struct tape_hook *h, tensor *parameter); /* this parameter's gradient is final */
    void (*poll)(struct tape_hook *h); /* between two nodes: move what is under way */
    /* Backward is over; afterwards gradients are read. */
    void (*end)(struct tape_hook *h, torc_site at);
    /* Gradients, if all are cleared, need no memory until the next ones are written. */
    void (*vacate)(struct tape_hook *h);
    size_t vacant;                 /* bytes that they have none for, as far as is known */
    const tape_sharding *sharding; /* NULL: every rank updates everything */
    int64_t parameters;            /* that it is attached to */
    /* In which order gradients travel, by their hook_index: with it the last bits of sums over
     * several hosts change. Writes the order to `order` unless that is NULL; returns how many they
     * are, 0 while the order has not been found, or does not matter. */
    int (*order)(struct tape_hook *h, int *order);
    /* The order is this one, as a run that is gone on with had found it. Every rank calls it. */
    void (*arrange)(struct tape_hook *h, torc_site at, const int *order, int count);
    /* The sum of squares of all gradients, if it is known and nobody could have changed them since;
     * else NaN. It comes with the sum over ranks, once somebody has asked for it. */
    double squares;
    bool wants_squares;
    bool apart;   /* sharded: gradients are this rank's part of the sum, not the mean */
    bool partial; /* gradients are those of a part of the batch: a step waits for the rest */
    bool armed;   /* set by torc_forward() on the hook's module, or by a parameter that the loss
                     depends on: concerned */
    struct tape_hook *next;
} tape_hook;

/* ---- who changes a parameter in backward, as soon as its gradient is final and while that is in
 * the cache; where there is a hook, it says when. The taker clears the gradient. ---- */
typedef struct tape_taker {
    void (*take)(struct tape_taker *t, tensor *parameter, torc_site at);
} tape_taker;

/* The gradient of p becomes a view of `store` at `offset` (elements); what was accumulated before
 * is kept. */
void tape_place_gradient(tensor *p, storage *store, int64_t offset);
/* t's gradient is 0 from now on; nothing is written, the next backward overwrites. */
void tape_clear_gradient(tensor *t);
void tape_attach(tape_hook *h);
void tape_detach(tape_hook *h);

#endif
