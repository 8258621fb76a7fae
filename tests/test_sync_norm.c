/*
 * Synchronised batch norm: ranks with uneven and with empty shares get what one process gets from
 * plain batch norm of the whole batch.
 *
 * The reference of every case is that one process: each rank computes it for itself.
 */
#include "core/torc.h"

#include "tests/harness.h"
#include "tests/values.h"

enum { CHANNELS = 3, BATCH = 7, ROOM = BATCH * 16 };

/* ---- the batch, and who has which of its samples ---- */

enum { EVEN, GROWING, LAST_EMPTY, WAYS };

/* The first sample of a rank; that of the rank behind it is its end. */
static int cut(int rank, int way)
{
    int world = torc_world_size();
    if (way == GROWING) /* among 3: nothing, 3 samples, 4 samples */
        return BATCH * rank * rank / (world * world);
    if (way == LAST_EMPTY)
        return BATCH * (rank < world - 1 ? rank : world - 1) / (world - 1);
    return BATCH * rank / world;
}

/* Samples first .. end - 1 of a fixed batch in which every channel has a mean of its own. */
static torc_tensor *samples(torc_dtype dtype, torc_shape of_all, int first, int end, double offset)
{
    int64_t size = of_all.dim[1], places = 1;
    for (int d = 2; d < of_all.ndim; d++)
        places *= of_all.dim[d];
    double values[ROOM + 1];
    for (int64_t i = 0; i < (end - first) * size * places; i++) {
        int64_t at = first * size * places + i;
        values[i] = (double)(at * at % 23) / 11 - 1 + offset * (double)(1 + at / places % size);
    }
    of_all.dim[0] = end - first;
    torc_tensor *x = torc_keep(torc_zeros(of_all, .dtype = dtype));
    torc_write(x, TORC_F64, values, torc_numel(x));
    torc_set_requires_grad(x, true);
    return x;
}

static void compare(torc_tensor *found, torc_tensor *expected, double tolerance)
{
    double a[ROOM], b[ROOM];
    torc_read(found, TORC_F64, a, torc_numel(found));
    torc_read(expected, TORC_F64, b, torc_numel(found));
    for (int64_t i = 0; i < torc_numel(found); i++)
        CHECK_NEAR(a[i], b[i], tolerance);
}

/* ---- the op, in f64 ---- */

typedef torc_tensor *(*norm_op)(torc_site at, torc_tensor *x, torc_tensor *w, torc_tensor *b,
                                torc_tensor *mean, torc_tensor *var, bool training, double momentum,
                                double eps);

typedef struct outcome {
    torc_tensor *y, *x, *w, *b, *mean, *var;
} outcome;

/* Forward, and backward of sum(y g) with a fixed g, over samples first .. end - 1. */
static outcome run(norm_op op, torc_dtype dtype, torc_shape of_all, int first, int end,
                   double offset)
{
    torc_shape channels = TORC_SHAPE(CHANNELS);
    outcome o = {.x = samples(dtype, of_all, first, end, offset)};
    o.w = torc_keep(torc_add_scalar(torc_arange(CHANNELS, .dtype = dtype), 0.5));
    o.b = torc_keep(torc_arange(CHANNELS, .dtype = dtype));
    torc_set_requires_grad(o.w, true);
    torc_set_requires_grad(o.b, true);
    o.mean = torc_zeros(channels, .dtype = dtype);
    o.var = torc_ones(channels, .dtype = dtype);
    o.y = op(TORC_HERE, o.x, o.w, o.b, o.mean, o.var, true, 0.1, 0);
    torc_tensor *g = samples(dtype, of_all, first, end, 0.3);
    torc_backward(torc_sum(torc_mul(o.y, torc_mul(torc_detach(g), torc_detach(g)))));
    return o;
}

/* The gradient of a weight is this rank's part of the sum. */
static void compare_sum(torc_tensor *part, torc_tensor *whole)
{
    double a[CHANNELS], b[CHANNELS];
    torc_read(part, TORC_F64, a, CHANNELS);
    torc_read(whole, TORC_F64, b, CHANNELS);
    for (int c = 0; c < CHANNELS; c++)
        CHECK_NEAR(torc_sum_over_ranks(a[c]), b[c], 1e-12);
}

