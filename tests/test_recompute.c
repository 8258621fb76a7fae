/*
 * torc_recompute() of a function: the same bits as without, whatever it reads and gives; parameters
 * ready one by one; less memory; what is refused. (test_recompute_layer.c: of layers.)
 *
 * The reference of most cases is the same function without recomputing.
 */
#include "core/torc.h"

#include "core/tape.h"
#include "tests/harness.h"
#include "tests/values.h"

/* ---- functions ---- */

/* Reads what it is given, and w through its context: w tanh(a b) + a. */
static torc_tensor *mixed(torc_tensor *const *in, void *w)
{
    torc_tensor *h = torc_tanh(torc_mul(in[0], in[1]));
    return torc_add(torc_mul(w, h), in[0]);
}

static torc_tensor *twice(torc_tensor *const *in, void *w)
{
    torc_tensor *y = torc_recompute(mixed, w, 2, in);
    return torc_recompute(mixed, w, 2, ((torc_tensor *[]){y, in[1]}));
}

/* in: a, b, w. w is used inside, outside, and between. */
static torc_tensor *shared(torc_tensor *const *in, void *nested)
{
    torc_tensor *w = in[2];
    torc_tensor *y = torc_recompute(nested ? twice : mixed, w, 2, in);
    y = torc_mul(y, torc_exp(w));
    y = torc_recompute(mixed, w, 2, ((torc_tensor *[]){y, in[1]}));
    return torc_sum(torc_mul(y, w));
}

static torc_tensor *shared_plain(torc_tensor *const *in, void *nested)
{
    torc_tensor *w = in[2], *y = mixed(in, w);
    if (nested)
        y = mixed((torc_tensor *[]){y, in[1]}, w);
    y = torc_mul(y, torc_exp(w));
    y = mixed((torc_tensor *[]){y, in[1]}, w);
    return torc_sum(torc_mul(y, w));
}

static void check_function(void *nested)
{
    torc_tensor *in[2][3];
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 3; j++)
            in[i][j] = torc_keep(values_of(TORC_SHAPE(5)));
        torc_backward((i ? shared : shared_plain)(in[i], nested));
    }
    for (int j = 0; j < 3; j++)
        CHECK(same_bits(torc_grad(in[0][j]), torc_grad(in[1][j])));
}

TEST(a_parameter_used_inside_and_outside)
{
    check_function(NULL);
}

TEST(a_parameter_used_on_two_levels)
{
    check_function("");
}

TEST(gradients_agree_with_differences)
{
    torc_tensor *in[3];
    for (int j = 0; j < 3; j++) {
        double v[] = {0.3 + j, -0.7, 0.2 * j, 1.1};
        in[j] = torc_tensor_new(TORC_SHAPE(4), .dtype = TORC_F64, .data = v, .requires_grad = true);
    }
    char worst[256];
    for (int nested = 0; nested < 2; nested++) {
        double off = torc_gradcheck(shared, nested ? "" : NULL, 3, in, worst, sizeof worst);
        test_check(off <= 1e-7, __FILE__, __LINE__, "off by %g at %s", off, worst);
    }
}

/* ---- results of every kind ---- */

static torc_tensor *turn(torc_tensor *const *in, void *context)
{
    (void)context;
    return torc_transpose(in[0], 0, 1);
}

static torc_tensor *first(torc_tensor *const *in, void *context)
{
    (void)context;
    torc_mul(in[0], in[1]); /* nobody wants it */
    return in[0];
}

static torc_tensor *constant(torc_tensor *const *in, void *context)
{
    (void)in, (void)context;
    return torc_full(TORC_SHAPE(2), 3);
}

TEST(a_result_that_is_a_view_of_an_input)
{
    torc_tensor *x = values_of(TORC_SHAPE(3, 4));
    torc_tensor *y = torc_recompute(turn, NULL, 1, &x);
    CHECK(torc_data(torc_transpose(y, 0, 1)) == torc_data(x));
    torc_backward(torc_sum(torc_mul(y, y)));
    CHECK(same_bits(torc_grad(x), torc_mul_scalar(x, 2)));
}

TEST(a_result_that_is_an_input)
{
    torc_tensor *in[] = {values_of(TORC_SHAPE(3)), values_of(TORC_SHAPE(3))};
    CHECK(torc_recompute(first, NULL, 2, in) == in[0]);
    torc_backward(torc_sum(torc_recompute(first, NULL, 2, in)));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(in[0]))), 3, 0);
    CHECK(torc_grad(in[1]) == NULL);
}

