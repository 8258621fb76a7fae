/*
 * PowerSGD in torc_ddp(): what it makes of gradients of low and of full rank, and that over many
 * steps nothing is lost.
 *
 * Gradients of a known value come from the loss sum(C * parameter), whose gradient is C.
 */
#include "core/torc.h"

#include "examples/common/powersgd.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 12, COLS = 20 };

static torc_tensor *of_one_parameter(torc_module *self, torc_tensor *x)
{
    (void)x;
    return *(torc_tensor **)torc_module_state(self);
}

/* A net of one parameter [ROWS, COLS] and one vector. */
static torc_module *one_matrix(void)
{
    torc_module *m = torc_module_new("Matrix", of_one_parameter, sizeof(torc_tensor *));
    torc_tensor **state = torc_module_state(m);
    *state = torc_parameter(m, "matrix", torc_zeros(TORC_SHAPE(ROWS, COLS)));
    torc_parameter(m, "vector", torc_zeros(TORC_SHAPE(COLS)));
    return m;
}

/* factor times the gradient of process `of_rank`: a matrix of rank `rank` (0: full), in the same
 * directions for all, so that the mean has that rank too. */
static void fill(double *c, int rank, int of_rank, double factor)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            double v = rank ? 0 : sin(1 + i * COLS + j + 7 * of_rank);
            for (int k = 0; k < rank; k++)
                v += cos(k + 1 + i * (k + 1)) * sin(2 + k + (3 + k) * j) * (1 + k + of_rank * k);
            c[i * COLS + j] = factor * v;
        }
}

/* A backward whose gradient on this rank is c. */
static void step(torc_module *net, const double *c)
{
    torc_tensor *t = torc_zeros(TORC_SHAPE(ROWS, COLS));
    torc_write(t, TORC_F64, c, ROWS * COLS);
    torc_tensor *matrix = torc_parameter_named(net, "matrix");
    torc_tensor *loss =
        torc_add(torc_sum(torc_mul(matrix, t)), torc_sum(torc_parameter_named(net, "vector")));
    torc_set_weight(loss, 1);
    torc_zero_grad(net);
    torc_backward(loss);
    torc_tape_clear();
}

static void read_gradient(torc_module *net, double *out)
{
    torc_read(torc_grad(torc_parameter_named(net, "matrix")), TORC_F64, out, ROWS * COLS);
}

/* |a - factor b| / |factor b| */
static double distance(const double *a, const double *b, double factor)
{
    double off = 0, size = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
        off += (a[i] - factor * b[i]) * (a[i] - factor * b[i]);
        size += factor * b[i] * factor * b[i];
    }
    return sqrt(off / size);
}

/* The exact mean gradient. */
static void mean_of_all(double *mean, int rank)
{
    double c[ROWS * COLS];
    memset(mean, 0, sizeof c);
    for (int r = 0; r < torc_world_size(); r++) {
        fill(c, rank, r, 1.0 / torc_world_size());
        for (int i = 0; i < ROWS * COLS; i++)
            mean[i] += c[i];
    }
}

static torc_module *compressed(powersgd *p)
{
    return torc_ddp(one_matrix(), .compressor = powersgd_compress, .compressor_context = p);
}

/* A gradient of rank `has` by factors of rank `rank`. */
static void check_exact(int rank, int has)
{
    torc_init(NULL, NULL);
    double mine[ROWS * COLS], mean[ROWS * COLS], found[ROWS * COLS];
    powersgd *p = powersgd_new(rank);
    torc_module *net = compressed(p);
    fill(mine, has, torc_rank(), 1);
    mean_of_all(mean, has);
    for (int i = 0; i < 4; i++) {
        step(net, mine);
        read_gradient(net, found);
        if (i >= 1)
            CHECK(distance(found, mean, 1) < 1e-4);
    }
    float vector[COLS]; /* travels whole */
    torc_read(torc_grad(torc_parameter_named(net, "vector")), TORC_F32, vector, COLS);
    for (int j = 0; j < COLS; j++)
        CHECK_NEAR(vector[j], 1, 1e-6);
    torc_finalize();
    powersgd_free(p);
}

TEST(a_low_rank_is_exact_alone)
{
    check_exact(2, 2);
}

TEST_RANKS(a_low_rank_is_exact, 3)
{
    check_exact(3, 3);
}

/* The columns that are too many are rounding; they must not count anything twice. */
TEST_RANKS(a_lower_rank_is_exact, 2)
{
    check_exact(4, 1);
}

TEST_RANKS(a_low_rank_on_two_hosts, 3)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    check_exact(2, 2);
}

