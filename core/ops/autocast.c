/*
 * autocast -- see autocast.h.
 *
 * The low copy of a master belongs to the master (tensor.h: low) and stays in its place from step
 * to step. It is written again when it is asked for and something may have changed values since:
 *
 *     tensor_changes()   3 ......... 3 ............ 3 ......... 4 ..............
 *     the step           forward     forward        torc_step   forward
 *     w's copy           written     as it is                   written again
 */
#include "core/ops/autocast.h"

#include "core/kernels.h"
#include "core/loss_scale.h"

#include <stdlib.h>
#include <string.h>

static torc_dtype scope_dtype = TORC_F32;      /* TORC_F32: in no scope */
static torc_dtype matmul_precision = TORC_F32; /* of products of f32 tensors */

/* ---- the public calls ---- */

/* Whether products of bf16, or f16, are worth it here; TORC_BF16=emulate says yes to bf16 on any
 * processor, where they have the same values at less than the speed of f32. */
static bool multiplies(torc_dtype low)
{
    const char *wish = getenv("TORC_BF16");
    if (wish && strcmp(wish, "emulate") != 0)
        die_at((torc_site){"torc", 0}, NULL, "TORC_BF16=%s: expected emulate", wish);
    return (wish && low == TORC_BF16) || device_current()->multiplies(low);
}

static void notice_full_precision(torc_dtype low)
{
    static unsigned noticed; /* a bit a dtype */
    const char *name = device_current()->name;
    if (noticed & DTYPE_BIT(low))
        return;
    noticed |= DTYPE_BIT(low);
    if (low == TORC_BF16)
        log_line(LOG_WARN,
                 "this %s has no bf16 instructions: computing in f32 (TORC_BF16=emulate "
                 "computes in bf16 all the same, slowly)",
                 name);
    else
        log_line(LOG_WARN, "this %s has no f16 instructions: computing in f32", name);
}

/* What was asked for where the device has it, else f32 after one notice. */
static torc_dtype settle_dtype(const call *c, torc_dtype dtype)
{
    if (!dtype_is_low(dtype) && dtype != TORC_F32)
        call_die(c, "expected TORC_BF16, TORC_F16, or TORC_F32 for full precision, found %s",
                 torc_dtype_name(dtype));
    if (dtype == TORC_F32 || multiplies(dtype))
        return dtype;
    notice_full_precision(dtype);
    return TORC_F32;
}

static void leave(void *outer)
{
    scope_dtype = (torc_dtype)(intptr_t)outer;
}

torc_scope torc_autocast_enter(torc_site at, torc_dtype dtype)
{
    const call c = {at, "torc_autocast"};
    torc_dtype outer = scope_dtype;
    scope_dtype = settle_dtype(&c, dtype);
    if (scope_dtype == TORC_F16 && tape_recording())
        loss_scale_wanted(&c);
    return (torc_scope){leave, (void *)(intptr_t)outer, 1};
}

void torc_set_matmul_precision(torc_site at, torc_dtype dtype)
{
    const call c = {at, __func__};
    matmul_precision = settle_dtype(&c, dtype);
    if (matmul_precision == TORC_F16) /* products of gradients round those, too */
        loss_scale_wanted(&c);
}

/* ---- for ops ---- */

torc_dtype autocast_here(void)
{
    return scope_dtype;
}

void autocast_return(torc_dtype dtype)
{
    scope_dtype = dtype;
}

product_types autocast_product(torc_dtype dtype)
{
    if (dtype != TORC_F32)
        return (product_types){dtype, dtype};
    bool low = dtype_is_low(scope_dtype);
    return (product_types){low ? scope_dtype : matmul_precision, scope_dtype};
}

torc_dtype autocast_sum(torc_dtype dtype)
{
    return dtype_is_low(dtype) && dtype_is_low(scope_dtype) ? TORC_F32 : dtype;
}

/* What a module or the user holds, and no op made, is asked for again and again. */
static bool is_master(const tensor *t)
{
    return t->owner == OWNER_USER && tape_is_leaf(t) && t->dtype == TORC_F32;
}

tensor *autocast_operand(const call *c, tensor *t, torc_dtype dtype)
{
    if (t->dtype == dtype)
        return t;
    /* One copy is kept: who also needs the other dtype gets that from the tape. */
    bool master = is_master(t) && dtype_is_low(dtype) && (!t->low || t->low->dtype == dtype);
    if (master && t->low && t->low_written == tensor_changes())
        return t->low;
    tensor *copy = master ? t->low : NULL;
    if (!copy)
        copy = tensor_create_like(c, t, dtype, master ? OWNER_HOUSE : OWNER_TAPE);
    kernels_here()->copy(copy, t);
    if (master) {
        t->low = copy;
        t->low_written = tensor_changes();
    }
    return copy;
}

void autocast_drop(tensor *copy, const tensor *given)
{
    if (copy != given && copy->owner == OWNER_TAPE)
        tensor_empty(copy);
}

void autocast_meet(const call *c, torc_tensor **a, torc_tensor **b)
{
    torc_dtype of_a = tensor_of(c, *a)->dtype, of_b = tensor_of(c, *b)->dtype;
    if (scope_dtype == TORC_F32 || of_a == of_b)
        return;
    if (dtype_is_low(of_a) && of_b == TORC_F32)
        *a = torc_to(c->at, *a, TORC_F32);
    if (of_a == TORC_F32 && dtype_is_low(of_b))
        *b = torc_to(c->at, *b, TORC_F32);
}

static bool is_f32_or(torc_dtype low, const tensor *t)
{
    return t->dtype == TORC_F32 || t->dtype == low;
}

bool autocast_mixes(const tensor *a, const tensor *b)
{
    return dtype_is_low(scope_dtype) && is_f32_or(scope_dtype, a) && is_f32_or(scope_dtype, b);
}
