/*
 * Collectives on 1 to 4 ranks: every count around the edges, with the limits of pieces and small
 * buffers so low that short buffers take every path, then with the real limits.
 *
 * What a rank contributes is a formula of rank and index, so each rank can compute what the others
 * gave and what must come out.
 */
#include "tests/comm_helpers.h"

#include <float.h>
#include <math.h>

static const size_t counts[] = {0, 1, 2, 3, 5, 7, 16, 63, 257, 1001};

static unsigned char byte_of(int rank, size_t i)
{
    return (unsigned char)(rank * 37 + (int)(i % 251) + (int)(i / 251));
}

/* Odd numbers with 24 bits over eight orders of magnitude: another order of adding gives other
 * bits. */
static float rough(int rank, size_t i)
{
    uint32_t h = (uint32_t)(i * 4 + (size_t)rank) * 2654435761u + 12345;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return ((float)(h >> 8) - 8388608.0f) * powf(10, (float)(h % 9) - 4);
}

static float rough_sum(int ranks, size_t i)
{
    volatile float sum = rough(0, i);
    for (int r = 1; r < ranks; r++)
        sum = sum + rough(r, i);
    return sum;
}

static void check_broadcast(comm *c, size_t n, int root)
{
    unsigned char *b = malloc(n + 1);
    for (size_t i = 0; i <= n; i++)
        b[i] = byte_of(comm_rank(c), i);
    ok(comm_broadcast(c, b, n, root, "bytes"));
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++)
        wrong += b[i] != byte_of(root, i);
    CHECK_INT(wrong, 0);
    CHECK_INT(b[n], byte_of(comm_rank(c), n));
    free(b);
}

static void check_allgather(comm *c, size_t n)
{
    size_t ranks = (size_t)comm_size(c), wrong = 0;
    unsigned char *mine = malloc(n + 1), *all = malloc(ranks * n + 1);
    for (size_t i = 0; i < n; i++)
        mine[i] = byte_of(comm_rank(c), i);
    ok(comm_allgather(c, mine, all, n, "bytes"));
    for (size_t i = 0; i < ranks * n; i++)
        wrong += all[i] != byte_of((int)(i / n), i % n);
    CHECK_INT(wrong, 0);
    free(mine);
    free(all);
}

/* sum: ranks i + sum of ranks; max and min: the last and the first rank's. Exact in every dtype. */
static double expected(int ranks, size_t i, comm_op op)
{
    double x = (double)(i % 1000);
    return op == COMM_SUM   ? ranks * x + ranks * (ranks - 1) / 2
           : op == COMM_MAX ? x + ranks - 1
                            : x;
}

#define CHECK_REDUCTIONS(type, id) \
    static void check_reductions_##id(comm *c, size_t n, comm_op op) \
    { \
        size_t ranks = (size_t)comm_size(c), wrong = 0; \
        size_t first = (size_t)comm_rank(c) * n; \
        type *whole = malloc(ranks * n * sizeof *whole + 1); \
        type *mine = malloc(n * sizeof *mine + 1); \
        for (size_t i = 0; i < ranks * n; i++) \
            whole[i] = (type)(i % 1000) + (type)comm_rank(c); \
        ok(comm_reduce_scatter(c, whole, mine, n, id, op, "parts")); \
        for (size_t i = 0; i < n; i++) \
            wrong += (double)mine[i] != expected((int)ranks, first + i, op); \
        ok(comm_allreduce(c, whole, n, id, op, "whole")); \
        for (size_t i = 0; i < n; i++) \
            wrong += (double)whole[i] != expected((int)ranks, i, op); \
        for (size_t i = n; i < ranks * n; i++) /* beyond the count nothing is touched */ \
            wrong += whole[i] != (type)(i % 1000) + (type)comm_rank(c); \
        CHECK_INT(wrong, 0); \
        free(whole); \
        free(mine); \
    }
CHECK_REDUCTIONS(float, TORC_F32)
CHECK_REDUCTIONS(double, TORC_F64)
CHECK_REDUCTIONS(int64_t, TORC_I64)
CHECK_REDUCTIONS(int32_t, TORC_I32)

static void check_bits(comm *c, size_t n)
{
    float *b = malloc(n * sizeof *b + 1);
    for (size_t i = 0; i < n; i++)
        b[i] = rough(comm_rank(c), i);
    ok(comm_allreduce(c, b, n, TORC_F32, COMM_SUM, "rough"));
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        float sum = rough_sum(comm_size(c), i);
        wrong += memcmp(&sum, &b[i], sizeof sum) != 0;
    }
    CHECK_INT(wrong, 0);
    free(b);
}

