/* bucket -- see bucket.h. */
#include "allreduce/bucket.h"

#include "allreduce/staging.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* bytes: a gradient starts on a cache line */

#define CPU_BYTES ((size_t)1 << 20)
#define CPU_FIRST_BYTES ((size_t)128 << 10)
#define GPU_BYTES ((size_t)25 << 20)
#define GPU_FIRST_BYTES ((size_t)1 << 20)
#define SMALL_BYTES 512 /* under TORC_SMALL_LIMITS */

void bucket_usual_bytes(bucket_way way, size_t *first_bytes, size_t *bytes)
{
    bool gpus = way == BUCKET_ON_GPUS;
    *bytes = base_limit(gpus ? GPU_BYTES : CPU_BYTES, SMALL_BYTES);
    *first_bytes = base_limit(gpus ? GPU_FIRST_BYTES : CPU_FIRST_BYTES, SMALL_BYTES / 2);
}

void bucket_plan_open(bucket_plan *p, int parameters, tensor *const *parameter,
                      const char *const *name)
{
    size_t n = (size_t)parameters;
    *p = (bucket_plan){.parameters = parameters};
    p->parameter = base_alloc(n, sizeof *p->parameter);
    p->name = base_alloc(n, sizeof *p->name);
    p->order = base_alloc(n, sizeof *p->order);
    p->bucket_of = base_alloc(n, sizeof *p->bucket_of);
    p->offset = base_alloc(n, sizeof *p->offset);
    memcpy(p->parameter, parameter, n * sizeof *parameter);
    memcpy(p->name, name, n * sizeof *name);
}

size_t bucket_bytes(const bucket *b)
{
    return (size_t)b->count * torc_dtype_size(b->dtype);
}

void bucket_part(const bucket_plan *p, const bucket *b, int64_t *first, int64_t *count)
{
    *count = p->parts ? b->count / p->parts : b->count;
    *first = *count * p->part;
}

void *bucket_data(const bucket_plan *p, const bucket *b, int buffer)
{
    return team_buffer(p->t, p->t->local, buffer) + b->offset;
}

