/*
 * state -- an optimizer's state out and in, for checkpoints (optimizer.h).
 *
 *     rank 0 has   m of   [0.weight, first half ][0.bias         ]
 *     rank 1 has   m of   [0.weight, second half][2.weight ...   ]      a rank's own, in memory
 *     a piece      m of   [0.weight             ][0.bias][2.weight ...] one after the other
 *
 * A piece that is divided is put together by the one thing this room may ask of other ranks, a sum:
 * each gives the bits of its own floats as whole numbers, and 0 elsewhere, so that no bit changes
 * on the way. Every host holds the whole state, so that a sum over `hosts` of them is divided by
 * their number, which is exact too.
 */
#include "core/optim/optimizer.h"

#include "core/ops/ops.h"
#include "core/peers.h"

#include <stdlib.h>

#define CHUNK (1 << 18) /* elements that travel at once */

int optimizer_pieces(const torc_optimizer *o)
{
    return (o->m != NULL) + (o->v != NULL);
}

int64_t optimizer_elements(const torc_optimizer *o)
{
    int64_t n = 0;
    for (int64_t i = 0; i < o->count; i++)
        n += tensor_numel(o->parameters[i]);
    return n;
}

static bool is_divided(const tensor *p)
{
    return p->hook && p->hook->sharding;
}

/* Where this rank's state of parameter i lies, and which of its elements [*first, *end) those are,
 * counted in the order of memory. */
static float *own_state(const torc_optimizer *o, int piece, int64_t i, int64_t *first, int64_t *end)
{
    const tensor *p = o->parameters[i];
    *first = 0;
    *end = tensor_numel(p);
    if (is_divided(p))
        p->hook->sharding->owned(p->hook, p, first, end);
    return (float *)(piece == 0 ? o->m : o->v)->data + o->offset[i];
}

/* ---- from the order of memory to row-major, and back ---- */

static void to_row_major(const call *c, const tensor *p, float *values)
{
    if (tensor_is_contiguous(p))
        return;
    tensor *t = tensor_create_like(c, p, TORC_F32, OWNER_HOUSE);
    device_current()->from_host(tensor_data(t), values, (size_t)tensor_numel(p) * sizeof *values);
    tensor_read(c, t, TORC_F32, values);
    tensor_drop(t);
}

/* On the host, for the caller to free(). */
static float *in_memory_order(const call *c, const tensor *p, const float *values)
{
    size_t bytes = (size_t)tensor_numel(p) * sizeof *values;
    float *ordered = base_alloc(bytes, 1);
    tensor *t = tensor_create_like(c, p, TORC_F32, OWNER_HOUSE);
    tensor_write(c, t, TORC_F32, values);
    device_current()->to_host(ordered, tensor_data(t), bytes);
    tensor_drop(t);
    return ordered;
}

/* ---- together ---- */

/* From the device's memory; at most CHUNK. */
static void give_some(const float *state, int64_t n, double *bits)
{
    union {
        float value;
        uint32_t bits;
    } *one = base_alloc((size_t)n, sizeof *one);
    device_current()->to_host(one, state, (size_t)n * sizeof *one);
    for (int64_t k = 0; k < n; k++)
        bits[k] = one[k].bits;
    free(one);
}

/* The bits of what this rank has of the elements [at, at + n) of a piece. */
static void give_bits(const torc_optimizer *o, int piece, int64_t at, int64_t n, double *bits)
{
    for (int64_t k = 0; k < n; k++)
        bits[k] = 0;
    for (int64_t i = 0, start = 0; i < o->count; start += tensor_numel(o->parameters[i++])) {
        int64_t first, end;
        const float *state = own_state(o, piece, i, &first, &end);
        if (!is_divided(o->parameters[i]))
            continue;
        int64_t from = max_i64(at, start + first), to = min_i64(at + n, start + end);
        if (from < to)
            give_some(state + (from - start - first), to - from, bits + (from - at));
    }
}

static void take_bits(const double *bits, double hosts, int64_t n, float *out)
{
    for (int64_t k = 0; k < n; k++) {
        union {
            uint32_t bits;
            float value;
        } one = {(uint32_t)(bits[k] / hosts)};
        out[k] = one.value;
    }
}

/* How many ranks own a divided element: as many as there are hosts; 0: nothing is divided. */
static double owners_of_each(const call *c, const torc_optimizer *o)
{
    double owned = 0, all = 0;
    for (int64_t i = 0; i < o->count; i++) {
        int64_t first, end;
        if (!is_divided(o->parameters[i]))
            continue;
        own_state(o, 0, i, &first, &end);
        owned += (double)(end - first);
        all += (double)tensor_numel(o->parameters[i]);
    }
    if (all > 0)
        peers_sum(c->at, c->op, &owned, 1);
    return all > 0 ? owned / all : 0;
}

static void gather(const call *c, const torc_optimizer *o, int piece, float *out)
{
    double hosts = owners_of_each(c, o);
    int64_t elements = optimizer_elements(o);
    double *bits = hosts > 0 ? base_alloc(CHUNK, sizeof *bits) : NULL;
    for (int64_t at = 0, n; bits && at < elements; at += n) {
        n = min_i64(CHUNK, elements - at);
        give_bits(o, piece, at, n, bits);
        peers_sum(c->at, c->op, bits, n);
        if (out)
            take_bits(bits, hosts, n, out + at);
    }
    free(bits);
}

void optimizer_read_state(const call *c, const torc_optimizer *o, int piece, float *out)
{
    gather(c, o, piece, out);
    for (int64_t i = 0; out && i < o->count; out += tensor_numel(o->parameters[i++])) {
        int64_t first, end;
        const float *state = own_state(o, piece, i, &first, &end);
        if (!is_divided(o->parameters[i]))
            device_current()->to_host(out, state, (size_t)end * sizeof *out);
        to_row_major(c, o->parameters[i], out);
    }
}

void optimizer_write_state(const call *c, torc_optimizer *o, int piece, int64_t i,
                           const float *values)
{
    const tensor *p = o->parameters[i];
    int64_t first, end;
    float *state = own_state(o, piece, i, &first, &end);
    float *ordered = tensor_is_contiguous(p) ? NULL : in_memory_order(c, p, values);
    const float *from = ordered ? ordered : values;
    device_current()->from_host(state, from + first, (size_t)(end - first) * sizeof *from);
    free(ordered);
}

/* A step leaves out whoever has no gradient yet: where there was one before, even if this backward
 * does not reach it, there is one now, of zeros. */
void optimizer_write_steps(const call *c, torc_optimizer *o, const int64_t *steps)
{
    optimizer_learn(o); /* what is on its way is about steps that are forgotten here */
    for (int64_t i = 0; i < o->count; i++) {
        tensor *p = o->parameters[i];
        o->steps[i] = steps[i];
        if (steps[i] > 0 && !p->grad)
            p->grad = tensor_create_like(c, p, p->dtype, OWNER_HOUSE);
        tape_clear_gradient(p);
    }
}
