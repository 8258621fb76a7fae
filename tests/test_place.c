/* test_place -- which ranks go on which host. */
#include "launcher/hosts.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/place.c"

#include "tests/harness.h"

static void check_placed(hosts *all, wish w, const char *expected)
{
    char words[256] = "";
    int code = place_ranks(all, &w);
    for (int i = 0; i < all->n && !code; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s%d", i ? " " : "",
                 all->of[i].name, all->of[i].ranks);
    if (code)
        snprintf(words, sizeof words, "%d: %s", code, torc_last_error());
    CHECK_TEXT(words, expected);
}

static void check_place(const char *list, wish w, const char *expected)
{
    hosts all = {0};
    CHECK(hosts_add_list(&all, list));
    check_placed(&all, w, expected);
    hosts_free(&all);
}

TEST(ranks_follow_the_hosts)
{
    check_place("a:4,b:4,c:4", (wish){.cores = 9}, "a4 b4 c4");
    check_place("a:4,b:4,c:4", (wish){.ranks = 6}, "a4 b2");
    check_place("a:4,b:4,c:4", (wish){.ranks = 6, .least = 3, .most = 3}, "a2 b2 c2");
    check_place("a:4,b:4,c:4", (wish){.per_host = 2}, "a2 b2 c2");
    check_place("a:4,b:4,c:4", (wish){.per_host = 2, .ranks = 3}, "a2 b1");
    check_place("a:4,b:4,c:4", (wish){.least = 1, .most = 2}, "a4 b4");
    check_place("a:1,b:3", (wish){.ranks = 4}, "a1 b3");
    check_place("a:1,b:3", (wish){.ranks = 7}, "a3 b4");
}

TEST(hosts_without_numbers)
{
    check_place("a,b", (wish){.cores = 8}, "a8 b8");
    check_place("a,b", (wish){.cores = 8, .ranks = 5}, "a3 b2");
    check_place("a,b,c", (wish){.cores = 8, .ranks = 2}, "a1 b1");
    check_place("a,b:2", (wish){.cores = 3, .ranks = 4}, "a3 b1");
}

TEST(hosts_that_were_counted)
{
    static const struct {
        wish w;
        const char *expected;
    } cases[] = {
        {{.per_host = 4}, "a2 b4 c1"},
        {{.per_host = 4, .ranks = 5}, "a2 b3"},
        {{.per_host = 4, .ranks = 7, .least = 3, .most = 3}, "a2 b4 c1"},
        {{.per_host = 4, .ranks = 6, .least = 3, .most = 3},
         "64: 6 ranks are not the 7 that 3 hosts take together"},
        {{.per_host = 4, .ranks = 8}, "69: 8 ranks, 4 on a host, need 2 hosts, and 3 are known"},
        {{.cores = 9}, "a2 b4 c1"}}; /* without --nproc-per-node: their cores */
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        hosts all = {0};
        CHECK(hosts_add_list(&all, "a,b,c"));
        for (int k = 0; k < 3; k++)
            all.of[k].counted = (int[]){2, 4, 1}[k];
        check_placed(&all, cases[i].w, cases[i].expected);
        hosts_free(&all);
    }
}

TEST(contradictions_and_too_few)
{
    check_place("a,b", (wish){.least = 3, .most = 3, .per_host = 1},
                "69: the job needs 3 hosts, and 2 are known (--hosts)");
    check_place("a", (wish){.per_host = 2, .ranks = 3},
                "69: 3 ranks, 2 on a host, need 2 hosts, and 1 is known");
    check_place("a,b", (wish){.per_host = 2, .ranks = 3, .least = 2, .most = 2},
                "64: 3 ranks are not 2 on each of 2 hosts");
    check_place("a:1", (wish){.per_host = 2},
                "64: --nproc-per-node is 2, but host a has room for 1 (--oversubscribe: it is "
                "meant)");
    check_place("a:1", (wish){.per_host = 2, .oversubscribe = true}, "a2");
    check_place("a,b", (wish){.ranks = 1, .least = 2, .most = 2},
                "64: 1 ranks are too few for 2 hosts");
}

TEST(nnodes)
{
    wish w = {0};
    CHECK(place_read_nnodes("3", &w) && w.least == 3 && w.most == 3);
    CHECK(place_read_nnodes("2:4", &w) && w.least == 2 && w.most == 4);
    static const char *const bad[] = {"", "0", "4:2", "2:", ":2", "2:4:6", "two", "2 ", "-1"};
    for (int i = 0; i < ARRAY_LENGTH(bad); i++)
        test_check(!place_read_nnodes(bad[i], &w), __FILE__, __LINE__, "\"%s\"", bad[i]);
}
