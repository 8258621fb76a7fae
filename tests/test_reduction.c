/*
 * A reduction: direct within a host, ring, exchange and doubling between (pretended) hosts, over
 * every world size from 1 to 9, on ranks that are threads.
 */
#include "allreduce/plan.h"
#include "allreduce/reduction.h"
#include "tests/harness.h"
#include "tests/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct request {
    size_t count;
    torc_dtype dtype;
    const wire_algorithm *by;
    bool compress;
    double scale;
    double (*value)(int rank, size_t i);
    double (*sum)(int ranks, size_t i); /* NULL: only that all ranks have the same bits */
    double tolerance;
    uint64_t bits[16]; /* of each rank's result, hashed */
} request;

static void wait_for(reduction *r)
{
    bool done = false;
    torc_status s = TORC_OK;
    for (wait w = wait_start(30); s == TORC_OK && !done && wait_once(&w);)
        s = reduction_poll(r, &done);
    test_check(done, __FILE__, __LINE__, "not done: %s", torc_last_error());
}

static void put(char *at, torc_dtype dtype, size_t i, double value)
{
    if (dtype == TORC_F64)
        ((double *)at)[i] = value;
    else
        ((float *)at)[i] = (float)value;
}

static double get(const char *at, torc_dtype dtype, size_t i)
{
    return dtype == TORC_F64 ? ((const double *)at)[i] : (double)((const float *)at)[i];
}

static uint64_t hash(const void *data, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return h;
}

static void check_elements(const request *q, const char *data, int ranks)
{
    size_t wrong = 0;
    for (size_t i = 0; q->sum && i < q->count; i++) {
        double expected = q->scale * q->sum(ranks, i), found = get(data, q->dtype, i);
        wrong += !test_near(found, expected, q->tolerance);
    }
    CHECK_INT(wrong, 0);
}

/* Several at once, each in a place of its own. */
enum { TOGETHER = 3 };

static void reduce(comm *c, void *context)
{
    request *q = context;
    team *t;
    size_t bytes = (q->count * torc_dtype_size(q->dtype) + 63) / 64 * 64;
    reduction r[TOGETHER] = {{0}};
    CHECK(team_open(c, TOGETHER * bytes + 64, 0, 0, &t) == TORC_OK);
    for (int k = 0; k < TOGETHER; k++) {
        char *mine = team_buffer(t, t->local, 0) + (size_t)k * bytes;
        for (size_t i = 0; i < q->count; i++)
            put(mine, q->dtype, i, q->value(comm_rank(c), i));
        reduction_start(&r[k], t,
                        (reduction_what){.offset = (size_t)k * bytes,
                                         .count = q->count,
                                         .dtype = q->dtype,
                                         .name = "test",
                                         .scale = &q->scale,
                                         .algorithm = q->by,
                                         .compress = q->compress});
    }
    for (int k = 0; k < TOGETHER; k++) {
        char *mine = team_buffer(t, t->local, 0) + (size_t)k * bytes;
        wait_for(&r[k]);
        check_elements(q, mine, comm_size(c));
        q->bits[comm_rank(c)] = hash(mine, q->count * torc_dtype_size(q->dtype));
        reduction_free(&r[k]);
    }
    CHECK(comm_barrier(c, "everyone has looked") == TORC_OK);
    team_close(t);
}

static void on_hosts(int hosts)
{
    char text[16];
    snprintf(text, sizeof text, "%d", hosts);
    setenv("TORC_FAKE_HOSTS", text, 1);
}

static void run(request *q, int ranks, int hosts)
{
    on_hosts(hosts);
    threads_run(ranks, reduce, q);
    for (int r = 1; r < ranks; r++)
        CHECK(q->bits[r] == q->bits[0]);
}

/* ---- whole numbers: exact in every order ---- */

static double whole(int rank, size_t i)
{
    return (double)((i * 3 + (size_t)rank * 7) % 1000);
}

static double sum_of_whole(int ranks, size_t i)
{
    double sum = 0;
    for (int r = 0; r < ranks; r++)
        sum += whole(r, i);
    return sum;
}

