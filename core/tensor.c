/*
 * tensor -- see tensor.h.
 *
 * Slots come in pages that never move, so a tensor's address is good as long as its life. A slot
 * that is free keeps the history of its last lives, in runs: a training loop makes the same tensor
 * at the same line in every step, so one run tells about thousands of lives.
 */
#include "core/kernels.h"
#include "core/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 256
#define RUNS 4

typedef struct life_run { /* lives first .. last were made and ended at these lines */
    uint32_t first, last;
    torc_site made, ended;
} life_run;

typedef struct slot {
    tensor t;
    life_run past[RUNS]; /* newest first */
    int32_t next_free;   /* -1: in use, or the end of the list */
    bool in_use;
} slot;

static slot **pages;
static int32_t page_count, first_free = -1;
static tensor tape_list = {.prev = &tape_list, .next = &tape_list};

static slot *slot_at(uint32_t index)
{
    return &pages[index / PAGE][index % PAGE];
}

/* ---- handles ---- */

torc_tensor *tensor_handle(const tensor *t)
{
    return (torc_tensor *)(uintptr_t)((uint64_t)t->life << 32 | (t->slot + 1));
}

static bool same_site(torc_site a, torc_site b)
{
    return a.line == b.line && a.file == b.file;
}

static _Noreturn void die_of_stale(const call *c, const slot *s, uint32_t life)
{
    for (int i = 0; i < RUNS; i++)
        if (s->past[i].ended.line && life >= s->past[i].first && life <= s->past[i].last)
            call_die(c,
                     "this tensor is gone: made at %s, cleared at %s; torc_keep() makes a tensor "
                     "outlive its step",
                     base_site_text(s->past[i].made), base_site_text(s->past[i].ended));
    call_die(c, "this tensor went many steps ago; torc_keep() makes a tensor outlive its step");
}

tensor *tensor_of(const call *c, torc_tensor *handle)
{
    uint64_t bits = (uint64_t)(uintptr_t)handle;
    uint32_t index = (uint32_t)bits - 1, life = (uint32_t)(bits >> 32);
    if (!handle)
        call_die(c, "expected a tensor, found NULL");
    if (index >= (uint32_t)page_count * PAGE)
        call_die(c, "expected a tensor, found the pointer %p", (void *)handle);
    slot *s = slot_at(index);
    if (!s->in_use || s->t.life != life)
        die_of_stale(c, s, life);
    profile_op_begins(c->at, c->op);
    if (s->t.zero_pending)
        tensor_settle(&s->t);
    return &s->t;
}

/* ---- slots ---- */

static void add_page(void)
{
    pages = base_grow(pages, (size_t)page_count + 1, sizeof *pages);
    pages[page_count] = base_alloc(PAGE, sizeof(slot));
    for (int i = PAGE - 1; i >= 0; i--) {
        slot *s = &pages[page_count][i];
        s->t.slot = (uint32_t)(page_count * PAGE + i);
        s->next_free = first_free;
        first_free = (int32_t)s->t.slot;
    }
    page_count++;
}

static tensor *take_slot(torc_site made, tensor_owner owner)
{
    if (first_free < 0)
        add_page();
    slot *s = slot_at((uint32_t)first_free);
    first_free = s->next_free;
    s->in_use = true;
    s->t =
        (tensor){.slot = s->t.slot, .life = s->t.life + 1, .made = made, .refs = 1, .weight = NAN};
    tensor_set_owner(&s->t, owner);
    return &s->t;
}

/* The life that ends joins the newest run if it began and ended at the same lines. */
static void remember_life(slot *s, torc_site ended)
{
    life_run *newest = &s->past[0];
    if (newest->last + 1 == s->t.life && same_site(newest->made, s->t.made) &&
        same_site(newest->ended, ended)) {
        newest->last = s->t.life;
        return;
    }
    memmove(&s->past[1], &s->past[0], sizeof s->past - sizeof s->past[0]);
    s->past[0] = (life_run){s->t.life, s->t.life, s->t.made, ended};
}

/* The handle dies with the owner's hold; the struct stays until the nodes that read it are gone
 * too. */
void tensor_release(tensor *t, torc_site where)
{
    if (t->owner != OWNER_HOUSE)
        remember_life(slot_at(t->slot), where);
    slot_at(t->slot)->in_use = false;
    tensor_set_owner(t, OWNER_HOUSE);
    tensor_unshare(t);
}

tensor *tensor_share(tensor *t)
{
    t->refs++;
    return t;
}

void tensor_unshare(tensor *t)
{
    if (--t->refs > 0)
        return;
    slot *s = slot_at(t->slot);
    tensor_drop(t->grad);
    tensor_drop(t->low);
    storage_release(t->store);
    s->in_use = false;
    s->next_free = first_free;
    first_free = (int32_t)t->slot;
}

void tensor_drop(tensor *t)
{
    if (t)
        tensor_unshare(t);
}

void tensor_move(tensor *t, storage *s, int64_t offset)
{
    storage *old = t->store;
    t->store = storage_share(s);
    t->offset = offset;
    storage_release(old);
}

void tensor_empty(tensor *t)
{
    storage *none = storage_new(0);
    tensor_move(t, none, 0);
    storage_release(none);
}

/* Dense, as whatever is emptied was: the elements need as many bytes as they have. */
void tensor_refill(tensor *t)
{
    storage *s = storage_new((size_t)tensor_numel(t) * torc_dtype_size(t->dtype));
    tensor_move(t, s, 0);
    storage_release(s);
}

static uint64_t changes = 1;

uint64_t tensor_changes(void)
{
    return changes;
}

void tensor_changed(void)
{
    changes++;
}

