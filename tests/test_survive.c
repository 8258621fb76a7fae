/* test_survive -- which ranks go where when hosts have gone. */
#include "launcher/hosts.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/place.c"
#include "launcher/survive.c"

#include "tests/harness.h"

/* "b" or "b c" of the hosts in `list` go; `expected` is where the ranks are then: a:2 c:2. */
static void check(const char *list, wish w, const char *lost, const char *expected)
{
    char words[256] = "";
    hosts known = {0};
    bool gone[16] = {false};
    CHECK(hosts_add_list(&known, list));
    hosts now = hosts_copy(&known);
    CHECK_INT(place_ranks(&now, &w), 0);
    for (int i = 0; i < known.n; i++)
        gone[i] = strstr(lost, known.of[i].name) != NULL;
    int ranks = survive(&now, &known, gone, &w), sum = 0;
    for (int i = 0; ranks && i < now.n; i++) {
        size_t used = strlen(words);
        snprintf(words + used, sizeof words - used, "%s%s:%d", i ? " " : "", now.of[i].name,
                 now.of[i].ranks);
        sum += now.of[i].ranks;
    }
    CHECK_INT(sum, ranks);
    CHECK_TEXT(ranks ? words : torc_last_error(), expected);
    hosts_free(&now);
    hosts_free(&known);
}

TEST(nobody_gone)
{
    check("a:2,b:2", (wish){.cores = 1}, "", "a:2 b:2");
}

TEST(a_spare_host_takes_the_numbers)
{
    wish w = {.least = 2, .most = 3, .cores = 1};
    check("a:2,b:2,c:2,d:2", w, "b", "a:2 d:2 c:2");
    check("a:2,b:2,c:2,d:2", w, "c", "a:2 b:2 d:2");
    check("a:2,b:2,c:2,d:4,e:2", w, "a b", "d:2 e:2 c:2");
    check("a:4,b:4,c:2,d:2", (wish){.ranks = 8, .cores = 1}, "b", "a:4 c:2 d:2");
}

TEST(free_slots_take_them)
{
    check("a:4,b:4,c:4", (wish){.ranks = 6, .least = 2, .most = 3, .cores = 1}, "b", "a:4 c:2");
    check("a:2,b:2,c:4", (wish){.ranks = 6, .least = 3, .most = 3, .cores = 1}, "a",
          "2 hosts are left, and the job needs 3 (--nnodes)");
    check("a:2,b:2,c:4", (wish){.ranks = 6, .cores = 1}, "a", "c:2 b:2 c:2");
}

TEST(the_world_shrinks)
{
    wish w = {.least = 1, .most = 3, .cores = 1};
    check("a:2,b:2,c:2", w, "b", "a:2 c:2");
    check("a:2,b:2,c:2", w, "a c", "b:2");
    check("a:2,b:3,c:2", w, "b", "a:2 c:2");
    check("a,b,c", (wish){.per_host = 3, .least = 2, .most = 3}, "a", "b:3 c:3");
}

TEST(too_few)
{
    check("a:2,b:2", (wish){.cores = 1}, "b",
          "1 host is left, with room for 2 of 4 ranks (--nnodes MIN:MAX allows fewer)");
    check("a:2,b:2,c:2", (wish){.least = 2, .most = 3, .cores = 1}, "a b",
          "1 host is left, and the job needs 2 (--nnodes)");
    check("a:2,b:2", (wish){.least = 2, .most = 2, .cores = 1}, "a",
          "1 host is left, and the job needs 2 (--nnodes)");
    check("a:2,b:2", (wish){.cores = 1}, "a b", "no host is left");
}

/* What was too much before stays so: nobody is moved for it. */
TEST(oversubscribed_hosts_stay)
{
    wish w = {.ranks = 8, .least = 1, .most = 2, .cores = 1};
    check("a:2,b:2", w, "b", "a:4");
}

TEST(twice)
{
    hosts known = {0};
    wish w = {.ranks = 4, .least = 1, .most = 3, .cores = 1};
    CHECK(hosts_add_list(&known, "a:2,b:2,c:4"));
    hosts now = hosts_copy(&known);
    CHECK_INT(place_ranks(&now, &w), 0); /* 2 1 1: spread */
    bool gone[3] = {true};
    CHECK_INT(survive(&now, &known, gone, &w), 4);
    CHECK_INT(hosts_different(&now), 2);
    gone[1] = true;
    CHECK_INT(survive(&now, &known, gone, &w), 4);
    CHECK_INT(hosts_different(&now), 1);
    CHECK_INT(now.n, 1);
    hosts_free(&now);
    hosts_free(&known);
}
