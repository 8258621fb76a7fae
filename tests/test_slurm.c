/* test_slurm -- Slurm's lists of hosts and tasks; those expected are what `scontrol show hostnames`
 * makes of them. It refuses one of these forms, a name that goes on behind its bracket
 * (n[08-11]-ib, as of Slurm 22.05); there the meaning is that of other tools that write it. */
#include "launcher/hosts.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/slurm.c"

#include "tests/harness.h"

static void check_names(const char *list, const char *expected)
{
    char words[4096] = "";
    hosts all = {0};
    CHECK(slurm_expand_names(&all, list));
    for (int i = 0; i < all.n; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", i ? " " : "",
                 all.of[i].name);
    CHECK_TEXT(words, expected);
    hosts_free(&all);
}

TEST(names)
{
    check_names("n1", "n1");
    check_names("n[01-03,7],m5", "n01 n02 n03 n7 m5");
    check_names("n[8-11]", "n8 n9 n10 n11");
    check_names("n[08-11]-ib", "n08-ib n09-ib n10-ib n11-ib");
    check_names("r[1-2]n[1,4],x", "r1n1 r1n4 r2n1 r2n4 x");
    check_names("a,b,c", "a b c");
}

TEST(what_is_no_list_is_refused)
{
    static const char *const lists[] = {"",     ",",      "a,",       "n[",      "n[]",
                                        "n[1",  "n[1-]",  "n[3-1]",   "n[a]",    "n[1,]",
                                        "n]1[", "-n[1]",  "n[1-2",    "a b",     "n[1--2]",
                                        "$(x)", "n[1;2]", "n[1-2]]x", "n[1[2]]", "n[1-9999999999]"};
    for (int i = 0; i < ARRAY_LENGTH(lists); i++) {
        hosts all = {0};
        test_check(!slurm_expand_names(&all, lists[i]), __FILE__, __LINE__, "%s", lists[i]);
        hosts_free(&all);
    }
}

static bool tasks_fit(const char *tasks, const char *expected)
{
    char words[256] = "";
    hosts all = {0};
    CHECK(slurm_expand_names(&all, "n[1-4]"));
    bool fine = slurm_expand_tasks(&all, tasks);
    for (int i = 0; i < all.n; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%d ", all.of[i].slots);
    if (fine)
        CHECK_TEXT(words, expected);
    hosts_free(&all);
    return fine;
}

TEST(tasks)
{
    CHECK(tasks_fit("4(x2),3,1", "4 4 3 1 "));
    CHECK(tasks_fit("2(x4)", "2 2 2 2 "));
    CHECK(!tasks_fit("2(x3)", ""));
    CHECK(!tasks_fit("2(x5)", ""));
    CHECK(!tasks_fit("1,2,3", ""));
    CHECK(!tasks_fit("1,2,3,4,5", ""));
    CHECK(!tasks_fit("0(x4)", ""));
    CHECK(!tasks_fit("2(4)", ""));
    CHECK(!tasks_fit("", ""));
}
