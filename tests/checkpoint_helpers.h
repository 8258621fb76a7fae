/*
 * checkpoint_helpers -- a run that can be stopped anywhere: a small network with everything that
 * has state (batch norm, dropout), its optimizer and a shuffling loader.
 */
#ifndef TESTS_CHECKPOINT_HELPERS_H
#define TESTS_CHECKPOINT_HELPERS_H

#define wait wait_for_any /* base.h has a type of this name */
#include <sys/wait.h>
#undef wait

#include "tests/ddp_helpers.h"

#include "core/io/checkpoint.h"
#include "core/nn/module.h"
#include "core/optim/optimizer.h"

typedef struct run {
    torc_module *net;
    torc_optimizer *opt;
    torc_dataset *data;
    torc_loader *loader;
    double clip;
} run;

typedef enum rule { SGD, ADAMW } rule;

/* Another `seed`: other weights to start from, other draws; the same data and order. */
static inline run run_new(uint64_t seed, rule kind, bool ddp, torc_ddp_options how)
{
    run r = {0};
    torc_seed(11);
    r.data = samples();
    torc_seed(seed);
    r.net =
        torc_sequential(torc_conv2d(2, 4, 3, .padding = 1), torc_batch_norm2d(4), torc_relu_layer(),
                        torc_flatten_layer(), torc_dropout(0.3), torc_linear(64, OUT));
    if (ddp)
        r.net = (torc_ddp)(TORC_HERE, r.net, how);
    r.opt = kind == SGD ? torc_sgd(r.net, .lr = 0.05f, .momentum = 0.9f)
                        : torc_adamw(r.net, .lr = 0.01f);
    r.loader =
        torc_loader_new(r.data, .batch_size = 8, .shuffle = true, .seed = 3, .endless = true);
    return r;
}

static inline void run_until(run *r, int64_t step)
{
    for (torc_batch b; torc_steps(r->opt) < step && torc_loader_next(r->loader, &b);) {
        int64_t before = torc_steps(r->opt);
        torc_backward(torc_cross_entropy(torc_forward(r->net, b.x), b.y));
        if (r->clip > 0)
            torc_clip_grad_norm(r->net, r->clip);
        torc_step(r->opt);
        if (torc_steps(r->opt) > before) /* a schedule that only lr remembers */
            torc_set_lr(r->opt, 0.999f * torc_lr(r->opt));
    }
    torc_tape_clear();
}

/* Weights and buffers, one after the other; returns how many bytes. */
static inline size_t run_values(const run *r, char *values, size_t size)
{
    const call c = {{0}, "test"};
    size_t n = 0;
    int64_t count;
    const module_item *items = module_items(r->net, &count);
    for (int64_t i = 0; i < count; i++) {
        size_t bytes = (size_t)tensor_numel(items[i].t) * tensor_item_size(items[i].t);
        CHECK(n + bytes <= size);
        tensor *row_major = tensor_contiguous(&c, items[i].t);
        device_current()->to_host(values + n, tensor_data(row_major), bytes);
        tensor_drop(row_major);
        n += bytes;
    }
    return n;
}

static inline bool same_run(const run *a, const run *b)
{
    char x[8192], y[8192];
    size_t n = run_values(a, x, sizeof x);
    return run_values(b, y, sizeof y) == n && !memcmp(x, y, n) &&
           torc_steps(a->opt) == torc_steps(b->opt) && torc_lr(a->opt) == torc_lr(b->opt) &&
           torc_loader_position(a->loader) == torc_loader_position(b->loader);
}

#define RUN_OPTIONS(r) .optimizer = (r).opt, .loader = (r).loader

#endif
