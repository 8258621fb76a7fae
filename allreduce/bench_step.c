/*
 * bench_step -- what synchronisation costs a training step: layers of a square product and a relu,
 * forward and backward, with the gradients' mean over the ranks and without.
 *
 *     plain   [forward][backward]                 two networks of the same shape take turns, so
 *     ddp     [forward][backward ~~~~][wait]      that what disturbs one disturbs the other
 *
 * Words
 *   exposed   what a synchronised step takes longer than a plain one: communication that backward
 *             did not cover
 *
 * A step is over when the slowest rank has ended it, in both; between two of them all ranks meet,
 * so that all are busy at the same time.
 */
#include "allreduce/bench.h"

#include <stdio.h>
#include <stdlib.h>

#define WARM_UP 2 /* torc_ddp() lays its buckets anew after the first backward */

static torc_module *network(const bench_options *o)
{
    torc_module **layer = base_alloc((size_t)o->layers * 2, sizeof *layer);
    for (long i = 0; i < o->layers; i++) {
        layer[2 * i] = torc_linear(o->width, o->width);
        layer[2 * i + 1] = torc_relu_layer();
    }
    /* in parentheses: the function, for the macro of that name would count its arguments */
    torc_module *net = (torc_sequential)(TORC_HERE, (int)o->layers * 2, layer);
    free(layer);
    return net;
}

static double step(torc_module *net, torc_tensor *x)
{
    torc_barrier();
    double start = torc_seconds();
    torc_backward(torc_mean(torc_forward(net, x)));
    double seconds = torc_seconds() - start;
    torc_tape_clear();
    torc_zero_grad(net);
    return torc_max_over_ranks(seconds);
}

typedef struct outcome {
    double plain, ddp;    /* seconds, medians */
    torc_ddp_stats stats; /* of all steps but those of the warm-up */
    int64_t parameters;
} outcome;

static torc_ddp_stats since(torc_ddp_stats now, torc_ddp_stats then)
{
    now.steps -= then.steps;
    now.backward_seconds -= then.backward_seconds;
    now.overlapped_seconds -= then.overlapped_seconds;
    now.wait_seconds -= then.wait_seconds;
    now.bytes -= then.bytes;
    return now;
}

static outcome measure(const bench_options *o)
{
    torc_module *plain = network(o), *ddp = torc_ddp(network(o));
    torc_tensor *x = torc_keep(torc_randn(TORC_SHAPE(o->samples, o->width)));
    double *times = base_alloc((size_t)o->steps * 2, sizeof *times);
    for (int i = 0; i < WARM_UP; i++) {
        step(plain, x);
        step(ddp, x);
    }
    torc_ddp_stats before = torc_ddp_statistics(ddp);
    for (long i = 0; i < o->steps; i++) {
        times[i] = step(plain, x);
        times[o->steps + i] = step(ddp, x);
    }
    outcome out = {.plain = bench_median(times, (int)o->steps),
                   .ddp = bench_median(times + o->steps, (int)o->steps),
                   .stats = since(torc_ddp_statistics(ddp), before),
                   .parameters = torc_parameter_elements(ddp)};
    free(times);
    return out;
}

/* Rank 0's seconds of a step, in ms. */
static double each(const outcome *r, double seconds)
{
    return 1e3 * seconds / (double)r->stats.steps;
}

static void print(const bench_options *o, const outcome *r)
{
    printf("%ld layers of %ld x %ld, %ld rows a rank: %.1f MB of gradients in %d buckets\n",
           o->layers, o->width, o->width, o->samples, (double)r->parameters * 4 / 1e6,
           r->stats.buckets);
    printf("step without synchronisation %10.2f ms, median of %ld\n", r->plain * 1e3, o->steps);
    printf("step with torc_ddp()         %10.2f ms\n", r->ddp * 1e3);
    printf("exposed                      %+10.1f %%\n", 100 * (r->ddp / r->plain - 1));
    printf("rank 0, a step: backward %.2f ms, of these %.2f ms on gradients; then waited %.2f ms\n",
           each(r, r->stats.backward_seconds), each(r, r->stats.overlapped_seconds),
           each(r, r->stats.wait_seconds));
}

void bench_step(bench *b)
{
    bench_print_head(b);
    outcome r = measure(&b->o);
    json_array_append_new(
        b->rows,
        json_pack("{s:f, s:f, s:f, s:I, s:I, s:i, s:f, s:f, s:f}", "plain_seconds", r.plain,
                  "ddp_seconds", r.ddp, "exposed", r.ddp / r.plain - 1, "steps",
                  (json_int_t)r.stats.steps, "parameters", (json_int_t)r.parameters, "buckets",
                  r.stats.buckets, "backward_seconds", each(&r, r.stats.backward_seconds) / 1e3,
                  "overlapped_seconds", each(&r, r.stats.overlapped_seconds) / 1e3, "wait_seconds",
                  each(&r, r.stats.wait_seconds) / 1e3));
    if (comm_rank(b->c) == 0)
        print(&b->o, &r);
}