TEST(a_result_without_a_gradient)
{
    torc_tensor *y = torc_recompute(constant, NULL, 0, NULL);
    CHECK(!torc_requires_grad(y));
    CHECK_NEAR(torc_item(torc_sum(y)), 6, 0);
}

TEST(without_recording_it_is_a_call)
{
    torc_tensor *in[] = {values_of(TORC_SHAPE(3)), values_of(TORC_SHAPE(3))}, *y = NULL;
    TORC_NO_GRAD y = torc_recompute(mixed, in[0], 2, in);
    CHECK(!torc_requires_grad(y));
    CHECK(same_bits(y, mixed(in, in[0])));
}

TEST(backward_may_run_where_nothing_is_recorded)
{
    torc_tensor *in[] = {values_of(TORC_SHAPE(3)), values_of(TORC_SHAPE(3))};
    torc_tensor *y = torc_sum(torc_recompute(mixed, in[0], 2, in));
    TORC_NO_GRAD
    {
        torc_backward(y);
        CHECK(!torc_requires_grad(torc_mul(in[0], in[1])));
    }
    torc_tensor *a = torc_keep(torc_grad(in[1])), *other[] = {values_of(TORC_SHAPE(3)), in[1]};
    double sum = torc_item(torc_sum(a));
    torc_zero_grad_of(in[1]);
    torc_backward(torc_sum(mixed(other, other[0])));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(in[1]))), sum, 0);
}

/* Keeps what is between, for a look at it. */
static torc_tensor *keeping(torc_tensor *const *in, void *kept)
{
    torc_tensor *h = torc_mul(in[0], in[0]);
    if (!torc_is_recomputing())
        *(torc_tensor **)kept = torc_keep(h);
    return torc_mul(h, in[0]);
}

TEST(what_is_kept_inside_is_a_plain_value)
{
    torc_tensor *x = values_of(TORC_SHAPE(2)), *kept = NULL;
    torc_backward(torc_sum(torc_recompute(keeping, &kept, 1, &x)));
    CHECK(same_bits(kept, torc_mul(x, x)));
    CHECK(!torc_requires_grad(kept));
    CHECK_NEAR(torc_item(torc_slice(torc_grad(x), 0, 0, 1, 1)), 3, 0); /* 3 x^2 at -1 */
}

/* ---- hooks ---- */

typedef struct recorder {
    tape_hook hook;
    int64_t order[8];
    int ready, polls;
} recorder;

static void on_begin(tape_hook *h, torc_site at, double weight)
{
    (void)h, (void)at, (void)weight;
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
    (void)h, (void)at;
}

/* in[0] * p2 * p1 * p0 */
static torc_tensor *three(torc_tensor *const *in, void *p)
{
    torc_tensor **parameter = p, *y = in[0];
    for (int i = 2; i >= 0; i--)
        y = torc_mul(y, parameter[i]);
    return y;
}

TEST(each_parameter_is_ready_with_its_last_contribution)
{
    recorder r = {.hook = {.begin = on_begin, .ready = on_ready, .poll = on_poll, .end = on_end}};
    torc_tensor *p[4];
    const call c = {TORC_HERE, "test"};
    for (int i = 0; i < 4; i++) {
        p[i] = torc_keep(values_of(TORC_SHAPE(1)));
        tensor_of(&c, p[i])->hook = &r.hook;
        tensor_of(&c, p[i])->hook_index = i;
    }
    tape_attach(&r.hook);
    torc_tensor *x = torc_mul(p[3], p[1]); /* p1 is read before the block too: ready at the end */
    torc_backward(torc_mul(torc_recompute(three, p, 1, &x), p[3]));
    tape_detach(&r.hook);
    CHECK_INT(r.ready, 4);
    static const int64_t expected[] = {0, 2, 3, 1};
    for (int i = 0; i < 4; i++)
        CHECK_INT(r.order[i], expected[i]);
    CHECK_INT(r.polls, 3 + 3 + 3); /* nodes of the tape, nodes of the block, ops run again */
}

/* ---- memory ---- */

static torc_tensor *hidden(torc_tensor *const *in, void *unused)
{
    (void)unused;
    torc_tensor *h = in[0];
    for (int i = 0; i < 4; i++)
        h = torc_gelu(torc_mul_scalar(h, 1.01));
    return h;
}

