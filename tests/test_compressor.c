/*
 * A compressor in torc_ddp(): that one which compresses nothing has the numbers of plain
 * torc_ddp(), whatever the shares; what it is given; and what is refused.
 */
#include "core/torc.h"

#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 6, HIDDEN = 5, OUT = 3, BATCH = 11 };

static void start(void)
{
    setenv("TORC_SMALL_LIMITS", "1", 1);
    torc_init(NULL, NULL);
}

static int64_t elements(torc_shape shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape.ndim; i++)
        n *= shape.dim[i];
    return n;
}

/* ---- the hook: a compressor that compresses nothing ---- */

typedef struct seen {
    int calls, gradients;
    char first[32];
} seen;

static void identity(torc_module *net, torc_gradient *gradients, int n, void *context)
{
    seen *s = context;
    s->calls++;
    s->gradients = n;
    snprintf(s->first, sizeof s->first, "%s", gradients[0].name);
    for (int i = 0; i < n; i++)
        torc_ddp_mean(net, gradients[i].values, elements(gradients[i].shape));
}

static torc_module *network(void)
{
    torc_seed(1);
    return torc_sequential(torc_linear(IN, HIDDEN), torc_relu_layer(), torc_linear(HIDDEN, HIDDEN),
                           torc_relu_layer(), torc_linear(HIDDEN, OUT));
}

/* Backward on samples first .. end - 1 of a fixed batch. */
static void backward(torc_module *net, int first, int end)
{
    float v[BATCH * IN + 1] = {0};
    int64_t label[BATCH + 1] = {0}, n = end - first;
    for (int i = 0; i < n * IN; i++)
        v[i] = (float)((i + first * IN) * 37 % 23) / 11 - 1;
    for (int i = 0; i < n; i++)
        label[i] = (i + first) * 5 % OUT;
    torc_tensor *x = torc_zeros(TORC_SHAPE(n, IN)),
                *y = torc_zeros(TORC_SHAPE(n), .dtype = TORC_I64);
    torc_write(x, TORC_F32, v, n * IN);
    torc_write(y, TORC_I64, label, n);
    torc_backward(torc_cross_entropy(torc_forward(net, x), y));
}

static int share(int rank, int total)
{
    return total * rank / torc_world_size();
}

static void compare_gradients(torc_module *a, torc_module *b)
{
    for (int64_t i = 0; i < torc_parameter_count(a); i++) {
        float x[64], y[64];
        torc_tensor *p = torc_parameter_at(a, i, NULL), *q = torc_parameter_at(b, i, NULL);
        int64_t n = torc_numel(p);
        torc_read(torc_grad(p), TORC_F32, x, n);
        torc_read(torc_grad(q), TORC_F32, y, n);
        for (int64_t j = 0; j < n; j++) {
            CHECK_NEAR(x[j], y[j], 1e-6);
            CHECK_NEAR(torc_max_over_ranks(x[j]), x[j], 0); /* the same bits on every rank */
        }
    }
}

/* `total` samples dealt over the ranks: by identity as by nobody. */
static void check_identity(int total)
{
    start();
    seen s = {0};
    torc_module *plain = torc_ddp(network());
    torc_module *net = torc_ddp(network(), .compressor = identity, .compressor_context = &s);
    int first = share(torc_rank(), total), end = share(torc_rank() + 1, total);
    for (int i = 0; i < 3; i++) {
        torc_zero_grad(plain);
        torc_zero_grad(net);
        backward(plain, first, end);
        backward(net, first, end);
        compare_gradients(net, plain);
        CHECK(torc_item(torc_sum(torc_abs(torc_grad(torc_parameter_at(net, 0, NULL))))) > 0);
        torc_tape_clear();
    }
    CHECK_INT(s.calls, 3);
    CHECK_INT(s.gradients, 6);
    CHECK_TEXT(s.first, "0.weight");
    CHECK_NEAR(torc_ddp_statistics(net).bytes, 3.0 * 4 * (double)torc_parameter_elements(net), 0);
    torc_finalize();
}

TEST(identity_alone)
{
    check_identity(BATCH);
}

TEST_RANKS(identity_of_uneven_shares, 2)
{
    check_identity(BATCH);
}

TEST_RANKS(identity_on_three, 3)
{
    check_identity(BATCH);
}

TEST_RANKS(identity_with_empty_shares, 3)
{
    check_identity(1);
}

TEST_RANKS(identity_on_two_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_identity(2);
}

TEST_RANKS(identity_without_shared_memory, 2)
{
    setenv("TORC_SHM", "private", 1);
    check_identity(BATCH);
}

