/*
 * onednn -- see onednn.h.
 *
 * The plans stand in an array in no order. A call compares one 64-bit hash per plan, then the key
 * of the one that agrees: 0.1 us for 512 plans, where the call itself takes 1 us at least.
 */
#include "core/cpu/onednn.h"

#include "core/cpu/scratch.h"

#include <oneapi/dnnl/dnnl_debug.h>
#include <omp.h>
#include <string.h>

struct onednn_plan {
    onednn_key key;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    int arguments;
    dnnl_exec_arg_t argument[ONEDNN_ARGUMENTS + 1]; /* the last one: scratch memory, if any */
    size_t scratch_bytes;
    uint64_t used; /* when, in calls */
};

static onednn_plan plans[ONEDNN_PLANS];
static uint64_t hashes[ONEDNN_PLANS]; /* 0: no plan */
static uint64_t calls;

/* ---- the library ---- */

void onednn_check(dnnl_status_t status, const char *doing)
{
    if (status == dnnl_out_of_memory)
        die_at((torc_site){0}, NULL, "no room for what oneDNN needs to %s", doing);
    if (status != dnnl_success)
        bug("oneDNN cannot %s: %s", doing, dnnl_status2str(status));
}

/* Made at first use: a program without products never pays for the library's start. */
dnnl_engine_t onednn_engine(void)
{
    static dnnl_engine_t engine;
    if (!engine)
        onednn_check(dnnl_engine_create(&engine, dnnl_cpu, 0), "start");
    return engine;
}

/* A CPU's stream runs each primitive before it returns, so nothing ever waits for it. */
static dnnl_stream_t stream(void)
{
    static dnnl_stream_t s;
    if (!s)
        onednn_check(dnnl_stream_create(&s, onednn_engine(), dnnl_stream_default_flags), "start");
    return s;
}

dnnl_primitive_attr_t onednn_attributes(bool add)
{
    dnnl_primitive_attr_t attributes;
    onednn_check(dnnl_primitive_attr_create(&attributes), "make attributes");
    onednn_check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
                 "take our scratch memory");
    if (add) {
        dnnl_post_ops_t after;
        onednn_check(dnnl_post_ops_create(&after), "make a post-op");
        onednn_check(dnnl_post_ops_append_sum(after, 1), "add to a result");
        onednn_check(dnnl_primitive_attr_set_post_ops(attributes, after), "add to a result");
        dnnl_post_ops_destroy(after);
    }
    return attributes;
}

/* ---- keys ---- */

onednn_key onednn_key_of(onednn_kind kind)
{
    return (onednn_key){2, {kind, omp_in_parallel() ? 1 : omp_get_max_threads()}};
}

void onednn_key_add(onednn_key *key, int n, const int64_t *numbers)
{
    if (key->n + n > ONEDNN_KEY)
        bug("a key of more than %d numbers", ONEDNN_KEY);
    for (int i = 0; i < n; i++)
        key->number[key->n++] = numbers[i];
}

/* FNV-1a over whole numbers, with the high bits brought down; never 0. */
static uint64_t hash_of(const onednn_key *key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < key->n; i++) {
        hash = (hash ^ (uint64_t)key->number[i]) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash ? hash : 1;
}

/* Hashes may collide; keys decide. */
static bool same_key(const onednn_key *a, const onednn_key *b)
{
    return a->n == b->n && !memcmp(a->number, b->number, (size_t)a->n * sizeof *a->number);
}

/* ---- plans ---- */

onednn_plan *onednn_find(const onednn_key *key)
{
    uint64_t hash = hash_of(key);
    for (int i = 0; i < ONEDNN_PLANS; i++)
        if (hashes[i] == hash && same_key(&plans[i].key, key)) {
            plans[i].used = ++calls;
            return &plans[i];
        }
    return NULL;
}

/* Gives back all that a plan holds; its place is free. */
static void forget(int index)
{
    onednn_plan *p = &plans[index];
    for (int i = 0; i < p->arguments; i++)
        dnnl_memory_destroy(p->argument[i].memory);
    dnnl_primitive_destroy(p->primitive);
    dnnl_primitive_desc_destroy(p->description);
    hashes[index] = 0;
}

/* A place that is free, or the one whose plan was not used for longest. */
static int place_for_plan(void)
{
    int oldest = 0;
    for (int i = 0; i < ONEDNN_PLANS; i++) {
        if (!hashes[i])
            return i;
        if (plans[i].used < plans[oldest].used)
            oldest = i;
    }
    forget(oldest);
    return oldest;
}

/* A memory object without memory: onednn_run() lends it a pointer for each call. */
static void add_argument(onednn_plan *p, int argument)
{
    dnnl_exec_arg_t *a = &p->argument[p->arguments++];
    a->arg = argument;
    onednn_check(dnnl_memory_create(&a->memory, onednn_layout(p, argument), onednn_engine(),
                                    DNNL_MEMORY_NONE),
                 "describe an argument");
}

onednn_plan *onednn_keep(const onednn_key *key, dnnl_primitive_desc_t primitive, int n,
                         const int *arguments)
{
    int place = place_for_plan();
    onednn_plan *p = &plans[place];
    *p = (onednn_plan){.key = *key, .description = primitive, .used = ++calls};
    onednn_check(dnnl_primitive_create(&p->primitive, primitive), "write the code of a primitive");
    stream(); /* made before threads run the plan */
    for (int i = 0; i < n; i++)
        add_argument(p, arguments[i]);
    p->scratch_bytes = dnnl_memory_desc_get_size(onednn_layout(p, DNNL_ARG_SCRATCHPAD));
    if (p->scratch_bytes)
        add_argument(p, DNNL_ARG_SCRATCHPAD);
    hashes[place] = hash_of(key);
    return p;
}

void onednn_run(onednn_plan *p, void *const *pointers)
{
    for (int i = 0; i < p->arguments; i++) {
        bool ours = p->argument[i].arg == DNNL_ARG_SCRATCHPAD;
        void *pointer = ours ? scratch(SCRATCH_ONEDNN, p->scratch_bytes) : pointers[i];
        onednn_check(dnnl_memory_set_data_handle(p->argument[i].memory, pointer),
                     "take an argument");
    }
    onednn_check(dnnl_primitive_execute(p->primitive, stream(), p->arguments, p->argument),
                 "run a primitive");
}

size_t onednn_room(const onednn_plan *p)
{
    return (p->scratch_bytes + 63) / 64 * 64; /* a cache line's: threads lay theirs side by side */
}

/* Memory objects of its own, since those of the plan hold one call's pointers: 0.3 us. */
void onednn_run_apart(const onednn_plan *p, void *const *pointers, void *room)
{
    dnnl_exec_arg_t argument[ONEDNN_ARGUMENTS + 1];
    for (int i = 0; i < p->arguments; i++) {
        int number = argument[i].arg = p->argument[i].arg;
        void *pointer = number == DNNL_ARG_SCRATCHPAD ? room : pointers[i];
        onednn_check(dnnl_memory_create(&argument[i].memory, onednn_layout(p, number),
                                        onednn_engine(), pointer),
                     "take an argument");
    }
    onednn_check(dnnl_primitive_execute(p->primitive, stream(), p->arguments, argument),
                 "run a primitive");
    for (int i = 0; i < p->arguments; i++)
        dnnl_memory_destroy(argument[i].memory);
}

const dnnl_memory_desc_t *onednn_layout(const onednn_plan *p, int argument)
{
    return dnnl_primitive_desc_query_md(p->description, dnnl_query_exec_arg_md, argument);
}
