/*
 * loader -- hands out this rank's share of one global batch after the other; a thread prepares the
 * next while one is trained on.
 *
 *     thread   fills slot 0 | fills slot 1 |   waits   | fills slot 0 ...
 *     caller                | trains on 0  | trains on 1 | ...
 *
 * A position is the number of batches since epoch 0: all that must be kept to go on where one was.
 *
 * Words
 *   turn    what one call hands out: usually this rank's share of a batch
 *   shard   with virtual ranks a batch is cut into shards, whatever the number of ranks, and a rank
 *           has several of them: a turn each. Where others have one more, the first turn is empty,
 *           so that every rank takes as many turns, and its last shard comes in the last.
 *
 *     5 shards on 2 ranks    rank 0   -  0  1
 *                            rank 1   2  3  4        3 turns a batch
 */
#include "core/data/dataset.h"
#include "core/data/sampler.h"
#include "core/kernels.h"
#include "core/profile.h"
#include "core/rng.h"
#include "core/status.h"

#include <pthread.h>
#include <stdlib.h>

#define SLOTS 2

typedef struct slot {
    char *x, *y;
    int64_t *index;
    int64_t size, global_size;
    int shard;
    bool full;
    double began, ended; /* filling it: profile_clock() */
} slot;

struct torc_loader {
    const torc_dataset *data;
    sampler order;
    torc_loader_options how;
    int rank, ranks;      /* as they were at the start: the slots are as large as the share was */
    int shards;           /* of a batch; 0: one share a rank */
    int first, end;       /* of the shards: this rank's */
    int turns;            /* that a batch takes */
    int64_t turn;         /* handed out next, counted from epoch 0 */
    bool ended;           /* an epoch's end was told, or none has begun: the next call begins one */
    int64_t next_to_fill; /* the thread's own turn */
    slot slots[SLOTS];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool leaving;
    torc_loader *prev, *next; /* among all that are left */
};

static torc_loader *all;

/* ---- the thread ---- */

/* The shard of a turn. */
static int shard_of(const torc_loader *l, int64_t turn)
{
    int shard = l->end - l->turns + (int)(turn % l->turns);
    return shard < l->first ? SHARD_EMPTY : shard;
}

static void share_of(const torc_loader *l, int64_t global, int shard, int64_t *first, int64_t *end)
{
    if (!l->shards)
        sampler_share(global, l->rank, l->ranks, first, end);
    else if (shard >= 0)
        sampler_share(global, shard, l->shards, first, end);
    else
        *first = *end = 0;
}

static void fill(const torc_loader *l, slot *s, int64_t turn)
{
    int64_t batches = sampler_batches(&l->order), position = turn / l->turns;
    int64_t first, end, k = position % batches, global = sampler_batch_size(&l->order, k);
    s->shard = l->shards ? shard_of(l, turn) : SHARD_NONE;
    share_of(l, global, s->shard, &first, &end);
    for (int64_t i = first; i < end; i++)
        s->index[i - first] = sampler_at(&l->order, position / batches, k * l->order.batch + i);
    l->data->read(l->data, s->index, end - first, s->x, s->y);
    s->size = end - first;
    s->global_size = global;
}