static void check_all(comm *c, size_t n)
{
    ok(comm_barrier(c, NULL));
    check_broadcast(c, n, 0);
    check_broadcast(c, n, comm_size(c) - 1);
    check_allgather(c, n);
    for (comm_op op = COMM_SUM; op <= COMM_MIN; op++) {
        check_reductions_TORC_F32(c, n, op);
        check_reductions_TORC_F64(c, n, op);
        check_reductions_TORC_I64(c, n, op);
        check_reductions_TORC_I32(c, n, op);
    }
    check_bits(c, n);
}

static void every_count_and_limit(void)
{
    static const size_t limits[][2] = {{32, 0}, {100, 50}, {1024, 1024}};
    comm *c = joined();
    for (int l = 0; l < ARRAY_LENGTH(limits); l++) {
        c->piece = limits[l][0];
        c->small = limits[l][1];
        for (int i = 0; i < ARRAY_LENGTH(counts); i++)
            check_all(c, counts[i]);
    }
    c->piece = COMM_PIECE_BYTES;
    c->small = COMM_SMALL_BYTES;
    check_all(c, 5003);
    check_bits(c, COMM_PIECE_BYTES / sizeof(float) + 12345);
    check_broadcast(c, COMM_PIECE_BYTES + 12345, comm_size(c) / 2);
    check_allgather(c, COMM_PIECE_BYTES + 1);
    comm_close(c);
}

TEST(collectives_alone)
{
    every_count_and_limit();
}
TEST_RANKS(collectives_on_1, 1)
{
    every_count_and_limit();
}
TEST_RANKS(collectives_on_2, 2)
{
    every_count_and_limit();
}
TEST_RANKS(collectives_on_3, 3)
{
    every_count_and_limit();
}
TEST_RANKS(collectives_on_4, 4)
{
    every_count_and_limit();
}

/* Without this the test of the bits could pass with any order. */
TEST(the_rough_numbers_depend_on_the_order)
{
    int differ = 0;
    for (size_t i = 0; i < 1000; i++) {
        volatile float backward = rough(3, i);
        for (int r = 2; r >= 0; r--)
            backward = backward + rough(r, i);
        differ += backward != rough_sum(4, i);
    }
    CHECK(differ > 200);
}

TEST_RANKS(a_nan_on_any_rank_stays, 3)
{
    comm *c = joined();
    for (int who = 0; who < 3; who++)
        for (comm_op op = COMM_SUM; op <= COMM_MIN; op++) {
            float f[2] = {comm_rank(c) == who ? NAN : 1, 1};
            double d = comm_rank(c) == who ? NAN : 1;
            ok(comm_allreduce(c, f, 2, TORC_F32, op, "f32"));
            ok(comm_allreduce(c, &d, 1, TORC_F64, op, "f64"));
            CHECK(isnan(f[0]) && isnan(d));
            CHECK_NEAR(f[1], op == COMM_SUM ? 3 : 1, 0);
        }
    comm_close(c);
}

TEST_RANKS(infinities_and_large_integers_are_exact, 4)
{
    comm *c = joined();
    int64_t big = ((int64_t)1 << 60) + comm_rank(c); /* no double holds this */
    ok(comm_allreduce(c, &big, 1, TORC_I64, COMM_MAX, "big"));
    CHECK_INT(big, ((int64_t)1 << 60) + 3);
    float x = comm_rank(c) == 2 ? INFINITY : -FLT_MAX;
    ok(comm_allreduce(c, &x, 1, TORC_F32, COMM_MAX, "x"));
    CHECK(x == INFINITY);
    comm_close(c);
}

TEST_RANKS(allgather_in_place, 4)
{
    comm *c = joined();
    int all[4] = {-1, -1, -1, -1};
    all[comm_rank(c)] = comm_rank(c) + 10;
    ok(comm_allgather(c, &all[comm_rank(c)], all, sizeof *all, "in place"));
    for (int r = 0; r < 4; r++)
        CHECK_INT(all[r], r + 10);
    comm_close(c);
}

/* Thousands in a row: the fast rank's next arrival comes before the slow one has left the last. */
TEST_RANKS(collectives_follow_each_other_closely, 4)
{
    comm *c = joined();
    double sum = 0;
    for (int i = 0; i < 2000; i++) {
        double x = i + comm_rank(c);
        ok(comm_allreduce(c, &x, 1, TORC_F64, COMM_SUM, "x"));
        sum += x;
    }
    CHECK_NEAR(sum, 4 * (1999.0 * 2000 / 2) + 6 * 2000, 0);
    comm_close(c);
}

TEST_DIES(a_dtype_that_cannot_be_reduced_is_a_bug, 134, "reduction of dtype")
{
    unsigned char x = 1;
    comm_allreduce(joined(), &x, 1, TORC_U8, COMM_SUM, "x");
}