static void check_op(torc_shape of_all, int way)
{
    int first = cut(torc_rank(), way), end = cut(torc_rank() + 1, way);
    outcome part = run(torc_sync_batch_norm_op, TORC_F64, of_all, first, end, 1);
    outcome whole = run(torc_batch_norm_op, TORC_F64, of_all, 0, BATCH, 1);
    compare(part.y, torc_slice(whole.y, 0, first, end, 1), 1e-12);
    compare(torc_grad(part.x), torc_slice(torc_grad(whole.x), 0, first, end, 1), 1e-12);
    compare_sum(torc_grad(part.w), torc_grad(whole.w));
    compare_sum(torc_grad(part.b), torc_grad(whole.b));
    compare(part.mean, whole.mean, 1e-14);
    compare(part.var, whole.var, 1e-14);
    torc_tape_clear();
}

static void check_ways(void)
{
    torc_init(NULL, NULL);
    for (int way = 0; way < WAYS; way++) {
        check_op(TORC_SHAPE(BATCH, CHANNELS), way);
        check_op(TORC_SHAPE(BATCH, CHANNELS, 2, 2), way);
    }
    torc_finalize();
}

TEST_RANKS(two_ranks_are_one, 2)
{
    check_ways();
}

TEST_RANKS(three_ranks_are_one, 3)
{
    check_ways();
}

/* Means of a million spreads and more: the difference of squares would keep 4 digits of var. */
TEST_RANKS(large_means_cost_no_digits, 3)
{
    torc_init(NULL, NULL);
    torc_shape of_all = TORC_SHAPE(BATCH, CHANNELS, 2, 2);
    int first = cut(torc_rank(), GROWING), end = cut(torc_rank() + 1, GROWING);
    outcome part = run(torc_sync_batch_norm_op, TORC_F64, of_all, first, end, 1e6);
    outcome whole = run(torc_batch_norm_op, TORC_F64, of_all, 0, BATCH, 1e6);
    compare(part.var, whole.var, 1e-13);
    compare(part.y, torc_slice(whole.y, 0, first, end, 1), 1e-8);
    torc_finalize();
}

TEST_RANKS(a_batch_of_nothing_moves_nothing, 2)
{
    torc_init(NULL, NULL);
    outcome o = run(torc_sync_batch_norm_op, TORC_F32, TORC_SHAPE(0, CHANNELS), 0, 0, 1);
    CHECK_NEAR(torc_item(torc_max(torc_abs(o.mean))), 0, 0);
    CHECK_NEAR(torc_item(torc_min(o.var)), 1, 0);
    CHECK_NEAR(torc_item(torc_sum(torc_grad(o.w))), 0, 0);
    torc_finalize();
}

TEST(alone_it_is_batch_norm_to_the_bit)
{
    torc_init(NULL, NULL);
    torc_shape all = TORC_SHAPE(BATCH, CHANNELS, 2, 2);
    outcome a = run(torc_sync_batch_norm_op, TORC_F32, all, 0, BATCH, 1);
    outcome b = run(torc_batch_norm_op, TORC_F32, all, 0, BATCH, 1);
    CHECK(same_bits(a.y, b.y));
    CHECK(same_bits(torc_grad(a.x), torc_grad(b.x)));
    CHECK(same_bits(torc_grad(a.w), torc_grad(b.w)));
    CHECK(same_bits(a.mean, b.mean));
    CHECK(same_bits(a.var, b.var));
    torc_finalize();
}

/* ---- the layer, under torc_ddp(), in f32 ---- */

static torc_module *network(int seed)
{
    torc_seed((uint64_t)seed);
    return torc_sequential(torc_conv2d(1, 4, 3), torc_batch_norm2d(4), torc_relu_layer(),
                           torc_flatten_layer(), torc_linear(16, 5), torc_batch_norm2d(5),
                           torc_linear(5, 3));
}

/* Labels of samples first .. end - 1; those of samples from `known` on are to be ignored. */
static torc_tensor *labels(int first, int end, int known)
{
    int64_t values[BATCH + 1];
    for (int i = first; i < end; i++)
        values[i - first] = i < known ? i * 5 % 3 : -100;
    torc_tensor *y = torc_zeros(TORC_SHAPE(end - first), .dtype = TORC_I64);
    torc_write(y, TORC_I64, values, end - first);
    return y;
}

static void backward(torc_module *net, int first, int end, int known)
{
    torc_tensor *x = samples(TORC_F32, TORC_SHAPE(BATCH, 1, 4, 4), first, end, 0.2);
    torc_backward(torc_cross_entropy(torc_forward(net, x), labels(first, end, known)));
}