static void deep_step(torc_tensor *x, bool recompute)
{
    torc_tensor *y = x;
    for (int i = 0; i < 8; i++)
        y = recompute ? torc_recompute(hidden, NULL, 1, &y) : hidden(&y, NULL);
    torc_backward(torc_sum(y));
    torc_tape_clear();
}

TEST(eight_blocks_take_less_than_half)
{
    torc_tensor *x = values_of(TORC_SHAPE(64, 1024));
    deep_step(x, true);
    size_t peak = torc_memory().peak_bytes;
    deep_step(x, false);
    CHECK(2 * peak < torc_memory().peak_bytes);
}

/* ---- refused ---- */

TEST_DIES(a_function_is_needed, 1, "torc_recompute: expected a function and its inputs, found NULL")
{
    torc_recompute(NULL, NULL, 0, NULL);
}

static torc_tensor *nothing(torc_tensor *const *in, void *context)
{
    (void)in, (void)context;
    return NULL;
}

TEST_DIES(a_result_is_needed, 1, "expected a tensor from the function, found NULL")
{
    torc_recompute(nothing, NULL, 0, NULL);
}

typedef struct change { /* what a function does otherwise in its second run */
    bool more, draw, shape;
    torc_tensor *other;
} change;

static torc_tensor *fickle(torc_tensor *const *in, void *context)
{
    const change *k = context;
    bool again = torc_is_recomputing();
    torc_tensor *y = torc_mul(in[0], again && k->other ? k->other : in[0]);
    if (k->draw && again)
        torc_rand(TORC_SCALAR);
    if (k->more && again)
        y = torc_exp(y);
    return k->shape && again ? torc_reshape(y, TORC_SHAPE(2, 1)) : torc_reshape(y, TORC_SHAPE(2));
}

static void run_fickle(change k)
{
    torc_tensor *x = values_of(TORC_SHAPE(2));
    torc_backward(torc_sum(torc_recompute(fickle, &k, 1, &x)));
}

TEST_DIES(more_ops_the_second_time, 1, "found 2 ops in forward and 3 when it ran again")
{
    run_fickle((change){.more = true});
}

TEST_DIES(another_shape_the_second_time, 1, "found float32 [2] in forward and float32 [2, 1] when")
{
    run_fickle((change){.shape = true});
}

TEST_DIES(more_draws_the_second_time, 1, "a function that draws the same random numbers twice")
{
    run_fickle((change){.draw = true});
}

TEST_DIES(another_tensor_the_second_time, 1, "a function that reads the same tensors twice")
{
    run_fickle((change){.other = values_of(TORC_SHAPE(2))});
}

static torc_tensor *stray;

static torc_tensor *leaking(torc_tensor *const *in, void *context)
{
    (void)context;
    stray = torc_mul(in[0], in[0]);
    return torc_exp(stray);
}

TEST_DIES(what_it_made_is_gone, 1, "torc_item: this tensor is gone: made at test_recompute.c:")
{
    torc_tensor *x = values_of(TORC_SHAPE(1));
    torc_recompute(leaking, NULL, 1, &x);
    torc_item(stray);
}

TEST_DIES(an_input_that_went_before_backward, 1, "torc_mul: this tensor is gone: made at")
{
    torc_tensor *x = values_of(TORC_SHAPE(1));
    torc_tensor *y = torc_recompute(leaking, NULL, 1, &x);
    torc_tensor_free(x);
    torc_backward(y);
}

static torc_tensor *clearing(torc_tensor *const *in, void *context)
{
    (void)context;
    torc_tape_clear();
    return in[0];
}

TEST_DIES(clearing_inside, 1, "torc_tape_clear: not inside the function of a torc_recompute()")
{
    torc_tensor *x = values_of(TORC_SHAPE(1));
    torc_recompute(clearing, NULL, 1, &x);
}

static torc_tensor *differentiating(torc_tensor *const *in, void *context)
{
    (void)context;
    torc_backward(torc_mul(in[0], in[0]));
    return in[0];
}

TEST_DIES(backward_inside, 1, "torc_backward: not inside the function of a torc_recompute()")
{
    torc_tensor *x = values_of(TORC_SHAPE(1));
    torc_recompute(differentiating, NULL, 1, &x);
}

TEST_DIES(a_second_backward, 1, "the tape was used up by the backward at test_recompute.c:")
{
    torc_tensor *x = values_of(TORC_SHAPE(1)), *y = torc_recompute(leaking, NULL, 1, &x);
    torc_backward(y);
    torc_backward(y);
}
