/*
 * loader -- hands out this rank's share of one global batch after the other; a thread prepares the
 * next while one is trained on.
 *
 *     thread   fills slot 0 | fills slot 1 |   waits   | fills slot 0 ...
 *     caller                | trains on 0  | trains on 1 | ...
 *
 * A position is the number of batches since epoch 0: all that must be kept to go on where one was.
 */
#include "core/data/dataset.h"
#include "core/data/sampler.h"
#include "core/kernels.h"

#include <pthread.h>
#include <stdlib.h>

#define SLOTS 2

typedef struct slot {
    char *x, *y;
    int64_t *index;
    int64_t position, size, global_size;
    bool full;
} slot;

struct torc_loader {
    const torc_dataset *data;
    sampler order;
    torc_loader_options how;
    int rank, ranks;      /* as they were at the start: the slots are as large as the share was */
    int64_t position;     /* the batch handed out next */
    bool ended;           /* an epoch's end was told, or none has begun: the next call begins one */
    int64_t next_to_fill; /* the thread's own position */
    slot slots[SLOTS];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool leaving;
    torc_loader *prev, *next; /* among all that are left */
};

static torc_loader *all;

/* ---- the thread ---- */

static void fill(const torc_loader *l, slot *s, int64_t position)
{
    int64_t batches = sampler_batches(&l->order), k = position % batches;
    int64_t first, end, global = sampler_batch_size(&l->order, k);
    sampler_share(global, l->rank, l->ranks, &first, &end);
    for (int64_t i = first; i < end; i++)
        s->index[i - first] = sampler_at(&l->order, position / batches, k * l->order.batch + i);
    l->data->read(l->data, s->index, end - first, s->x, s->y);
    s->position = position;
    s->size = end - first;
    s->global_size = global;
}

static void *prepare(void *loader)
{
    torc_loader *l = loader;
    pthread_mutex_lock(&l->lock);
    while (!l->leaving) {
        int64_t position = l->next_to_fill;
        slot *s = &l->slots[position % SLOTS];
        if (s->full) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        fill(l, s, position);
        pthread_mutex_lock(&l->lock);
        s->full = true;
        l->next_to_fill++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- the caller ---- */

static void check_options(torc_site at, const char *op, const torc_dataset *d,
                          torc_loader_options o)
{
    if (!d)
        die_at(at, op, "expected a dataset, found NULL");
    if (o.batch_size < 1)
        die_at(at, op, "batch_size is required, e.g. .batch_size = 64");
    if (o.epoch < 0)
        die_at(at, op, "expected an epoch of 0 or more, found %lld", (long long)o.epoch);
    if (d->size == 0)
        die_at(at, op, "the dataset has no samples");
    if (o.drop_last && d->size < o.batch_size)
        die_at(at, op, "expected at least one whole batch of %lld, found %lld samples",
               (long long)o.batch_size, (long long)d->size);
}

torc_loader *torc_loader_new(torc_site at, torc_dataset *data, torc_loader_options o)
{
    check_options(at, __func__, data, o);
    torc_loader *l = base_alloc(1, sizeof *l);
    *l = (torc_loader){.data = data, .how = o, .ended = true};
    l->order = (sampler){data->size, o.batch_size, o.shuffle, o.drop_last, o.seed};
    l->position = l->next_to_fill = o.epoch * sampler_batches(&l->order);
    l->rank = o.whole ? 0 : base_world()->rank;
    l->ranks = o.whole ? 1 : base_world()->size;
    int64_t most = min_i64(o.batch_size, data->size) / l->ranks + 1;
    for (int i = 0; i < SLOTS; i++) {
        l->slots[i].index = base_alloc((size_t)most, sizeof *l->slots[i].index);
        l->slots[i].x = base_alloc((size_t)most, sample_bytes(&data->x));
        l->slots[i].y = data->has_y ? base_alloc((size_t)most, sample_bytes(&data->y)) : NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, prepare, l) != 0)
        die_at(at, __func__, "the system gave no thread to prepare batches");
    l->next = all;
    if (all)
        all->prev = l;
    all = l;
    return l;
}

static torc_tensor *as_tensor(const call *c, const sample_part *part, int64_t n, const void *values)
{
    torc_shape shape = {.ndim = part->shape.ndim + 1, .dim = {n}};
    for (int i = 0; i < part->shape.ndim; i++)
        shape.dim[i + 1] = part->shape.dim[i];
    tensor *t = tensor_create(c, part->dtype, shape.ndim, shape.dim, OWNER_TAPE);
    size_t bytes = (size_t)tensor_numel(t) * tensor_item_size(t);
    if (bytes)
        device_current()->from_host(tensor_data(t), values, bytes);
    return tensor_handle(t);
}

bool torc_loader_next(torc_site at, torc_loader *l, torc_batch *batch)
{
    const call c = {at, __func__};
    if (!l)
        call_die(&c, "expected a loader, found NULL");
    torc_tape_clear(at);
    int64_t batches = sampler_batches(&l->order);
    if (l->position % batches == 0 && !l->ended && !l->how.endless) {
        l->ended = true;
        return false;
    }
    l->ended = false;
    slot *s = &l->slots[l->position % SLOTS];
    pthread_mutex_lock(&l->lock);
    while (!s->full)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    *batch = (torc_batch){.x = as_tensor(&c, &l->data->x, s->size, s->x),
                          .size = s->size,
                          .global_size = s->global_size,
                          .index = l->position % batches,
                          .epoch = l->position / batches};
    if (l->data->has_y)
        batch->y = as_tensor(&c, &l->data->y, s->size, s->y);
    pthread_mutex_lock(&l->lock);
    s->full = false;
    l->position++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return true;
}

int64_t torc_loader_batches(torc_loader *l)
{
    return sampler_batches(&l->order);
}

int64_t torc_loader_position(torc_loader *l)
{
    return l->position;
}

static void stop_thread(torc_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->leaving = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    l->leaving = false;
}

/* The thread starts anew, so that no slot is half filled for the old position. */
void torc_loader_seek(torc_site at, torc_loader *l, int64_t position)
{
    if (position < 0)
        die_at(at, __func__, "expected a position of 0 or more, found %lld", (long long)position);
    stop_thread(l);
    l->position = l->next_to_fill = position;
    l->ended = true;
    for (int i = 0; i < SLOTS; i++)
        l->slots[i].full = false;
    if (pthread_create(&l->thread, NULL, prepare, l) != 0)
        die_at(at, __func__, "the system gave no thread to prepare batches");
}

void torc_loader_free(torc_loader *l)
{
    if (!l)
        return;
    if (l->prev)
        l->prev->next = l->next;
    else
        all = l->next;
    if (l->next)
        l->next->prev = l->prev;
    stop_thread(l);
    for (int i = 0; i < SLOTS; i++) {
        free(l->slots[i].index);
        free(l->slots[i].x);
        free(l->slots[i].y);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l);
}

void loader_free_all(void)
{
    while (all)
        torc_loader_free(all);
}
