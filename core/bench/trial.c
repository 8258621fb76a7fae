/*
 * trial -- one case: its inputs, a forward and a backward pass of it, the clock, the work.
 *
 *     [ input ] [ input ]  [ the op ]  [ probe ]                     the tape of an iteration
 *         |         |       |      |       |
 *         '---------'       '------'       '- backward: hands the op a gradient made before,
 *       backward: nothing    forward          and starts the clock
 *                            is timed    torc_backward() returns: the clock stops
 *
 * The probe stands in for the rest of a network: it is the last node of the tape, so
 * torc_backward() begins with it, and from the moment it is done only the op's own nodes work. They
 * run as in training, gradients are created, added to or passed on as there. Activations enter
 * through nodes of their own, since a tensor without a node keeps its gradient as a parameter does.
 * Where an activation's gradient is in before (INPUT_BRANCHED), the probe gives it.
 *
 * The flops and bytes are those that the profiler counts, in one iteration before the timed ones,
 * during which it is off.
 *
 * Everything is warm: there is one copy of each input, and backward follows forward at once. What
 * fits into a cache is found there. In training that is so of what the op before has just made; the
 * inputs that backward reads again have mostly left by then, so a large network's backward is
 * somewhat slower than here.
 */
#include "core/bench/bench.h"

#include "core/kernels.h"
#include "core/profile.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 5, MOST = 4096 /* iterations */, WARMING = 2 };

static const call here = {{__FILE__, __LINE__}, BENCH_PROGRAM};

typedef struct trial {
    const bench_workload *n;
    const bench_case *c;
    torc_dtype dtype;
    bench_input in[BENCH_INPUTS];
    int inputs;
    torc_tensor *value[BENCH_INPUTS];
    torc_tensor *source; /* what input nodes are made from */
    tensor *seed;        /* the gradient of the result; NULL before the first iteration */
    torc_module *net;    /* of an update, all parameters, */
    torc_optimizer *opt; /* and theirs */
    double forward, forward_ends, backward, backward_ends; /* of the clock */
} trial;

/* ---- inputs ---- */

static bool is_activation(bench_kind kind)
{
    return kind == INPUT_ACTIVATION || kind == INPUT_IMAGE || kind == INPUT_BRANCHED;
}

static bool is_parameter(bench_kind kind)
{
    return kind == INPUT_WEIGHT || kind == INPUT_TIED;
}

/* 7919 is prime, and no limit's multiple: every index comes, neighbours are far apart. */
static torc_tensor *indices(const bench_input *in)
{
    torc_tensor *t = torc_tensor_new(in->shape, .dtype = TORC_I64);
    int64_t *index = torc_data(t);
    for (int64_t i = 0; i < torc_numel(t); i++)
        index[i] = i * 7919 % in->limit;
    return t;
}

static torc_tensor *value_of(const bench_input *in, torc_dtype dtype)
{
    if (in->kind == INPUT_INDEX)
        return indices(in);
    torc_tensor *t = torc_randn(in->shape);
    if (is_activation(in->kind))
        t = torc_to(t, dtype);
    if (is_parameter(in->kind))
        t = torc_mul_scalar(t, 0.02);
    torc_keep(t);
    torc_set_requires_grad(t, is_parameter(in->kind));
    return t;
}

static void nothing(node *n, tensor *grad)
{
    (void)n, (void)grad;
}

static void channels_last(const tensor *t, int64_t *stride)
{
    stride[1] = 1;
    stride[3] = t->shape[1];
    stride[2] = t->shape[1] * t->shape[3];
    stride[0] = stride[2] * t->shape[2];
}

/* Data as if the loader, an activation as if an op had just made it: neither is a tensor that the
 * user holds. */
