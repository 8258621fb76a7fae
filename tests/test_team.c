/* Teams: every element has one owner on each host, every leaf one rank, whatever the hosts. */
#include "allreduce/reduction.h"
#include "tests/harness.h"
#include "tests/threads.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct survey {
    int leaves;
    size_t count;
    int owners[16][300]; /* owners[host][element]: ranks whose slice has it */
    int holders[64];     /* of a leaf */
    int hosts, slices;
} survey;

static void look(comm *c, void *context)
{
    survey *s = context;
    team *t;
    size_t first, end;
    CHECK(team_open(c, 4096, s->leaves, 1, &t) == TORC_OK);
    reduction_slice(t, s->count, TORC_F32, &first, &end);
    for (size_t i = first; i < end; i++)
        __atomic_fetch_add(&s->owners[t->host][i], 1, __ATOMIC_RELAXED);
    for (int leaf = t->mine.first; leaf < t->mine.end; leaf++)
        __atomic_fetch_add(&s->holders[leaf], 1, __ATOMIC_RELAXED);
    if (comm_rank(c) == 0) {
        s->hosts = t->hosts;
        s->slices = t->slices;
    }
    for (int h = 0; t->peer && h < t->hosts; h++)
        CHECK((t->peer[h] == comm_rank(c)) == (h == t->host));
    CHECK_INT(t->rank_of[t->local], comm_rank(c));
    CHECK(comm_barrier(c, "everyone has looked") == TORC_OK);
    team_close(t);
}

static survey surveyed(int ranks, int hosts, int leaves, size_t count)
{
    char text[16];
    survey s = {.leaves = leaves, .count = count};
    snprintf(text, sizeof text, "%d", hosts);
    setenv("TORC_FAKE_HOSTS", text, 1);
    threads_run(ranks, look, &s);
    for (int h = 0; h < s.hosts; h++)
        for (size_t i = 0; i < count; i++)
            if (s.owners[h][i] != 1)
                CHECK_INT(s.owners[h][i], 1);
    for (int leaf = 0; leaf < (leaves ? leaves : ranks); leaf++)
        CHECK_INT(s.holders[leaf], 1);
    return s;
}

TEST(one_host)
{
    for (int ranks = 1; ranks <= 6; ranks++)
        CHECK_INT(surveyed(ranks, 1, 0, 300).slices, ranks);
    surveyed(4, 1, 0, 0);
    surveyed(4, 1, 0, 17); /* two cache lines for four ranks */
}

TEST(hosts_of_unequal_size_share_by_the_smallest)
{
    survey s = surveyed(7, 3, 0, 300);
    CHECK_INT(s.hosts, 3);
    CHECK_INT(s.slices, 2);
}

TEST(leaves)
{
    surveyed(3, 2, 8, 100);
    surveyed(5, 2, 13, 100);
}

TEST(without_shared_memory_every_rank_is_a_host)
{
    setenv("TORC_SHM", "private", 1);
    survey s = surveyed(4, 2, 5, 100);
    CHECK_INT(s.hosts, 4);
    CHECK_INT(s.slices, 1);
}
