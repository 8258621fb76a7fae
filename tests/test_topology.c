/* Masks to shares, quotas to cores, and hosts of other shapes through HWLOC_SYNTHETIC. */
#define _GNU_SOURCE /* CPU_SET */
#include "comm/backend.h"
#include "comm/comm.h"
#include "tests/harness.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The cores [first, first + n). */
static comm_cores_set cores(int first, int n)
{
    comm_cores_set s = {{0}};
    for (int i = first; i < first + n; i++)
        s.bits[i / 64] |= UINT64_C(1) << (i % 64);
    return s;
}

static int count(comm_cores_set s)
{
    int n = 0;
    for (int i = 0; i < COMM_MAX_CORES / 64; i++)
        n += __builtin_popcountll(s.bits[i]);
    return n;
}

TEST(disjoint_masks_keep_their_own)
{
    comm_cores_set s[] = {cores(0, 4), cores(4, 2), cores(100, 1)};
    CHECK_INT(comm_cores_share(s, 3, 0), 4);
    CHECK_INT(comm_cores_share(s, 3, 1), 2);
    CHECK_INT(comm_cores_share(s, 3, 2), 1);
}

/* n ranks on m cores, none of them bound: floor(m / n), and never none. */
TEST(identical_masks_share)
{
    static comm_cores_set s[64];
    for (int m = 1; m <= 64; m++)
        for (int n = 1; n <= 64; n++) {
            for (int i = 0; i < n; i++)
                s[i] = cores(3, m);
            CHECK_INT(comm_cores_share(s, n, n - 1), m / n > 1 ? m / n : 1);
        }
}

TEST(overlapping_masks_share_what_overlaps)
{
    comm_cores_set s[] = {cores(0, 4), cores(2, 4), cores(60, 8), cores(67, 1)};
    CHECK_INT(comm_cores_share(s, 4, 0), 3); /* 1 + 1 + 1/2 + 1/2 */
    CHECK_INT(comm_cores_share(s, 4, 1), 3);
    CHECK_INT(comm_cores_share(s, 4, 2), 7); /* 7 + 1/2, over the border of two words */
    CHECK_INT(comm_cores_share(s, 4, 3), 1); /* 1/2 */
}

TEST(an_empty_mask_is_one_core)
{
    comm_cores_set s[] = {cores(0, 0), cores(0, 2)};
    CHECK_INT(comm_cores_share(s, 2, 0), 1);
    CHECK_INT(comm_cores_share(s, 2, 1), 2);
}

TEST(hyperthreads_are_not_cores)
{
    setenv("HWLOC_SYNTHETIC", "Package:2 [NUMANode(memory=64GB)] L3Cache:2 Core:4 PU:2", 1);
    comm_cores_set s = comm_cores_allowed();
    CHECK_INT(count(s), 16);
    CHECK_INT(s.bits[0], 0x55555555); /* each named after its first hyperthread */
}

TEST(processors_without_cores_count)
{
    setenv("HWLOC_SYNTHETIC", "Package:1 PU:6", 1);
    CHECK_INT(count(comm_cores_allowed()), 6);
}

TEST(a_host_larger_than_the_set_loses_only_the_rest)
{
    setenv("HWLOC_SYNTHETIC", "Package:1 Core:5 PU:1(indexes=0,4094,4095,4096,9999)", 1);
    CHECK_INT(count(comm_cores_allowed()), 3);
}

TEST(binding_is_seen)
{
    cpu_set_t one;
    int first = 0;
    CHECK_INT(sched_getaffinity(0, sizeof one, &one), 0);
    while (!CPU_ISSET(first, &one))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_INT(count(comm_cores_allowed()), 1);
}

/* ---- quotas ---- */

static void write_quota(const char *group, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", test_path(""), group);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s%s/cpu.max", test_path(""), group);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

TEST(the_least_quota_on_the_way_to_the_root_counts)
{
    write_quota("/a", "250000 100000\n");
    write_quota("/a/b", "max 100000\n");
    write_quota("/a/b/c", "800000 100000\n");
    CHECK_NEAR(comm_cores_quota(test_path(""), "/a/b/c"), 2.5, 1e-12);
    CHECK_NEAR(comm_cores_quota(test_path(""), "/a/b"), 2.5, 1e-12);
    CHECK(isinf(comm_cores_quota(test_path(""), "/")));
    write_quota("", "50000 100000\n"); /* as a container sees its own group */
    CHECK_NEAR(comm_cores_quota(test_path(""), "/"), 0.5, 1e-12);
    CHECK_NEAR(comm_cores_quota(test_path(""), "/a"), 0.5, 1e-12);
}

TEST(a_quota_that_makes_no_sense_limits_nothing)
{
    static const char *const nonsense[] = {"", "max", "-1 100000", "100000", "100000 0", "two"};
    for (int i = 0; i < ARRAY_LENGTH(nonsense); i++) {
        write_quota("/a", nonsense[i]);
        CHECK(isinf(comm_cores_quota(test_path(""), "/a")));
    }
    CHECK(isinf(comm_cores_quota("/no/such/mount", "/a/b")));
}

/* ---- together ---- */

static int cores_of_the_job(void)
{
    comm *c = NULL;
    if (comm_open(&c) != TORC_OK)
        return -1;
    int n = comm_cores(c);
    comm_close(c);
    return n;
}

TEST(alone_all_cores_are_mine)
{
    setenv("HWLOC_SYNTHETIC", "Package:1 Core:1 PU:2", 1);
    CHECK_INT(cores_of_the_job(), 1);
}

TEST_RANKS(three_unbound_ranks_share_sixteen_cores, 3)
{
    if (comm_cores_my_quota() < 16)
        test_skip("this process has a quota of cores\n");
    setenv("HWLOC_SYNTHETIC", "Package:2 Core:8 PU:2", 1);
    CHECK_INT(cores_of_the_job(), 5);
}