/* Of the same gradient T times, what is applied differs from T times it by the last error, which
 * does not grow. */
TEST_RANKS(error_feedback_loses_nothing, 2)
{
    torc_init(NULL, NULL);
    double mine[ROWS * COLS], mean[ROWS * COLS], found[ROWS * COLS], sum[ROWS * COLS] = {0};
    powersgd *p = powersgd_new(1);
    torc_module *net = compressed(p);
    fill(mine, 0, torc_rank(), 1);
    mean_of_all(mean, 0);
    double off[4] = {0};
    for (int i = 1, k = 0; i <= 320; i++) {
        step(net, mine);
        read_gradient(net, found);
        for (int j = 0; j < ROWS * COLS; j++)
            sum[j] += found[j];
        if (i == 5 << 2 * k) /* after 5, 20, 80, 320 steps */
            off[k++] = distance(sum, mean, i);
    }
    CHECK(distance(found, mean, 1) > 0.3); /* one step alone is far from the gradient */
    CHECK(off[0] > off[1] && off[1] > off[2] && off[2] > off[3]);
    CHECK(off[3] < 0.05);
    torc_finalize();
    powersgd_free(p);
}

TEST_RANKS(fewer_bytes_and_equal_replicas, 3)
{
    torc_init(NULL, NULL);
    torc_seed(5);
    powersgd *p = powersgd_new(2);
    torc_module *net = torc_sequential(torc_linear(40, 30), torc_relu_layer(), torc_linear(30, 3));
    net = torc_ddp(net, .compressor = powersgd_compress, .compressor_context = p);
    torc_optimizer *opt = torc_sgd(net, .lr = 0.1f, .momentum = 0.9f);
    for (int i = 0; i < 20; i++) {
        torc_tensor *x = torc_add_scalar(torc_randn(TORC_SHAPE(4, 40)), torc_rank());
        torc_tensor *y = torc_zeros(TORC_SHAPE(4), .dtype = TORC_I64);
        torc_backward(torc_cross_entropy(torc_forward(net, x), y));
        torc_step(opt);
        torc_tape_clear();
    }
    CHECK(torc_replicas_agree(net));
    /* factors of [30, 40] and of [3, 30], 30 + 3 biases; 4 bytes each */
    CHECK_NEAR(torc_ddp_statistics(net).bytes, 20 * 4.0 * (2 * (30 + 40) + 2 * (3 + 30) + 33), 0);
    torc_finalize();
    powersgd_free(p);
}

/* A gradient of zeros leaves no direction, one of NaN none that is good: the next one finds some.
 */
TEST_RANKS(it_recovers_from_zeros_and_nan, 2)
{
    torc_init(NULL, NULL);
    double mine[ROWS * COLS], mean[ROWS * COLS], found[ROWS * COLS], bad[ROWS * COLS] = {0};
    powersgd *p = powersgd_new(2);
    torc_module *net = compressed(p);
    fill(mine, 2, torc_rank(), 1);
    mean_of_all(mean, 2);
    for (int i = 0; i < 3; i++) {
        bad[7] = i == 2 ? NAN : 0;
        step(net, bad);
        read_gradient(net, found);
        CHECK(i == 2 ? isnan(found[7]) : fabs(found[7]) < 1e-4);
        step(net, mine);
        step(net, mine);
        read_gradient(net, found);
        CHECK(distance(found, mean, 1) < 1e-4);
    }
    torc_finalize();
    powersgd_free(p);
}

TEST(a_rank_below_one_is_none)
{
    CHECK(powersgd_new(0) == NULL);
    CHECK(powersgd_new(-1) == NULL);
    powersgd_free(NULL);
}

/* The program, as a user starts it: by chance 10 % would be right. */
TEST(the_example_learns_digits)
{
    char output[4000];
    const char *bin = getenv("TORC_BIN"), *data = getenv("DATA_DIR");
    if (!bin || !data)
        test_skip("TORC_BIN or DATA_DIR is not set: no program, or no images, to run");
    int code = test_command(50, output, sizeof output,
                            "%s/torcrun -n 2 --oversubscribe %s/powersgd --rank 2 --epochs 1 "
                            "--data %s 2>&1",
                            bin, bin, data);
    const char *right = strstr(output, "test accuracy ");
    test_check(code == 0 && right && atof(right + strlen("test accuracy ")) > 70, __FILE__,
               __LINE__, "exit code %d\n%s", code, output);
    CHECK(strstr(output, "14072 bytes a step") && strstr(output, "replicas equal to the bit"));
}
