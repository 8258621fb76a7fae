/* The sum of several buffers, in a given order, on every level of the processor. */
#include "core/cpu/cpu.h"
#include "tests/harness.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5003, MOST = 4 }; /* several blocks, the last not whole */

static float a[MOST][N], out[MOST][N];

static void fill(void)
{
    for (int k = 0; k < MOST; k++)
        for (int i = 0; i < N; i++)
            a[k][i] = (float)((i * 7919 + k * 104729) % 10007) / 313 - 15;
}

static void check(const kernels *k, const int16_t *steps, int length, float (*expected)(int i),
                  int outs)
{
    int16_t copy[16];
    memcpy(copy, steps, (size_t)length * sizeof *copy);
    const fold_order order = {length, copy};
    void *in[MOST], *to[MOST];
    double squares, sum = 0;
    for (int i = 0; i < MOST; i++) {
        in[i] = a[i];
        to[i] = out[i];
    }
    memset(out, 0, sizeof out);
    k->fold(&order, in, to, outs, N, TORC_F32, 0.5, &squares);
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < N; i++)
            if (out[o][i] != expected(i))
                CHECK_INT(i, -1);
    for (int i = 0; i < N; i++)
        sum += (double)expected(i) * expected(i);
    CHECK_NEAR(squares, sum, 1e-12);
}

static float one(int i)
{
    return a[2][i] * 0.5f;
}

static float tree(int i)
{
    float left = a[0][i] + a[1][i], right = a[2][i] + a[3][i];
    return (left + right) * 0.5f;
}

static float in_turn(int i)
{
    float sum = a[0][i] + a[1][i];
    sum = sum + a[2][i];
    return (sum + a[3][i]) * 0.5f;
}

static float right_to_left(int i)
{
    float sum = a[2][i] + a[3][i];
    sum = a[1][i] + sum;
    return (a[0][i] + sum) * 0.5f;
}

TEST(orders)
{
    static const int16_t only[] = {2}, halves[] = {0, 1, FOLD_ADD, 2, 3, FOLD_ADD, FOLD_ADD};
    static const int16_t turns[] = {0, 1, FOLD_ADD, 2, FOLD_ADD, 3, FOLD_ADD};
    static const int16_t deep[] = {0, 1, 2, 3, FOLD_ADD, FOLD_ADD, FOLD_ADD};
    fill();
    for (int level = CPU_V2; level <= (int)cpu_level_here(); level++)
        for (int outs = 1; outs <= MOST; outs++) {
            const kernels *k = cpu_kernels_at((cpu_level)level);
            check(k, only, 1, one, outs);
            check(k, halves, 7, tree, outs);
            check(k, turns, 7, in_turn, outs);
            check(k, deep, 7, right_to_left, outs);
        }
}

TEST(outputs_may_be_inputs)
{
    int16_t steps[] = {0, 1, FOLD_ADD, 2, 3, FOLD_ADD, FOLD_ADD};
    const fold_order order = {7, steps};
    static float expected[N];
    void *all[MOST];
    fill();
    for (int k = 0; k < MOST; k++)
        all[k] = a[k];
    for (int i = 0; i < N; i++)
        expected[i] = tree(i);
    kernels_here()->fold(&order, all, all, MOST, N, TORC_F32, 0.5, NULL);
    for (int k = 0; k < MOST; k++)
        CHECK(!memcmp(a[k], expected, sizeof expected));
}

TEST(doubles_and_nothing)
{
    int16_t steps[] = {0, 1, FOLD_ADD};
    const fold_order order = {3, steps};
    double x[3] = {1, 2, NAN}, y[3] = {10, 20, 30}, squares = -1;
    void *in[] = {x, y}, *to[] = {x};
    kernels_here()->fold(&order, in, to, 1, 0, TORC_F64, 1, &squares);
    CHECK_NEAR(squares, 0, 0);
    kernels_here()->fold(&order, in, to, 1, 3, TORC_F64, 2, &squares);
    CHECK_NEAR(x[0], 22, 0);
    CHECK_NEAR(x[1], 44, 0);
    CHECK(isnan(x[2]) && isnan(squares));
}

/* More blocks than parts: a part has several, and threads do not show. */
TEST(squares_of_a_long_sum)
{
    enum { LONG = 700 * 1024 + 5 };
    int16_t steps[] = {0, 1, FOLD_ADD};
    const fold_order order = {3, steps};
    float *x = base_alloc(LONG, sizeof *x), *y = base_alloc(LONG, sizeof *y);
    void *in[] = {x, y}, *to[] = {x};
    double first = 0, squares, sum = 0;
    for (int threads = 1; threads <= 3; threads++) {
        for (int i = 0; i < LONG; i++) {
            x[i] = (float)(i % 7);
            y[i] = 0.5f;
            sum += threads == 1 ? (i % 7 + 0.5) * (i % 7 + 0.5) : 0;
        }
        omp_set_num_threads(threads);
        kernels_here()->fold(&order, in, to, 1, LONG, TORC_F32, 1, &squares);
        CHECK_NEAR(squares, sum, 1e-12);
        CHECK(threads == 1 || squares == first);
        first = squares;
    }
    free(x);
    free(y);
}
