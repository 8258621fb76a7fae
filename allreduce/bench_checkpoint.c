/*
 * bench_checkpoint -- what saving checkpoints costs training: laps of steps, the first of which
 * saves, take turns with laps that save nothing.
 *
 *     lap  [step][step][step] ...            what a save costs: the call, in which training
 *     lap  [step, save][step~][step~] ...    waits for the copy, and the steps beside which
 *                                            the copy is written
 *
 * Words
 *   excess   of a lap: its time less that of as many of its median steps. A machine that is slower
 *            in one lap than in the next changes a lap's time by more than a save does, but hardly
 *            its excess; what laps without a save have of it is taken off.
 *
 * The first save is not counted: it asks the system for the memory of the copy.
 */
#include "allreduce/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 10
#define PIECE ((size_t)32 << 20) /* bytes that no cache holds */

typedef struct training {
    torc_module *net;
    torc_optimizer *optimizer;
    torc_tensor *x, *y;
    const char *dir;
    long every;
} training;

typedef struct lap { /* seconds */
    double all, excess;
    double call; /* of the save, if there was one */
} lap;

/* The floor of the copy: all bytes once, by all threads, between two places in memory. */
static double seconds_to_copy(double bytes)
{
    char *from = base_alloc(PIECE, 1), *to = base_alloc(PIECE, 1);
    double best = 1e9;
    memset(from, 1, PIECE); /* until it is written to, all of it is one page of zeros */
    for (int i = 0; i < 5; i++) {
        double start = torc_seconds();
        int parts = torc_threads();
#pragma omp parallel for num_threads(parts)
        for (int k = 0; k < parts; k++)
            memcpy(to + PIECE / (size_t)parts * (size_t)k, from + PIECE / (size_t)parts * (size_t)k,
                   PIECE / (size_t)parts);
        double seconds = torc_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    free(from);
    free(to);
    return best * bytes / (double)PIECE;
}

static double save(const training *t)
{
    double start = torc_seconds();
    torc_checkpoint_save(t->net, t->dir, .optimizer = t->optimizer);
    return torc_seconds() - start;
}

static lap run(const training *t, bool saves)
{
    lap out = {0};
    double *step = base_alloc((size_t)t->every, sizeof *step);
    for (long i = 0; i < t->every; i++) {
        double start = torc_seconds();
        torc_backward(torc_cross_entropy(torc_forward(t->net, t->x), t->y));
        torc_step(t->optimizer);
        torc_tape_clear();
        if (saves && i == 0)
            out.call = save(t);
        step[i] = torc_seconds() - start;
        out.all += step[i];
    }
    out.excess = out.all - (double)t->every * bench_median(step, (int)t->every);
    free(step);
    return out;
}

static training begin(const bench_options *o)
{
    torc_module **layer = base_alloc((size_t)o->layers * 2 + 1, sizeof *layer);
    for (long i = 0; i < o->layers; i++) {
        layer[2 * i] = torc_linear(o->width, o->width);
        layer[2 * i + 1] = torc_relu_layer();
    }
    layer[2 * o->layers] = torc_linear(o->width, CLASSES);
    training t = {.net = torc_ddp((torc_sequential)(TORC_HERE, (int)o->layers * 2 + 1, layer)),
                  .x = torc_keep(torc_rand(TORC_SHAPE(o->samples, o->width))),
                  .y = torc_keep(torc_zeros(TORC_SHAPE(o->samples), .dtype = TORC_I64)),
                  .dir = o->checkpoint,
                  .every = o->every};
    t.optimizer = torc_adamw(t.net, .lr = 1e-4f);
    free(layer);
    return t;
}

typedef struct cost { /* seconds, medians over the laps */
    double lap, excess, excess_saving, call, copy;
    double bytes;
} cost;

static double share(const cost *c)
{
    return (c->excess_saving - c->excess) / c->lap;
}

static void print(const bench_options *o, const cost *c)
{
    printf("%ld layers of %ld x %ld, %ld rows a rank: %.0f MB with AdamW's state\n", o->layers,
           o->width, o->width, o->samples, c->bytes / 1e6);
    printf("%-28s %8.3f s, median of %ld\n", "a lap of steps", c->lap, o->rounds);
    printf("%-28s %8.1f ms, %.1f ms where nothing is saved\n", "its excess where it saves",
           1e3 * c->excess_saving, 1e3 * c->excess);
    printf("%-28s %8.2f %%\n", "a checkpoint a lap costs", 100 * share(c));
    printf("%-28s %8.1f ms, %.2f %%; floor, to copy it in memory: %.1f ms\n", "of that, the call",
           1e3 * c->call, 100 * c->call / c->lap, 1e3 * c->copy);
}

static cost measure(const bench_options *o, const training *t)
{
    int n = (int)o->rounds;
    double *all = base_alloc((size_t)n * 4, sizeof *all);
    double *excess = all + n, *saving = excess + n, *call = saving + n;
    run(t, true);
    for (int i = 0; i < n; i++) {
        lap plain = run(t, false), saved = run(t, true);
        all[i] = plain.all;
        excess[i] = plain.excess;
        saving[i] = saved.excess;
        call[i] = saved.call;
    }
    torc_checkpoint_flush();
    cost c = {.lap = bench_median(all, n),
              .excess = bench_median(excess, n),
              .excess_saving = bench_median(saving, n),
              .call = bench_median(call, n),
              .bytes = 3.0 * 4 * (double)torc_parameter_elements(t->net)}; /* weights, m, v */
    c.copy = seconds_to_copy(c.bytes);
    free(all);
    return c;
}

void bench_checkpoint(bench *b)
{
    training t = begin(&b->o);
    bench_print_head(b);
    cost c = measure(&b->o, &t);
    json_array_append_new(b->rows,
                          json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "bytes", c.bytes,
                                    "lap_seconds", c.lap, "excess_seconds", c.excess,
                                    "excess_saving_seconds", c.excess_saving, "call_seconds",
                                    c.call, "copy_floor_seconds", c.copy, "share", share(&c)));
    if (comm_rank(b->c) == 0)
        print(&b->o, &c);
}