static void compare_networks(torc_module *net, torc_module *alone)
{
    static const char *const buffers[] = {"1.running_mean", "1.running_var",
                                          "1.num_batches_tracked", "5.running_mean",
                                          "5.running_var"};
    for (int64_t i = 0; i < torc_parameter_count(net); i++)
        compare(torc_grad(torc_parameter_at(net, i, NULL)),
                torc_grad(torc_parameter_at(alone, i, NULL)), 3e-6);
    for (int i = 0; i < 5; i++)
        compare(torc_parameter_named(net, buffers[i]), torc_parameter_named(alone, buffers[i]),
                1e-6);
}

/* Three steps of both, compared before each update. */
static void train_both(torc_module *net, int way, int known)
{
    torc_module *alone = network(1);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f), *opt_alone = torc_sgd(alone, .lr = 0.1f);
    for (int i = 0; i < 3; i++) {
        backward(net, cut(torc_rank(), way), cut(torc_rank() + 1, way), known);
        backward(alone, 0, BATCH, known);
        compare_networks(net, alone);
        torc_step(opt);
        torc_step(opt_alone);
        torc_tape_clear();
    }
    CHECK(torc_replicas_agree(net));
}

static void start(void)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* several buckets on the wire between the layers' sums */
    torc_init(NULL, NULL);
}

TEST_RANKS(gradients_of_uneven_shares, 2)
{
    start();
    train_both(torc_ddp(torc_convert_sync_batch_norm(network(1))), GROWING, BATCH);
    torc_finalize();
}

TEST_RANKS(gradients_with_empty_shares, 3)
{
    start();
    train_both(torc_convert_sync_batch_norm(torc_ddp(network(1))), GROWING, BATCH);
    train_both(torc_convert_sync_batch_norm(torc_ddp(network(1))), LAST_EMPTY, BATCH);
    torc_finalize();
}

/* The last rank's samples have no target, so that its loss weighs 0; but they are in the statistics
 * that the others' losses depend on, and its gradients are those of the others' losses. */
TEST_RANKS(samples_without_a_target_count_too, 3)
{
    start();
    train_both(torc_ddp(torc_convert_sync_batch_norm(network(1))), EVEN, cut(2, EVEN));
    torc_finalize();
}

TEST_RANKS(evaluation_asks_nobody, 2)
{
    start();
    torc_module *net = torc_convert_sync_batch_norm(torc_ddp(network(1))), *alone = network(1);
    torc_eval(net);
    torc_eval(alone);
    torc_tensor *x = samples(TORC_F32, TORC_SHAPE(BATCH, 1, 4, 4), 0, BATCH, 0);
    torc_tensor *rows = samples(TORC_F32, TORC_SHAPE(BATCH, CHANNELS), 0, BATCH, 0);
    torc_tensor *mean = torc_zeros(TORC_SHAPE(CHANNELS)), *var = torc_ones(TORC_SHAPE(CHANNELS));
    if (torc_rank() == 0) { /* a sum over ranks would find nobody */
        torc_backward(
            torc_sum(torc_sync_batch_norm_op(rows, NULL, NULL, mean, var, false, 0.1, 3)));
        CHECK_NEAR(torc_item(torc_mean(torc_grad(rows))), 0.5, 1e-6); /* 1 / sqrt(var + eps) */
        compare(torc_forward(net, x), torc_forward(alone, x), 0);
    }
    torc_finalize();
}

TEST(converting_changes_no_name)
{
    torc_init(NULL, NULL);
    torc_module *plain = network(2), *net = network(1);
    CHECK(torc_convert_sync_batch_norm(net) == net);
    CHECK_INT(torc_try_save(net, test_path("net")), TORC_OK);
    CHECK_INT(torc_try_load(plain, test_path("net")), TORC_OK);
    compare(torc_parameter_named(plain, "4.weight"), torc_parameter_named(net, "4.weight"), 0);
    CHECK_INT(torc_try_load(net, test_path("net")), TORC_OK);
    torc_finalize();
}

/* ---- refused ---- */

TEST_DIES(converting_nothing, 1, "torc_convert_sync_batch_norm: expected a module, found NULL")
{
    torc_convert_sync_batch_norm(NULL);
}

TEST_RANKS_DIE(a_rank_that_never_comes, 2, 124, "torc_sync_batch_norm_op")
{
    setenv("TORC_TIMEOUT", "1", 1);
    start();
    if (torc_rank() == 0)
        run(torc_sync_batch_norm_op, TORC_F32, TORC_SHAPE(BATCH, CHANNELS), 0, BATCH, 0);
    for (double end = torc_seconds() + 10; torc_seconds() < end;)
        ; /* rank 1 computes for ever */
}
