/* test_net -- addresses of this host. */
#include "launcher/net.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

static const char *found(const char *iface, const char *remote)
{
    static char address[NET_ADDRESS_SIZE];
    return net_address(iface, remote, address) ? address : torc_last_error();
}

TEST(addresses)
{
    CHECK_TEXT(found(NULL, NULL), "127.0.0.1");
    CHECK_TEXT(found("lo", "127.0.0.2"), "127.0.0.1");
    CHECK_TEXT(found(NULL, "127.0.0.2"), "127.0.0.1");
    CHECK_TEXT(found("no0", NULL), "--iface no0: there is no such interface with an IPv4 address");
    CHECK(strstr(found(NULL, "no-such-host.invalid"), "no-such-host.invalid"));
}

TEST(networks)
{
    char network[NET_NETWORK_SIZE];
    CHECK(net_network("127.0.0.1", network));
    CHECK_TEXT(network, "127.0.0.0/8");
    CHECK(!net_network("192.0.2.1", network)); /* set aside for documents: nobody's */
    CHECK(!net_network("here", network));
}

TEST(who_is_there)
{
    const char *names[] = {"localhost", "no-such-host.invalid", "127.0.0.1"};
    bool there[3] = {false, true, false};
    net_answers(names, 3, 5, there);
    CHECK(there[0] && !there[1] && there[2]);
    net_answers(names, 0, 5, there);
}
