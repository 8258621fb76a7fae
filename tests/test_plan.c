/* The table of algorithms: by bytes and hosts, learned, or asked for. */
#include "allreduce/plan.h"
#include "tests/harness.h"

#include <stdlib.h>

TEST(the_table)
{
    CHECK(plan_wire(64 << 10, 2) == &wire_exchange);
    CHECK(plan_wire(64 << 20, 2) == &wire_ring);
    CHECK(plan_wire(64 << 10, 5) == &wire_doubling);
    CHECK(plan_wire(64 << 20, 5) == &wire_ring);
    plan_print(3);
}

TEST(what_was_learned_comes_first)
{
    plan_learn(4096, &wire_ring);
    plan_learn(65536, &wire_doubling);
    CHECK(plan_wire(1, 2) == &wire_ring);
    CHECK(plan_wire(4096, 2) == &wire_ring);
    CHECK(plan_wire(4097, 2) == &wire_doubling);
    CHECK(plan_wire(64 << 20, 2) == &wire_doubling);
}

TEST(what_is_asked_for_comes_before_that)
{
    plan_learn(4096, &wire_exchange);
    setenv("TORC_ALLREDUCE", "ring", 1);
    CHECK(plan_wire(64, 5) == &wire_ring);
    CHECK(plan_named("carrier pigeon") == NULL);
}

TEST_DIES(an_unknown_algorithm_is_refused, 1, "expected ring, exchange or doubling, found \"star\"")
{
    setenv("TORC_ALLREDUCE", "star", 1);
    plan_wire(64, 5);
}