static torc_tensor *enter(const trial *t, int i)
{
    if (is_parameter(t->in[i].kind))
        return t->value[i];
    const tensor *value = tensor_of(&here, t->value[i]);
    int64_t stride[TORC_MAX_DIMS];
    memcpy(stride, value->stride, sizeof stride);
    if (t->in[i].kind == INPUT_IMAGE)
        channels_last(value, stride);
    tensor *x =
        tensor_view(&here, value, value->ndim, value->shape, stride, value->offset, OWNER_TAPE);
    if (is_activation(t->in[i].kind))
        tape_record(&here, nothing, x, 1, (tensor *[]){tensor_of(&here, t->source)}, 0);
    return tensor_handle(x);
}

/* ---- the probe ---- */

static tensor *zeros_like(const tensor *t)
{
    tensor *g = tensor_create_like(&here, t, t->dtype, OWNER_HOUSE);
    kernels_here()->fill(g, 0);
    return g;
}

static void probe_backward(node *n, tensor *grad)
{
    (void)grad;
    trial *t = *(trial **)n->saved;
    for (int i = 1; i < n->inputs; i++)
        tape_give(n, i, zeros_like(n->in[i]));
    tape_give(n, 0, tensor_share(t->seed));
    t->backward = torc_seconds();
}

static tensor *random_like(const tensor *y)
{
    tensor *g = tensor_create_like(&here, y, y->dtype, OWNER_HOUSE);
    torc_tensor *values = torc_randn(torc_shape_of(tensor_handle(y)));
    kernels_here()->copy(g, tensor_of(&here, values));
    return g;
}

static torc_tensor *probe(trial *t, torc_tensor *y, torc_tensor *const *x)
{
    tensor *in[1 + BENCH_INPUTS] = {tensor_of(&here, y)};
    int n = 1;
    for (int i = 0; i < t->inputs; i++)
        if (t->in[i].kind == INPUT_BRANCHED)
            in[n++] = tensor_of(&here, x[i]);
    if (!t->seed)
        t->seed = random_like(in[0]);
    torc_tensor *loss = torc_zeros(TORC_SCALAR);
    trial **saved = tape_record(&here, probe_backward, tensor_of(&here, loss), n, in, sizeof t);
    *saved = t;
    return loss;
}

/* ---- an iteration ---- */

/* The frame is for the profiler, where it is on. */
static torc_tensor *forward(trial *t, torc_tensor *const *x)
{
    torc_tensor *y = NULL;
    t->forward = torc_seconds();
    profile_enter(PROFILE_FORWARD, here.at, t->c->name);
    torc_autocast(t->dtype)
    {
        y = t->c->run(t->n, x);
    }
    profile_leave();
    t->forward_ends = torc_seconds();
    return y;
}

/* The first contribution to a tied weight's gradient is always in, so it is never cleared. */
static void clear_gradients(const trial *t)
{
    for (int i = 0; i < t->inputs; i++)
        if (t->in[i].kind == INPUT_WEIGHT)
            torc_zero_grad_of(t->value[i]);
}

static void run_op(trial *t)
{
    torc_tensor *x[BENCH_INPUTS];
    torc_tape_clear();
    for (int i = 0; i < t->inputs; i++)
        x[i] = enter(t, i);
    torc_tensor *y = forward(t, x);
    torc_backward(probe(t, y, x));
    t->backward_ends = torc_seconds();
    clear_gradients(t);
}

/* Gradients as a backward would leave them, always longer than what clip_norm allows. */
static void fill_gradients(torc_module *net)
{
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        tensor *p = tensor_of(&here, torc_parameter_at(net, i, NULL));
        if (!p->grad)
            p->grad = tensor_create_like(&here, p, p->dtype, OWNER_HOUSE);
        kernels_here()->fill(p->grad, 1.0 / 64);
        p->grad->zero_pending = false;
    }
}

static void run_update(trial *t)
{
    fill_gradients(t->net);
    t->forward = torc_seconds();
    profile_enter(PROFILE_FORWARD, here.at, t->c->name);
    t->c->update(t->net, t->opt);
    profile_leave();
    t->forward_ends = t->backward = t->backward_ends = torc_seconds();
}

static void iterate(trial *t)
{
    if (t->c->update)
        run_update(t);
    else
        run_op(t);
}