/* Bytes that a gradient takes, rounded up so that the next one is aligned. */
static size_t room_of(const tensor *t)
{
    size_t bytes = (size_t)tensor_numel(t) * torc_dtype_size(t->dtype);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Its parts shall be equal, and begin on cache lines. Returns where it ends. */
static size_t fill_up(const bucket_plan *p, bucket *b)
{
    size_t whole = (size_t)(p->parts ? p->parts : 1) * ALIGNMENT;
    size_t bytes = (bucket_bytes(b) + whole - 1) / whole * whole;
    b->count = (int64_t)(bytes / torc_dtype_size(b->dtype));
    return b->offset + bytes;
}

static bucket *add_bucket(bucket_plan *p, torc_dtype dtype, size_t offset, int place)
{
    p->bucket = base_grow(p->bucket, (size_t)p->buckets + 1, sizeof *p->bucket);
    bucket *b = &p->bucket[p->buckets++];
    *b = (bucket){.dtype = dtype, .offset = offset, .first = place, .end = place};
    return b;
}

/* Decides who goes where; no memory moves yet. Returns where the last gradient ends. */
static size_t assign(bucket_plan *p, size_t first_bytes, size_t bytes)
{
    size_t at = BUCKET_HEAD;
    bucket *b = NULL;
    for (int place = 0; place < p->parameters; place++) {
        int i = p->order[place];
        const tensor *t = p->parameter[i];
        size_t limit = p->buckets <= 1 ? first_bytes : bytes;
        bool full = b && bucket_bytes(b) >= limit;
        if (!b || full || b->dtype != t->dtype) {
            at = b ? fill_up(p, b) : at;
            b = add_bucket(p, t->dtype, at, place);
        }
        p->bucket_of[i] = p->buckets - 1;
        p->offset[i] = at;
        at += room_of(t);
        b->count += (int64_t)(room_of(t) / torc_dtype_size(t->dtype));
        b->end = place + 1;
    }
    at = b ? fill_up(p, b) : at;
    p->tail_at = p->way == BUCKET_ON_GPUS ? BUCKET_HEAD : at; /* of the team's buffer */
    return at;
}

/* For messages, and for comparing what the ranks mean. */
static void name_bucket(const bucket_plan *p, int i)
{
    bucket *b = &p->bucket[i];
    bool several = b->end > b->first + 1;
    snprintf(b->name, sizeof b->name, "gradient bucket %d of %d (%.20s%s%.20s)", i, p->buckets,
             p->name[p->order[b->first]], several ? " .. " : "",
             several ? p->name[p->order[b->end - 1]] : "");
}

static void close_team(storage *memory)
{
    team_close(memory->owner);
}

static void release_buckets(bucket *buckets, int count)
{
    for (int i = 0; i < count; i++)
        free(buckets[i].carried);
    free(buckets);
}

/* To its place in p->memory; what it leaves in the team `left` (NULL: none) goes to the system at
 * once, so that there is never room for all gradients twice. */
static void move_gradient(const bucket_plan *p, int i, const team *left)
{
    tensor *t = p->parameter[i];
    char *was = left ? tensor_data(t->grad) : NULL;
    tape_place_gradient(t, p->memory, (int64_t)(p->offset[i] / torc_dtype_size(t->dtype)));
    if (left)
        comm_window_discard(left->window, was, room_of(t), false);
}

torc_status bucket_plan_lay(bucket_plan *p, comm *c, int leaves, const int *order,
                            size_t first_bytes, size_t bytes)
{
    bucket *old = p->bucket;
    storage *old_memory = p->memory;
    team *old_team = p->t;
    int old_count = p->buckets;
    memmove(p->order, order, (size_t)p->parameters * sizeof *order);
    p->bucket = NULL;
    p->buckets = 0;
    size_t end = assign(p, first_bytes, bytes);
    for (int i = 0; i < p->buckets; i++)
        name_bucket(p, i);
    size_t all = p->tail_at + p->tail;
    torc_status s = team_open(c, all, leaves, p->spare, &p->t);
    if (s != TORC_OK)
        return s;
    p->memory = p->way == BUCKET_IN_TEAM
                    ? storage_wrap(team_buffer(p->t, p->t->local, 0), all, close_team, p->t)
                    : staging_open(p, end);
    for (int place = 0; place < p->parameters; place++)
        move_gradient(p, p->order[place], p->way == BUCKET_IN_TEAM ? old_team : NULL);
    release_buckets(old, old_count);
    if (old_memory)
        storage_release(old_memory);
    if (old_team && p->way != BUCKET_IN_TEAM)
        staging_close(p->way, old_team);
    return TORC_OK;
}

size_t bucket_plan_vacate(const bucket_plan *p, int buckets)
{
    if (p->way != BUCKET_IN_TEAM || buckets == 0)
        return 0;
    const bucket *last = &p->bucket[buckets - 1];
    size_t bytes = last->offset + bucket_bytes(last) - p->bucket->offset;
    return comm_window_discard(p->t->window, bucket_data(p, p->bucket, 0), bytes, true);
}

void bucket_plan_free(bucket_plan *p)
{
    release_buckets(p->bucket, p->buckets);
    if (p->memory)
        storage_release(p->memory);
    if (p->t && p->way != BUCKET_IN_TEAM)
        staging_close(p->way, p->t);
    free(p->parameter);
    free(p->name);
    free(p->order);
    free(p->bucket_of);
    free(p->offset);
    *p = (bucket_plan){0};
}

void bucket_plan_print(const bucket_plan *p)
{
    printf("%6s %12s %10s  %s\n", "bucket", "bytes", "parameters", "first .. last");
    for (int i = 0; i < p->buckets; i++) {
        const bucket *b = &p->bucket[i];
        printf("%6d %12zu %10d  ", i, bucket_bytes(b), b->end - b->first);
        if (b->end > b->first)
            printf("%s .. %s", p->name[p->order[b->first]], p->name[p->order[b->end - 1]]);
        printf("\n");
    }
}
