/* checkpoint_snapshot -- a copy of the run, for a thread to write (checkpoint.h). */
#include "core/io/checkpoint.h"

#include "core/cpu/cpu.h"
#include "core/io/weights.h"
#include "core/ops/ops.h"
#include "core/optim/optimizer.h"
#include "core/peers.h"
#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

static const char *const pieces[] = {"m", "v"};

double *snapshot_places(const call *c)
{
    enum { N = CHECKPOINT_PLACE_NUMBERS };
    const world *w = base_world();
    rng_place here = rng_here();
    const uint64_t wide[] = {here.seed, here.stream, here.position};
    double *all = base_alloc((size_t)w->size * N, sizeof *all);
    for (int i = 0; i < N; i++)
        all[w->rank * N + i] = (double)(i % 2 ? wide[i / 2] & 0xffffffffu : wide[i / 2] >> 32);
    peers_sum(c->at, c->op, all, (int64_t)w->size * N);
    return all;
}

const char *checkpoint_parameter_name(const call *c, torc_module *net, const torc_optimizer *o,
                                      int64_t i)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    if (i < count && items[i].t == o->parameters[i])
        return items[i].name; /* as always, when the optimizer is that of the whole net */
    for (int64_t k = 0; k < count; k++)
        if (items[k].t == o->parameters[i])
            return items[k].name;
    call_die(c, "the optimizer changes a parameter %s which is not the module's",
             tensor_shape_text(o->parameters[i]));
}

/* ---- what there is ---- */

static void list_weights(snapshot *s, torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    saved_tensor *out = base_alloc((size_t)count, sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        const tensor *t = items[i].t;
        out[i] = (saved_tensor){.name = base_strdup(items[i].name),
                                .dtype = t->dtype,
                                .shape = weights_shape(t),
                                .bytes = (size_t)tensor_numel(t) * tensor_item_size(t)};
    }
    s->tensors[CHECKPOINT_WEIGHTS] = out;
    s->count[CHECKPOINT_WEIGHTS] = count;
}

/* Every rank lists them, and finds a parameter that is not the module's. */
static void list_optimizer(const call *c, snapshot *s, torc_module *net, const torc_optimizer *o)
{
    int64_t n = o->count, count = 1 + optimizer_pieces(o) * n;
    saved_tensor *out = base_alloc((size_t)count, sizeof *out);
    out[0] = (saved_tensor){.name = base_strdup("steps"),
                            .dtype = TORC_I64,
                            .shape = {1, {n}},
                            .bytes = (size_t)n * sizeof(int64_t)};
    for (int64_t i = 0; i < n; i++)
        checkpoint_parameter_name(c, net, o, i); /* dies, also where there is no state */
    for (int64_t k = 1; k < count; k++) {
        const tensor *p = o->parameters[(k - 1) % n];
        const char *name = checkpoint_parameter_name(c, net, o, (k - 1) % n);
        out[k] = (saved_tensor){.name = base_format("%s.%s", pieces[(k - 1) / n], name),
                                .dtype = TORC_F32,
                                .shape = weights_shape(p),
                                .bytes = (size_t)tensor_numel(p) * sizeof(float)};
    }
    s->tensors[CHECKPOINT_OPTIMIZER] = out;
    s->count[CHECKPOINT_OPTIMIZER] = count;
}

/* ---- room for it ---- */

static size_t round_up(size_t at, size_t unit)
{
    return (at + unit - 1) / unit * unit;
}

/* A file's values lie from a page on and without gaps, as in the file, so that they are written
 * from here. (Behind an odd number of small values there may be one: the rest is copied, then.) */
static size_t place_values(snapshot *s, char *values)
{
    size_t at = 0;
    for (int f = 0; f < CHECKPOINT_FILE_COUNT; f++) {
        at = round_up(at, UNBUFFERED_PAGE);
        for (int64_t i = 0; i < s->count[f]; i++) {
            at = round_up(at, torc_dtype_size(s->tensors[f][i].dtype));
            if (values)
                s->tensors[f][i].data = values + at;
            at += s->tensors[f][i].bytes;
        }
    }
    return at;
}

static void make_room(snapshot *s)
{
    size_t bytes = place_values(s, NULL);
    if (bytes > s->room) {
        if (s->values)
            device_cpu.release(s->values, s->room);
        s->values = device_cpu.alloc(bytes);
        if (!s->values)
            die_at((torc_site){0}, "torc_checkpoint_save",
                   "no memory for a copy of %zu bytes to write from", bytes);
        s->room = bytes;
    }
    place_values(s, s->values);
}

/* ---- the copy ---- */

static void copy_weights(const call *c, const snapshot *s, torc_module *net)
{
    int64_t count;
    const module_item *items = module_items(net, &count);
    for (int64_t i = 0; i < count; i++)
        tensor_read(c, items[i].t, items[i].t->dtype,
                    (void *)s->tensors[CHECKPOINT_WEIGHTS][i].data);
}

/* Collective where the state is divided; `s` without room on the ranks that only give. */
static void copy_optimizer(const call *c, const snapshot *s, torc_optimizer *o)
{
    const saved_tensor *out = s->tensors[CHECKPOINT_OPTIMIZER];
    optimizer_learn(o);
    if (out[0].data)
        memcpy((void *)out[0].data, o->steps, out[0].bytes);
    for (int k = 0; k < optimizer_pieces(o); k++)
        optimizer_read_state(c, o, k, (float *)out[1 + k * o->count].data);
}

void snapshot_take(const call *c, snapshot *s, torc_module *net, const char *dir,
                   torc_checkpoint_options o)
{
    bool writes = base_world()->rank == 0;
    s->dir = base_strdup(dir);
    s->step = o.optimizer->updates;
    s->keep = o.keep ? o.keep : 3;
    list_weights(s, net);
    list_optimizer(c, s, net, o.optimizer);
    double *places = snapshot_places(c);
    if (writes) {
        make_room(s);
        copy_weights(c, s, net);
        s->manifest =
            manifest_new((checkpoint_facts){o.optimizer, o.loader, module_hook(net), places});
    }
    copy_optimizer(c, s, o.optimizer);
    free(places);
    if (!writes)
        snapshot_clear(s);
}

void snapshot_clear(snapshot *s)
{
    for (int f = 0; f < CHECKPOINT_FILE_COUNT; f++) {
        for (int64_t i = 0; i < s->count[f]; i++)
            free(s->tensors[f][i].name);
        free(s->tensors[f]);
    }
    json_decref(s->manifest);
    free(s->dir);
    *s = (snapshot){.values = s->values, .room = s->room};
}

void snapshot_free(snapshot *s)
{
    snapshot_clear(s);
    if (s->values)
        device_cpu.release(s->values, s->room);
    *s = (snapshot){0};
}