TEST_RANKS(accumulation_calls_it_once, 2)
{
    start();
    seen s = {0};
    torc_module *plain = torc_ddp(network());
    torc_module *net = torc_ddp(network(), .compressor = identity, .compressor_context = &s);
    torc_module *const both[] = {plain, net};
    const int cut[] = {0, 2, 5, 8, BATCH};
    for (int i = 0; i < 2; i++) {
        TORC_NO_SYNC(both[i])
        {
            backward(both[i], cut[2 * torc_rank()], cut[2 * torc_rank() + 1]);
        }
        CHECK_INT(s.calls, 0);
        backward(both[i], cut[2 * torc_rank() + 1], cut[2 * torc_rank() + 2]);
        backward(both[i], 0, 3); /* one mean more is added to the first */
    }
    CHECK_INT(s.calls, 2);
    compare_gradients(net, plain);
    torc_finalize();
}

TEST_RANKS(parameters_without_a_part_are_zeros, 2)
{
    start();
    seen s = {0};
    torc_module *used = torc_linear(IN, OUT), *unused = torc_linear(IN, OUT);
    torc_module *both = torc_sequential(used, unused);
    both = torc_ddp(both, .compressor = identity, .compressor_context = &s);
    backward(used, 0, 4);
    torc_tensor *g = torc_grad(torc_parameter_named(both, "1.weight"));
    CHECK(g && torc_item(torc_sum(torc_abs(g))) == 0);
    CHECK_INT(s.gradients, 4);
    torc_finalize();
}

TEST_RANKS(running_statistics_follow, 3)
{
    start();
    seen s = {0};
    torc_module *net = torc_sequential(torc_conv2d(1, 2, 1), torc_batch_norm2d(2));
    net = torc_ddp(net, .compressor = identity, .compressor_context = &s);
    torc_tensor *x = torc_add_scalar(torc_rand(TORC_SHAPE(4, 1, 3, 3)), torc_rank());
    torc_backward(torc_mean(torc_forward(net, x)));
    CHECK(torc_replicas_agree(net));
    torc_finalize();
}

/* ---- torc_ddp_mean() ---- */

enum { MANY = 5000 }; /* more than the window of a small net holds: it goes in pieces */

static void mean_of_many(torc_module *net, torc_gradient *gradients, int n, void *context)
{
    float *values = context, before = gradients[0].values[0];
    torc_ddp_mean(net, values, MANY);
    torc_ddp_mean(net, NULL, 0);
    CHECK(n == 2 && gradients[0].values[0] == before); /* the gradients are elsewhere */
}

TEST_RANKS(means_go_in_pieces, 3)
{
    start();
    float values[MANY];
    for (int i = 0; i < MANY; i++)
        values[i] = (float)(i + 3 * torc_rank());
    torc_module *net =
        torc_ddp(torc_linear(IN, OUT), .compressor = mean_of_many, .compressor_context = values);
    backward(net, 0, 3);
    for (int i = 0; i < MANY; i++)
        CHECK_NEAR(values[i], i + 3, 1e-6); /* of i, i + 3 and i + 6 */
    torc_finalize();
}

/* ---- refused ---- */

TEST_DIES(not_with_virtual_ranks, 1, "expected .compressor or .virtual_ranks, found both")
{
    start();
    torc_ddp(network(), .compressor = identity, .virtual_ranks = 2);
}

TEST_DIES(not_with_shard_optimizer, 1, "expected .compressor or .shard_optimizer, found both")
{
    start();
    torc_ddp(network(), .compressor = identity, .shard_optimizer = true);
}

TEST_DIES(not_with_compress, 1, "expected .compressor or .compress, found both")
{
    start();
    torc_ddp(network(), .compressor = identity, .compress = TORC_BF16);
}

static torc_tensor *pass_on(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

TEST_DIES(not_with_float64, 1, "expected float32 parameters, found wide, which is float64")
{
    start();
    torc_module *m = torc_module_new("Wide", pass_on, 0);
    torc_parameter(m, "wide", torc_zeros(TORC_SHAPE(2, 2), .dtype = TORC_F64));
    torc_ddp(m, .compressor = identity);
}

TEST_DIES(a_mean_needs_a_compressor, 1, "torc_ddp_mean: expected a module with a .compressor")
{
    start();
    float value = 1;
    torc_ddp_mean(torc_ddp(network()), &value, 1);
}

static void other_numbers(torc_module *net, torc_gradient *gradients, int n, void *context)
{
    (void)n, (void)context;
    torc_ddp_mean(net, gradients[0].values, 1 + torc_rank());
}

TEST_RANKS_DIE(ranks_must_ask_alike, 2, 1, "mean in a compressor")
{
    start();
    torc_module *net = torc_ddp(network(), .compressor = other_numbers);
    backward(net, 0, 3);
}

static void stays_away(torc_module *net, torc_gradient *gradients, int n, void *context)
{
    (void)n, (void)context;
    for (double end = torc_seconds() + 10; torc_rank() == 1 && torc_seconds() < end;)
        ; /* computes for ever */
    torc_ddp_mean(net, gradients[0].values, 1);
}

TEST_RANKS_DIE(a_rank_that_stays_away, 2, 124, "mean in a compressor")
{
    setenv("TORC_TIMEOUT", "1", 1);
    start();
    torc_module *net = torc_ddp(network(), .compressor = stays_away);
    backward(net, 0, 3);
}
