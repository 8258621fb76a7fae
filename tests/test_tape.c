/* The tape: accumulation, sharing, lifetimes, what is refused, and no allocation after the first
 * step. */
#include "core/torc.h"

#include "core/tape.h"
#include "tests/harness.h"

#include <malloc.h>

static torc_tensor *leaf(float value)
{
    return torc_tensor_new(TORC_SHAPE(1), .data = &value, .requires_grad = true);
}

static double grad_of(torc_tensor *t)
{
    return torc_item(torc_grad(t));
}

/* ---- gradients ---- */

TEST(contributions_add_up)
{
    torc_tensor *x = leaf(3);
    torc_tensor *y = torc_mul(x, x);              /* x^2 */
    torc_tensor *z = torc_add(torc_add(y, x), y); /* 2 x^2 + x */
    torc_backward(z);
    CHECK_NEAR(grad_of(x), 4 * 3 + 1, 0);
}

TEST(backward_calls_accumulate)
{
    torc_tensor *x = leaf(2);
    for (int i = 0; i < 3; i++)
        torc_backward(torc_mul(x, x));
    CHECK_NEAR(grad_of(x), 12, 0);
    torc_zero_grad_of(x);
    CHECK_NEAR(grad_of(x), 0, 0);
    torc_backward(torc_mul_scalar(x, 5));
    CHECK_NEAR(grad_of(x), 5, 0);
}

TEST(a_residual_shares_its_gradient_safely)
{
    torc_tensor *x = leaf(0.5f);
    torc_tensor *h = torc_mul_scalar(x, 1);
    for (int i = 0; i < 3; i++) /* h + h^2: derivative 1 + 2 h each time */
        h = torc_add(h, torc_mul(h, h));
    torc_backward(h);
    double expected = 1, v = 0.5;
    for (int i = 0; i < 3; i++) {
        expected *= 1 + 2 * v;
        v += v * v;
    }
    CHECK_NEAR(grad_of(x), expected, 1e-6);
}

TEST(two_losses_of_one_tape)
{
    torc_tensor *x = leaf(2), *w = leaf(3);
    torc_tensor *first = torc_mul(x, w), *second = torc_mul(w, w);
    torc_backward(first);
    torc_backward(second);
    CHECK_NEAR(grad_of(x), 3, 0);
    CHECK_NEAR(grad_of(w), 2 + 6, 0);
}

TEST(no_grad_records_nothing)
{
    torc_tensor *x = leaf(2), *y = NULL;
    TORC_NO_GRAD
    {
        y = torc_mul(x, x);
    }
    CHECK(!torc_requires_grad(y));
    for (int i = 0; i < 1; i++)
        TORC_NO_GRAD
        {
            break; /* leaving early leaves the scope */
        }
    CHECK(torc_requires_grad(torc_mul(x, x)));
}

TEST(a_detached_branch_gets_nothing)
{
    torc_tensor *x = leaf(2);
    torc_backward(torc_mul(x, torc_detach(x)));
    CHECK_NEAR(grad_of(x), 2, 0);
}

TEST(before_any_backward_there_is_no_gradient)
{
    CHECK(torc_grad(leaf(1)) == NULL);
}

/* ---- lifetimes ---- */

TEST(a_kept_tensor_outlives_its_step)
{
    torc_tensor *x = leaf(2), *y = torc_keep(torc_mul(x, x));
    torc_tape_clear();
    CHECK_NEAR(torc_item(y), 4, 0);
    CHECK(!torc_requires_grad(y)); /* its history is gone */
    torc_tensor_free(y);
}

TEST(an_input_may_be_freed_before_backward)
{
    torc_tensor *x = leaf(3), *two = torc_tensor_new(TORC_SHAPE(1), .data = (float[]){2});
    torc_tensor *y = torc_mul(x, two);
    torc_tensor_free(two);
    torc_backward(y);
    CHECK_NEAR(grad_of(x), 2, 0);
}

TEST_DIES(use_after_clearing_tells_the_three_lines, 1,
          "torc_item: this tensor is gone: made at test_tape.c:119, cleared at test_tape.c:120")
{
    torc_tensor *y = torc_ones(TORC_SHAPE(1));
    torc_tape_clear();
    torc_item(y);
}

TEST_DIES(many_steps_later_the_lines_are_still_known, 1, "made at test_tape.c:128, cleared at")
{
    torc_tensor *kept[50];
    for (int step = 0; step < 50; step++) {
        kept[step] = torc_ones(TORC_SHAPE(1));
        torc_tape_clear();
    }
    torc_item(kept[3]);
}

TEST_DIES(a_freed_tensor_is_gone, 1, "this tensor is gone")
{
    torc_tensor *x = leaf(1);
    torc_tensor_free(x);
    torc_item(x);
}

