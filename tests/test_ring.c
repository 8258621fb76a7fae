/* The ring: exact sums for any count and any number of ranks, equal bits on all, several at once.
 */
#include "allreduce/ring.h"
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

static comm *c;

static void join(void)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* segments of 16 floats: many steps in small buffers */
    CHECK(comm_open(&c) == TORC_OK);
}

static void run(ring *r)
{
    bool done = false;
    for (wait w = wait_start(20); !done && wait_once(&w);)
        CHECK(ring_poll(r, &done) == TORC_OK);
    CHECK(done);
}

/* Whole numbers, so that every order of summation gives the same. */
static void check_sum(ring *r, size_t count, torc_dtype dtype)
{
    int n = comm_size(c);
    float *f = base_alloc(count, sizeof *f);
    double *d = base_alloc(count, sizeof *d);
    for (size_t i = 0; i < count; i++)
        d[i] = f[i] = (float)((i * 3 + (size_t)comm_rank(c) * 7) % 1000);
    ring_start(r, c, dtype == TORC_F32 ? (void *)f : d, count, dtype, 3);
    run(r);
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += (double)((i * 3 + (size_t)k * 7) % 1000);
        wrong += (dtype == TORC_F32 ? f[i] : d[i]) != sum;
    }
    CHECK_INT(wrong, 0);
    free(f);
    free(d);
}

static void check_counts(void)
{
    join();
    ring r = {0};
    const size_t counts[] = {0, 1, 2, 3, 5, 16, 17, 100, 1023, 10007};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_sum(&r, counts[i], TORC_F32);
        check_sum(&r, counts[i], TORC_F64);
    }
    ring_free(&r);
    comm_close(c);
}

TEST(alone)
{
    check_counts();
}

TEST_RANKS(of_two, 2)
{
    check_counts();
}

TEST_RANKS(of_three, 3)
{
    check_counts();
}

TEST_RANKS(of_five, 5)
{
    check_counts();
}

/* Numbers whose sum depends on the order: all ranks must still get the same bits. */
TEST_RANKS(bits_agree, 4)
{
    join();
    enum { COUNT = 5000 };
    static float x[COUNT], all[4 * COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = 1.0f / (float)(i * 13 + comm_rank(c) * 101 + 1);
    ring r = {0};
    ring_start(&r, c, x, COUNT, TORC_F32, 0);
    run(&r);
    CHECK(comm_allgather(c, x, all, sizeof x, "results") == TORC_OK);
    for (int k = 1; k < comm_size(c); k++)
        CHECK(!memcmp(all, all + (size_t)k * COUNT, sizeof x));
    ring_free(&r);
    comm_close(c);
}

TEST_RANKS(several_at_once, 3)
{
    join();
    enum { RINGS = 4, COUNT = 3001 };
    static float x[RINGS][COUNT];
    ring r[RINGS] = {{0}};
    for (int k = 0; k < RINGS; k++) {
        for (int i = 0; i < COUNT; i++)
            x[k][i] = (float)(k + 1);
        ring_start(&r[k], c, x[k], COUNT, TORC_F32, k);
    }
    for (int k = RINGS - 1; k >= 0; k--) { /* whichever is polled, all of them move in the end */
        bool done = false;
        for (wait w = wait_start(20); !done && wait_once(&w);)
            for (int j = 0; j < RINGS; j++) {
                bool one;
                CHECK(ring_poll(&r[j], &one) == TORC_OK);
                done = j == k ? one : done;
            }
        CHECK(done && x[k][0] == (float)(3 * (k + 1)) && x[k][COUNT - 1] == x[k][0]);
    }
    for (int k = 0; k < RINGS; k++)
        ring_free(&r[k]);
    comm_close(c);
}
