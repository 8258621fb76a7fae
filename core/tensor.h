/*
 * tensor -- shapes, views and lifetimes behind the public handles.
 *
 * A torc_tensor* in the user's hands is no address but a handle: the number of a slot and the
 * number of the life in it. A slot is used again after its tensor has gone, with the next life
 * number, so a handle kept too long never meets a stranger: tensor_of() sees that the lives differ
 * and tells the three lines (made, gone, used).
 *
 *     handle = life << 32 | slot + 1        slots[slot] = { life, shape, strides, storage, ... }
 *
 * Strides count elements and may be 0 (a broadcast dimension) or negative (a flipped one).
 */
#ifndef TORC_TENSOR_H
#define TORC_TENSOR_H

#include "core/storage.h"

typedef enum tensor_owner {
    OWNER_TAPE, /* goes with the tape */
    OWNER_USER, /* made by torc_tensor_new() or kept: goes with torc_tensor_free(), or its module */
    OWNER_HOUSE /* ours: temporaries, gradients; goes with tensor_release() */
} tensor_owner;

/* Who is told when a parameter's gradient is final: the one socket that core offers to the outside
 * (tape.h). */
struct tape_hook;
struct tape_taker;

typedef struct tensor {
    int ndim;
    torc_dtype dtype;
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    int64_t offset; /* of the first element in the storage, in elements */
    storage *store;

    bool requires_grad;
    bool unnamed;      /* no handle of it is left in anybody's hands */
    bool emptied;      /* its values went, to be made again when backward asks for them */
    bool zero_pending; /* all elements are 0 but nobody wrote that yet: tensor_settle() does, or the
                          first writer overwrites */
    struct tensor *grad;
    struct node *maker; /* the node whose result this is; NULL for leaves */
    int awaited;        /* contributions to the gradient still to come in this backward */
    bool reached;       /* by the backward under way */
    struct tape_hook *hook;
    int64_t hook_index;       /* the hook's own number for this parameter */
    struct tape_taker *taker; /* who uses its gradient up as soon as it is final (tape.h) ... */
    int64_t taker_index;      /* ... and knows it by this number */
    double weight;            /* of a loss: the samples behind it; NAN: unknown */
    struct tensor *low; /* a copy in bf16 or f16 (ops/autocast.h), and tensor_changes() when it was
                           written */
    uint64_t low_written;

    tensor_owner owner;
    int64_t refs; /* the owner's and one for each node that reads it */
    torc_site made;
    uint32_t slot, life;
    struct tensor *prev, *next; /* among the tape's */
} tensor;

/* Where an op was called, and its public name: what every message needs. `const call c = {at,
 * __func__};` */
typedef struct call {
    torc_site at;
    const char *op;
} call;
#define call_die(c, ...) die_at((c)->at, (c)->op, __VA_ARGS__)

/* ---- handles ---- */

/* Dies on NULL and on tensors that have gone. */
tensor *tensor_of(const call *c, torc_tensor *handle);
torc_tensor *tensor_handle(const tensor *t);

/* ---- making and letting go ---- */

/* Contiguous, values undefined. */
tensor *tensor_create(const call *c, torc_dtype dtype, int ndim, const int64_t *shape,
                      tensor_owner owner);
/* Same shape, dtype and, where `like` is dense, the same order of strides. */
tensor *tensor_create_like(const call *c, const tensor *like, torc_dtype dtype, tensor_owner owner);
/* Another view of the same storage: offset counts from the storage's start. */
tensor *tensor_view(const call *c, const tensor *of, int ndim, const int64_t *shape,
                    const int64_t *stride, int64_t offset, tensor_owner owner);
/* t's memory goes back to the cache, its shape and strides stay; and memory for them again, values
 * undefined. */
void tensor_empty(tensor *t);
void tensor_refill(tensor *t);
/* t's values are from now on those of `s` from `offset` (elements), with the same strides. */
void tensor_move(tensor *t, storage *s, int64_t offset);
void tensor_set_owner(tensor *t, tensor_owner owner);
tensor *tensor_share(tensor *t); /* one reference more; returns t */
void tensor_unshare(tensor *t);
/* Ends the owner's hold: the handle is dead from now on, `where` is remembered as the line that did
 * it. */
void tensor_release(tensor *t, torc_site where);
/* Releases everything the tape owns. */
void tensor_release_tape(torc_site where);
/* Releases what became the tape's after tensor_fence(), but `keep` (NULL: nothing is kept). Fences
 * nest; the struct is the caller's until then. */
void tensor_fence(tensor *fence);
void tensor_release_since(tensor *fence, const tensor *keep, torc_site where);

/* Counts the moments at which values of tensors that outlive a step may have changed: an
 * optimizer's step, a write by the user or from a file, the end of a step. What was computed from
 * them at the same count is still true. */
uint64_t tensor_changes(void);
void tensor_changed(void);

/* ---- values ---- */

size_t tensor_item_size(const tensor *t);
void *tensor_data(const tensor *t); /* of the first element */
/* All values of t, which is contiguous, become those of `values`. On a device that is not the host
 * the copy is only asked for; `values` may change at once all the same. */
void tensor_put(tensor *t, const void *values);
/* The values of t as the host put them there, where it did and t is contiguous and int64: indices
 * and targets can be checked without waiting for the device. NULL: it has to be asked. On the host
 * itself, t's own memory. */
const int64_t *tensor_mirror(const tensor *t);
void tensor_forget_mirror(const tensor *t); /* for whoever writes to t on the device */
bool tensor_is_float(const tensor *t);      /* f32, f64, bf16, f16 */
/* Of the floats of 16 bits, which are computed with in f32: bf16 and f16. */
static inline bool dtype_is_low(torc_dtype dtype)
{
    return dtype == TORC_BF16 || dtype == TORC_F16;
}
void tensor_settle(tensor *t); /* writes the zeros that are pending */

/* ---- shapes and strides (shape.c) ---- */

int64_t tensor_numel(const tensor *t);
bool tensor_is_contiguous(const tensor *t);
/* Every element of the storage span exactly once, in whatever order of dimensions. */
bool tensor_is_dense(const tensor *t);
bool tensor_same_shape(const tensor *a, const tensor *b);
/* "[32, 784]", good until eight more such calls. */
const char *tensor_shape_text(const tensor *t);
const char *shape_text(int ndim, const int64_t *shape);
void shape_strides(int ndim, const int64_t *shape, int64_t *stride); /* contiguous ones */
/* Dies on overflow and negatives. */
int64_t shape_numel(const call *c, int ndim, const int64_t *shape);
int shape_dim(const call *c, int dim, int ndim); /* -1 is the last; dies when outside */
/* NumPy's broadcast of a and b; dies, naming both, when they do not fit. Returns ndim. */
int shape_broadcast(const call *c, const tensor *a, const tensor *b, int64_t *shape);
/* A view of t in the larger shape, strides 0 where t repeats; t itself, shared, where the shapes
 * agree. The caller releases it with tensor_drop(). */
tensor *tensor_broadcast(const call *c, tensor *t, int ndim, const int64_t *shape);

/* ---- temporaries (OWNER_HOUSE) ---- */

/* t shared if it is contiguous, else a contiguous copy; the same with a dtype. Released with
 * tensor_drop(). */
tensor *tensor_contiguous(const call *c, tensor *t);
tensor *tensor_cast(const call *c, tensor *t, torc_dtype dtype);
void tensor_drop(tensor *t); /* NULL is fine */

#endif
