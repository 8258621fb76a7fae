/* test_hosts -- lists and files of hosts, and which of them is this one. */
#include "launcher/hosts.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

#include <stdlib.h>

static char *in_words(const hosts *all)
{
    static char words[4096];
    words[0] = 0;
    for (int i = 0; i < all->n; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s:%d ", all->of[i].name,
                 all->of[i].slots);
    return words;
}

static void check_list(const char *list, const char *expected)
{
    hosts all = {0};
    CHECK(hosts_add_list(&all, list));
    CHECK_TEXT(in_words(&all), expected);
    hosts_free(&all);
}

static void check_refused(const char *list, const char *says)
{
    hosts all = {0};
    CHECK(!hosts_add_list(&all, list));
    CHECK_TEXT(torc_last_error(), says);
    hosts_free(&all);
}

TEST(lists)
{
    check_list("a:4,b:2", "a:4 b:2 ");
    check_list("b,a:1", "b:0 a:1 ");
    check_list("a:1,b:1,a:2", "a:3 b:1 ");
    check_list("10.0.0.7:8,node-1.cluster_2.example:1", "10.0.0.7:8 node-1.cluster_2.example:1 ");
}

TEST(no_name_can_be_an_option_or_a_command)
{
    check_refused("", "\"\" is no name of a host");
    check_refused("a,,b", "\"\" is no name of a host");
    check_refused("-oProxyCommand=x:1", "\"-oProxyCommand=x\" is no name of a host");
    check_refused("a;reboot:1", "\"a;reboot\" is no name of a host");
    check_refused("$(reboot)", "\"$(reboot)\" is no name of a host");
    check_refused("a:0", "\"0\" is no number of ranks for a host");
    check_refused("a:", "\"\" is no number of ranks for a host");
    check_refused("a:4x", "\"4x\" is no number of ranks for a host");
    check_refused("a:-1", "\"-1\" is no number of ranks for a host");
    check_refused("a:99999999999999999999",
                  "\"99999999999999999999\" is no number of ranks for a host");
}

static void check_file(const char *text, bool fine, const char *expected)
{
    hosts all = {0};
    FILE *f = fopen(test_path("hosts"), "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
    CHECK_INT(hosts_read_file(&all, test_path("hosts")), fine);
    if (fine)
        CHECK_TEXT(in_words(&all), expected);
    else
        test_check(strstr(torc_last_error(), expected), __FILE__, __LINE__, "%s",
                   torc_last_error());
    hosts_free(&all);
}

TEST(files)
{
    check_file("# a cluster\n\na slots=4\n  b:2  # the small one\r\nc\n", true, "a:4 b:2 c:0 ");
    check_file("a slots=2 max_slots=8\nb max_slots=8\na slots=1", true, "a:3 b:0 ");
    check_file("a\nb slots=many\n", false, "hosts:2: \"many\" is no number of ranks");
    check_file("# nobody\n", false, "names no host");
    CHECK(!hosts_read_file(&(hosts){0}, "/no/such/file"));
}

TEST(this_host_has_many_names)
{
    char me[256] = "";
    gethostname(me, sizeof me - 1);
    CHECK(host_is_here(me));
    CHECK(host_is_here("localhost"));
    CHECK(host_is_here("127.0.0.1"));
    CHECK(!host_is_here("192.0.2.1")); /* set aside for documents: nobody's */
    CHECK(!host_is_here("no-such-host"));
    CHECK(same_name("n1", "n1.cluster"));
    CHECK(!same_name("n1", "n10"));
    CHECK(!same_name("n1.a", "n1.b"));
}

TEST(ipv6_addresses_are_refused_as_such)
{
    static const char *const lists[] = {"::1", "[::1]", "a:2,[fe80::1]:4", "fe80::1%eth0"};
    for (int i = 0; i < ARRAY_LENGTH(lists); i++) {
        hosts all = {0};
        test_check(!hosts_add_list(&all, lists[i]) && strstr(torc_last_error(), "an IPv6 address"),
                   __FILE__, __LINE__, "%s: %s", lists[i], torc_last_error());
        hosts_free(&all);
    }
}