static void check_counts(const wire_algorithm *by, int ranks, int hosts)
{
    const size_t n = (size_t)ranks, counts[] = {0, 1, n - 1, n, n + 1, 1003};
    for (int i = 0; i < ARRAY_LENGTH(counts); i++)
        for (int f64 = 0; f64 < 2; f64++) {
            request q = {counts[i], f64 ? TORC_F64 : TORC_F32, by, .scale = 0.5};
            q.value = whole;
            q.sum = sum_of_whole;
            run(&q, ranks, hosts);
        }
}

static void check_everywhere(const wire_algorithm *by)
{
    setenv("TORC_SMALL_LIMITS", "1", 1); /* segments of 16 floats: many steps in small buffers */
    for (int ranks = 1; ranks <= 9; ranks++)
        check_counts(by, ranks, ranks);
}

TEST(direct_for_every_world)
{
    for (int ranks = 1; ranks <= 9; ranks++)
        check_counts(NULL, ranks, 1);
}

TEST(ring_for_every_world)
{
    check_everywhere(&wire_ring);
}

TEST(exchange_for_every_world)
{
    check_everywhere(&wire_exchange);
}

TEST(doubling_for_every_world)
{
    check_everywhere(&wire_doubling);
}

/* Hosts of equal and of unequal size: a host of three and one of two share two slices. */
TEST(hosts_of_several_ranks)
{
    for (int ranks = 4; ranks <= 7; ranks++)
        for (int hosts = 2; hosts <= 3; hosts++) {
            check_counts(&wire_ring, ranks, hosts);
            check_counts(&wire_exchange, ranks, hosts);
            check_counts(&wire_doubling, ranks, hosts);
        }
}

TEST(nothing_is_shared)
{
    setenv("TORC_SHM", "private", 1);
    for (int ranks = 1; ranks <= 5; ranks++)
        check_counts(&wire_ring, ranks, 1);
}

TEST(long_buffers)
{
    const wire_algorithm *const by[] = {&wire_ring, &wire_exchange, &wire_doubling};
    for (int i = 0; i < ARRAY_LENGTH(by); i++) {
        request q = {1000003, TORC_F32, by[i], .scale = 1, .value = whole, .sum = sum_of_whole};
        run(&q, 4, 2);
        run(&q, 3, 1);
    }
}

/* ---- numbers whose sum depends on the order ---- */

static double rough(int rank, size_t i)
{
    return (double)((i * 2654435761u + (size_t)rank * 40503u) % 100003) / 7919 - 6;
}

static double sum_of_rough(int ranks, size_t i)
{
    double sum = 0;
    for (int r = 0; r < ranks; r++)
        sum += (float)rough(r, i);
    return sum;
}

TEST(all_ranks_get_the_same_bits)
{
    setenv("TORC_SMALL_LIMITS", "1", 1);
    const wire_algorithm *const by[] = {&wire_ring, &wire_exchange, &wire_doubling};
    for (int i = 0; i < ARRAY_LENGTH(by); i++)
        for (int ranks = 2; ranks <= 7; ranks++) {
            request q = {517, TORC_F32, by[i], .scale = 1, .value = rough, .sum = sum_of_rough};
            q.tolerance = 1e-5;
            run(&q, ranks, ranks);
            run(&q, ranks, 2);
        }
}

/* bfloat16 has 8 bits: every hop rounds once more. */
TEST(compressed_all_ranks_get_the_same_bits)
{
    setenv("TORC_SMALL_LIMITS", "1", 1);
    const wire_algorithm *const by[] = {&wire_ring, &wire_exchange, &wire_doubling};
    for (int i = 0; i < ARRAY_LENGTH(by); i++)
        for (int ranks = 2; ranks <= 7; ranks++) {
            request q = {517, TORC_F32, by[i], .compress = true, .scale = 1, .value = rough};
            q.sum = sum_of_rough;
            q.tolerance = 0.05 * ranks;
            run(&q, ranks, ranks);
            run(&q, ranks, 2);
        }
}

TEST(compressing_rounds)
{
    request q = {517, TORC_F32, &wire_exchange, .scale = 1, .value = rough}, exact = q;
    q.compress = true;
    run(&q, 2, 2);
    run(&exact, 2, 2);
    CHECK(q.bits[0] != exact.bits[0]);
}