void tensor_set_owner(tensor *t, tensor_owner owner)
{
    if (t->prev) {
        t->prev->next = t->next;
        t->next->prev = t->prev;
        t->prev = t->next = NULL;
    }
    if (owner == OWNER_TAPE) {
        t->prev = tape_list.prev;
        t->next = &tape_list;
        t->prev->next = t->next->prev = t;
    }
    t->owner = owner;
}

/* Newest first, so that the free list hands the slots out in the same order in the next step and
 * histories stay short. */
void tensor_release_tape(torc_site where)
{
    tensor_changed(); /* who took torc_data() of a parameter may write to it in every step */
    while (tape_list.prev != &tape_list)
        tensor_release(tape_list.prev, where);
}

void tensor_fence(tensor *fence)
{
    fence->prev = NULL;
    tensor_set_owner(fence, OWNER_TAPE);
}

void tensor_release_since(tensor *fence, const tensor *keep, torc_site where)
{
    for (tensor *t = tape_list.prev, *older; t != fence; t = older) {
        older = t->prev;
        if (t != keep)
            tensor_release(t, where);
    }
    tensor_set_owner(fence, OWNER_HOUSE);
}

/* ---- making ---- */

tensor *tensor_create(const call *c, torc_dtype dtype, int ndim, const int64_t *shape,
                      tensor_owner owner)
{
    int64_t n = shape_numel(c, ndim, shape);
    if (n > INT64_MAX / 16)
        call_die(c, "%s is more than can be addressed", shape_text(ndim, shape));
    profile_op_begins(c->at, c->op);
    tensor *t = take_slot(c->at, owner);
    t->dtype = dtype;
    t->ndim = ndim;
    if (ndim > 0) /* a scalar's shape may be NULL */
        memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    shape_strides(ndim, shape, t->stride);
    t->store = storage_new((size_t)n * torc_dtype_size(dtype));
    return t;
}

tensor *tensor_create_like(const call *c, const tensor *like, torc_dtype dtype, tensor_owner owner)
{
    tensor *t = tensor_create(c, dtype, like->ndim, like->shape, owner);
    if (tensor_is_dense(like))
        memcpy(t->stride, like->stride, sizeof t->stride);
    return t;
}

tensor *tensor_view(const call *c, const tensor *of, int ndim, const int64_t *shape,
                    const int64_t *stride, int64_t offset, tensor_owner owner)
{
    tensor *t = take_slot(c->at, owner);
    t->dtype = of->dtype;
    t->ndim = ndim;
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    memcpy(t->stride, stride, (size_t)ndim * sizeof *stride);
    t->offset = offset;
    t->store = storage_share(of->store);
    return t;
}

/* ---- values ---- */

size_t tensor_item_size(const tensor *t)
{
    return torc_dtype_size(t->dtype);
}

/* All values from the one that is first in memory on. */
static void let_arrive(const tensor *t)
{
    int64_t lowest = t->offset;
    for (int i = 0; i < t->ndim; i++)
        lowest += min_i64(0, (t->shape[i] - 1) * t->stride[i]);
    t->store->arrive(t->store, (size_t)max_i64(0, lowest) * tensor_item_size(t));
}

void *tensor_data(const tensor *t)
{
    if (t->store->arrive)
        let_arrive(t);
    if (!t->store->data)
        return NULL;
    return (char *)t->store->data + t->offset * (int64_t)tensor_item_size(t);
}

void tensor_put(tensor *t, const void *values)
{
    size_t bytes = (size_t)tensor_numel(t) * tensor_item_size(t);
    storage *s = t->store;
    if (!bytes)
        return;
    device_current()->from_host(tensor_data(t), values, bytes);
    if (device_is_host() || t->dtype != TORC_I64 || s->gone)
        return;
    if (!s->mirror)
        s->mirror = base_alloc(s->bytes, 1);
    size_t start = (size_t)t->offset * sizeof(int64_t);
    memcpy((char *)s->mirror + start, values, bytes);
    if (start <= s->mirrored && start + bytes > s->mirrored) /* else a gap is between */
        s->mirrored = start + bytes;
}

const int64_t *tensor_mirror(const tensor *t)
{
    if (t->dtype != TORC_I64 || !tensor_is_contiguous(t))
        return NULL;
    if (device_is_host())
        return tensor_data(t);
    int64_t end = t->offset + tensor_numel(t);
    bool known = t->store->mirror && (size_t)end * sizeof(int64_t) <= t->store->mirrored;
    return known ? (int64_t *)t->store->mirror + t->offset : NULL;
}

void tensor_forget_mirror(const tensor *t)
{
    t->store->mirrored = 0;
}

bool tensor_is_float(const tensor *t)
{
    return t->dtype == TORC_F32 || t->dtype == TORC_F64 || dtype_is_low(t->dtype);
}

void tensor_settle(tensor *t)
{
    if (!t->zero_pending)
        return;
    t->zero_pending = false;
    kernels_here()->fill(t, 0);
}

/* ---- temporaries ---- */

tensor *tensor_contiguous(const call *c, tensor *t)
{
    if (tensor_is_contiguous(t))
        return tensor_share(t);
    tensor *copy = tensor_create(c, t->dtype, t->ndim, t->shape, OWNER_HOUSE);
    kernels_here()->copy(copy, t);
    return copy;
}

tensor *tensor_cast(const call *c, tensor *t, torc_dtype dtype)
{
    if (t->dtype == dtype)
        return tensor_share(t);
    tensor *copy = tensor_create_like(c, t, dtype, OWNER_HOUSE);
    kernels_here()->copy(copy, t);
    return copy;
}