TEST_DIES(the_tape_frees_its_own, 1, "not yours to free")
{
    torc_tensor_free(torc_ones(TORC_SHAPE(1)));
}

TEST_DIES(null_is_no_tensor, 1, "test_tape.c:148: torc_item: expected a tensor, found NULL")
{
    torc_item(NULL);
}

/* ---- refused ---- */

TEST_DIES(a_second_backward, 1, "used up by the backward at test_tape.c:156")
{
    torc_tensor *x = leaf(1), *y = torc_mul(x, x);
    torc_backward(y);
    torc_backward(y);
}

TEST_DIES(backward_through_a_used_part, 1, "a second one needs a second forward pass")
{
    torc_tensor *x = leaf(1), *y = torc_mul(x, x);
    torc_backward(torc_mul_scalar(y, 2));
    torc_backward(torc_mul_scalar(y, 3));
}

TEST_DIES(a_loss_has_one_element, 1, "expected a loss of one element, found [32, 10]")
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(32, 10), .requires_grad = true);
    torc_backward(torc_relu(x));
}

TEST_DIES(a_gradient_of_a_gradient, 1, "depends on nothing that requires a gradient")
{
    torc_tensor *x = leaf(1);
    torc_backward(torc_mul(x, x));
    torc_backward(torc_mul(torc_grad(x), torc_grad(x)));
}

/* ---- a loop of equal steps ---- */

static void step(torc_tensor *w, torc_tensor *v)
{
    torc_tensor *x = torc_rand(TORC_SHAPE(16, 8));
    torc_tensor *h = torc_relu(torc_matmul(x, w));
    torc_tensor *parts[2];
    torc_split(h, 8, 1, 2, parts);
    torc_tensor *y = torc_softmax(torc_matmul(torc_cat(1, parts[1], parts[0]), v), 1);
    torc_backward(torc_mean(torc_mul(y, y)));
    torc_tape_clear();
}

/* Bytes of the C library's heap in use. */
static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* The C library keeps up to 7 freed pieces of a size at hand, and counts them as used. */
enum { STEPS_BEFORE = 8 };

TEST(equal_steps_allocate_nothing)
{
    torc_tensor *w = torc_tensor_new(TORC_SHAPE(8, 16), .requires_grad = true);
    torc_tensor *v = torc_tensor_new(TORC_SHAPE(16, 4), .requires_grad = true);
    torc_init_normal(w, 0, 1);
    torc_init_normal(v, 0, 1);
    for (int i = 0; i < STEPS_BEFORE; i++)
        step(w, v);
    int64_t before = torc_memory().allocations;
    size_t heap = heap_in_use();
    for (int i = 0; i < 100; i++)
        step(w, v);
    CHECK_INT(torc_memory().allocations, before);
    CHECK_INT(heap_in_use(), heap);
}

/* ---- hooks ---- */

typedef struct recorder {
    tape_hook hook;
    int64_t order[8];
    int ready, polls, ends;
    double weight;
} recorder;

static void on_begin(tape_hook *h, torc_site at, double weight)
{
    (void)at;
    ((recorder *)h)->weight = weight;
}

static void on_ready(tape_hook *h, tensor *p)
{
    recorder *r = (recorder *)h;
    r->order[r->ready++] = p->hook_index;
}

static void on_poll(tape_hook *h)
{
    ((recorder *)h)->polls++;
}

static void on_end(tape_hook *h, torc_site at)
{
    (void)at;
    ((recorder *)h)->ends++;
}

TEST(hooks_hear_when_gradients_are_final)
{
    recorder r = {.hook = {.begin = on_begin, .ready = on_ready, .poll = on_poll, .end = on_end}};
    torc_tensor *p[3];
    const call c = {TORC_HERE, "test"};
    for (int i = 0; i < 3; i++) {
        p[i] = leaf(1.0f + (float)i);
        tensor_of(&c, p[i])->hook = &r.hook;
        tensor_of(&c, p[i])->hook_index = i;
    }
    tape_attach(&r.hook);
    torc_tensor *h = torc_mul(p[0], p[1]); /* p[2] takes no part; p[0] is used twice */
    torc_tensor *loss = torc_mul(h, p[0]);
    torc_set_weight(loss, 5);
    torc_backward(loss);
    tape_detach(&r.hook);
    CHECK_INT(r.ready, 2);
    CHECK_INT(r.polls, 2);
    CHECK_INT(r.ends, 1);
    CHECK_NEAR(r.weight, 5, 0);
    CHECK_NEAR(grad_of(p[1]), 5 * 1, 0); /* multiplied by the weight */
    CHECK_NEAR(grad_of(p[0]), 5 * 2 * 1 * 2, 0);
}