/* ---- more leaves than ranks: the same bits for every number of ranks and hosts ---- */

typedef struct leaves_request {
    int leaves;
    uint64_t bits;
} leaves_request;

enum { LEAF_COUNT = 300 };

/* What a rank does with its leaves: each born in buffer 0, added to its siblings, kept or sent. */
static void collect(const team *t)
{
    float *live = (float *)team_buffer(t, t->local, 0);
    tree_stack s = {0};
    for (int leaf = t->mine.first; leaf < t->mine.end; leaf++) {
        for (size_t i = 0; i < LEAF_COUNT; i++)
            live[i] = (float)rough(leaf, i);
        int merges = tree_push(&s, leaf, t->leaves);
        for (int k = 0; k < merges; k++) {
            const float *kept = (float *)team_buffer(t, t->local, s.nodes - 1 + merges - k);
            for (size_t i = 0; i < LEAF_COUNT; i++)
                live[i] = kept[i] + live[i];
        }
        if (leaf + 1 < t->mine.end)
            memcpy(team_buffer(t, t->local, s.nodes), live, LEAF_COUNT * sizeof *live);
    }
}

static void reduce_leaves(comm *c, void *context)
{
    leaves_request *q = context;
    team *t;
    reduction r = {0};
    CHECK(team_open(c, LEAF_COUNT * sizeof(float), q->leaves, 0, &t) == TORC_OK);
    collect(t);
    reduction_start(&r, t,
                    (reduction_what){.count = LEAF_COUNT, .dtype = TORC_F32, .name = "leaves"});
    wait_for(&r);
    if (comm_rank(c) == 0)
        q->bits = hash(team_buffer(t, t->local, 0), LEAF_COUNT * sizeof(float));
    reduction_free(&r);
    CHECK(comm_barrier(c, "everyone has looked") == TORC_OK);
    team_close(t);
}

TEST(leaves_give_the_same_bits_on_any_number_of_ranks)
{
    setenv("TORC_SMALL_LIMITS", "1", 1);
    for (int leaves = 5; leaves <= 8; leaves++) {
        leaves_request alone = {.leaves = leaves};
        on_hosts(1);
        threads_run(1, reduce_leaves, &alone);
        for (int ranks = 2; ranks <= leaves; ranks++)
            for (int hosts = 1; hosts <= 3 && hosts <= ranks; hosts++) {
                leaves_request q = {.leaves = leaves};
                on_hosts(hosts);
                threads_run(ranks, reduce_leaves, &q);
                CHECK(q.bits == alone.bits);
            }
    }
}

/* ---- ranks that do not mean the same ---- */

typedef struct odd {
    int hosts;
    bool told[4];
} odd;

static void disagree(comm *c, void *context)
{
    odd *o = context;
    team *t;
    CHECK(team_open(c, 4096, 0, 0, &t) == TORC_OK);
    reduction r = {0};
    bool done = false, odd_one = comm_rank(c) == 1;
    reduction_start(&r, t,
                    (reduction_what){.count = odd_one ? 100 : 200,
                                     .dtype = TORC_F32,
                                     .name = odd_one ? "other bucket" : "bucket"});
    torc_status s = TORC_OK;
    for (wait w = wait_start(2); s == TORC_OK && !done && wait_once(&w);)
        s = reduction_poll(&r, &done);
    const char *text = torc_last_error();
    o->told[comm_rank(c)] = s == TORC_ERR_PEER &&
                            strstr(text, "\"other bucket\" (100 x float32)") &&
                            strstr(text, "\"bucket\" (200 x float32)") && strstr(text, "rank 1");
    CHECK(!done);
    comm_barrier(c, "everyone has looked"); /* threads share memory: nobody leaves first */
    team_close(t);
}

TEST(other_terms_are_told_on_one_host)
{
    odd o = {.hosts = 1};
    on_hosts(1);
    threads_run(3, disagree, &o);
    CHECK(o.told[0] && o.told[1] && o.told[2]);
}

TEST(other_terms_are_told_between_hosts)
{
    odd o = {.hosts = 2};
    on_hosts(2);
    threads_run(2, disagree, &o);
    CHECK(o.told[0] && o.told[1]);
}