/* ---- the work ---- */

static void add_work(bench_pass *p, const profile_record *r)
{
    p->flops += r->flops;
    p->bytes += r->bytes;
}

/* What lies between the passes is the probe's. */
static void count_work(trial *t, bench_result *result)
{
    int64_t count;
    torc_profile_start();
    iterate(t);
    atomic_store(&profile_on, false);
    const profile_record **r = profile_records(&count);
    for (int64_t i = 0; i < count; i++)
        if (r[i]->begin >= t->backward)
            add_work(&result->pass[BENCH_BACKWARD], r[i]);
        else if (r[i]->begin >= t->forward && r[i]->begin < t->forward_ends)
            add_work(&result->pass[BENCH_FORWARD], r[i]);
    free(r);
    profile_forget();
}

/* ---- the time ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double typical(double *values, int n, bool best)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return best ? values[0] : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static void take_times(trial *t, double seconds, bool best, bench_result *result)
{
    static double times[BENCH_PASSES][MOST];
    double start = torc_seconds();
    int n = 0;
    while (n < LEAST || (n < MOST && torc_seconds() - start < seconds)) {
        iterate(t);
        times[BENCH_FORWARD][n] = t->forward_ends - t->forward;
        times[BENCH_BACKWARD][n++] = t->backward_ends - t->backward;
    }
    result->iterations = n;
    for (int i = 0; i < BENCH_PASSES; i++)
        result->pass[i].seconds = typical(times[i], n, best);
}

/* ---- beginning and end ---- */

static torc_tensor *stay(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

/* A module with every weight of the workload, as often as a step uses one like it. */
static torc_module *parameters_of(const bench_workload *n)
{
    torc_module *net = torc_module_new("Parameters", stay, 0);
    const bench_case *c;
    for (int k = 0, count = 0; (c = bench_case_at(n, k)); k++) {
        bench_input in[BENCH_INPUTS];
        int inputs = c->inputs ? c->inputs(n, in) : 0;
        for (int i = 0; i < inputs; i++)
            for (int64_t j = 0; in[i].kind == INPUT_WEIGHT && j < c->calls(n); j++) {
                char name[16];
                snprintf(name, sizeof name, "w%d", count++);
                torc_parameter(net, name, torc_keep(torc_randn(in[i].shape)));
            }
    }
    return net;
}

static trial trial_new(const bench_workload *n, const bench_case *c, torc_dtype dtype)
{
    trial t = {.n = n, .c = c, .dtype = dtype};
    if (c->update) {
        t.net = parameters_of(n);
        t.opt = torc_adamw(t.net, .lr = 1e-4f);
        return t;
    }
    t.inputs = c->inputs(n, t.in);
    for (int i = 0; i < t.inputs; i++)
        t.value[i] = value_of(&t.in[i], dtype);
    t.source = torc_tensor_new(TORC_SCALAR, .requires_grad = true);
    return t;
}

static void trial_free(trial *t)
{
    torc_tape_clear();
    for (int i = 0; i < t->inputs; i++)
        torc_tensor_free(t->value[i]);
    tensor_drop(t->seed);
    if (t->source)
        torc_tensor_free(t->source);
    torc_optimizer_free(t->opt);
    if (t->net)
        torc_module_free(t->net);
}

bench_result bench_try(const bench_workload *n, const bench_case *c, torc_dtype dtype,
                       double seconds, bool best)
{
    trial t = trial_new(n, c, dtype);
    bench_result result = {.of = c, .calls = c->calls(n), .shape = t.in[0].shape};
    if (c->update)
        result.shape = TORC_SHAPE(torc_parameter_elements(t.net));
    for (int i = 0; i < WARMING; i++)
        iterate(&t);
    count_work(&t, &result);
    take_times(&t, seconds, best, &result);
    for (int i = 0; i < BENCH_PASSES; i++)
        result.floor[i] = bench_floor(&result.pass[i], dtype);
    trial_free(&t);
    return result;
}