static void *prepare(void *loader)
{
    torc_loader *l = loader;
    pthread_mutex_lock(&l->lock);
    while (!l->leaving) {
        int64_t turn = l->next_to_fill;
        slot *s = &l->slots[turn % SLOTS];
        if (s->full) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        s->began = profile_clock();
        fill(l, s, turn);
        s->ended = profile_clock();
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

static void start_thread(torc_site at, torc_loader *l, int64_t position)
{
    l->turn = l->next_to_fill = position * l->turns;
    l->ended = true;
    for (int i = 0; i < SLOTS; i++)
        l->slots[i].full = false;
    if (pthread_create(&l->thread, NULL, prepare, l) != 0)
        die_at(at, "torc_loader", "the system gave no thread to prepare batches");
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

/* There are at least as many shards as ranks, so none is larger than a rank's share. */
static void deal_shards(torc_loader *l, int shards)
{
    int place = base_world()->place, ranks = l->ranks;
    l->shards = shards;
    l->first = (int)((int64_t)shards * place / ranks);
    l->end = (int)((int64_t)shards * (place + 1) / ranks);
    l->turns = shards ? (shards + ranks - 1) / ranks : 1;
}

static int shards_wanted(const torc_loader *l)
{
    return l->how.whole ? 0 : base_world()->virtual_ranks;
}

static void make_slots(torc_loader *l)
{
    const torc_dataset *data = l->data;
    int64_t most = min_i64(l->how.batch_size, data->size) / l->ranks + 1;
    for (int i = 0; i < SLOTS; i++) {
        l->slots[i].index = base_alloc((size_t)most, sizeof *l->slots[i].index);
        l->slots[i].x = base_alloc((size_t)most, sample_bytes(&data->x));
        l->slots[i].y = data->has_y ? base_alloc((size_t)most, sample_bytes(&data->y)) : NULL;
    }
}

torc_loader *torc_loader_new(torc_site at, torc_dataset *data, torc_loader_options o)
{
    check_options(at, __func__, data, o);
    torc_loader *l = base_alloc(1, sizeof *l);
    *l = (torc_loader){.data = data, .how = o};
    l->order = (sampler){data->size, o.batch_size, o.shuffle, o.drop_last, o.seed};
    l->rank = o.whole ? 0 : base_world()->rank;
    l->ranks = o.whole ? 1 : base_world()->size;
    make_slots(l);
    deal_shards(l, shards_wanted(l));
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    start_thread(at, l, o.epoch * sampler_batches(&l->order));
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
    tensor_put(t, values);
    return tensor_handle(t);
}

/* Random numbers drawn from here on are those of the shard in this batch, whoever has it. */
static void enter_shard(const torc_loader *l, int shard)
{
    if (!l->shards)
        return;
    base_set_shard(shard);
    rng_enter((uint64_t)(shard + 2), (uint64_t)(l->turn / l->turns));
}

static bool take_batch(const call *c, torc_loader *l, torc_batch *batch)
{
    torc_tape_clear(c->at);
    if (shards_wanted(l) && shards_wanted(l) != l->shards) { /* torc_ddp() came after the loader */
        stop_thread(l);
        int64_t position = torc_loader_position(l);
        deal_shards(l, shards_wanted(l));
        start_thread(c->at, l, position);
    }
    int64_t turns = sampler_batches(&l->order) * l->turns;
    if (l->turn % turns == 0 && !l->ended && !l->how.endless) {
        l->ended = true;
        return false;
    }
    l->ended = false;
    slot *s = &l->slots[l->turn % SLOTS];
    pthread_mutex_lock(&l->lock);
    while (!s->full)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    profile_span(PROFILE_FILL, c->at, c->op, s->began, s->ended);
    *batch = (torc_batch){.x = as_tensor(c, &l->data->x, s->size, s->x),
                          .size = s->size,
                          .global_size = s->global_size,
                          .index = l->turn % turns / l->turns,
                          .epoch = l->turn / turns};
    if (l->data->has_y)
        batch->y = as_tensor(c, &l->data->y, s->size, s->y);
    enter_shard(l, s->shard);
    if (!l->how.whole && l->turn % l->turns == 0)
        status_count_batch();
    pthread_mutex_lock(&l->lock);
    s->full = false;
    l->turn++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return true;
}

bool torc_loader_next(torc_site at, torc_loader *l, torc_batch *batch)
{
    const call c = {at, __func__};
    if (!l)
        call_die(&c, "expected a loader, found NULL");
    status_op(STATUS_LOADER, at, __func__);
    profile_enter(PROFILE_LOADER, at, __func__);
    bool taken = take_batch(&c, l, batch);
    profile_leave();
    return taken;
}

int64_t torc_loader_batches(torc_loader *l)
{
    return sampler_batches(&l->order);
}

int64_t torc_loader_position(torc_loader *l)
{
    return l->turn / l->turns;
}

sampler loader_order(const torc_loader *l)
{
    return l->order;
}

/* The thread starts anew, so that no slot is half filled for the old position. */
void torc_loader_seek(torc_site at, torc_loader *l, int64_t position)
{
    if (position < 0)
        die_at(at, __func__, "expected a position of 0 or more, found %lld", (long long)position);
    stop_thread(l);
    start_thread(at, l, position);
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
