/* net -- see net.h. */
#include "launcher/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct in_addr number_of(const struct sockaddr *address)
{
    return ((const struct sockaddr_in *)address)->sin_addr;
}

/* ---- an interface ---- */

static bool of_interface(const char *name, char address[NET_ADDRESS_SIZE])
{
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all) != 0)
        all = NULL;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (strcmp(i->ifa_name, name) || !i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        struct in_addr number = number_of(i->ifa_addr);
        found = inet_ntop(AF_INET, &number, address, NET_ADDRESS_SIZE);
    }
    if (all)
        freeifaddrs(all);
    if (!found)
        fail(TORC_ERR_PEER, "--iface %s: there is no such interface with an IPv4 address", name);
    return found;
}

/* ---- a route ---- */

/* A connected UDP socket sends nothing, but knows the address it would send from. */
static bool towards(const char *remote, char address[NET_ADDRESS_SIZE])
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *to = NULL;
    int error = getaddrinfo(remote, "9", &hints, &to);
    if (error) {
        fail(TORC_ERR_PEER, "nobody knows the address of host %s: %s", remote, gai_strerror(error));
        return false;
    }
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) == 0 &&
                 getsockname(fd, (struct sockaddr *)&from, &length) == 0 &&
                 inet_ntop(AF_INET, &from.sin_addr, address, NET_ADDRESS_SIZE);
    if (!found)
        fail(TORC_ERR_PEER, "no way leads to host %s: %s", remote, strerror(errno));
    if (fd >= 0)
        close(fd);
    freeaddrinfo(to);
    return found;
}

bool net_address(const char *iface, const char *remote, char address[NET_ADDRESS_SIZE])
{
    if (iface)
        return of_interface(iface, address);
    if (remote)
        return towards(remote, address);
    strcpy(address, "127.0.0.1");
    return true;
}

/* ---- the network around an address ---- */

bool net_network(const char *address, char network[NET_NETWORK_SIZE])
{
    struct ifaddrs *all = NULL;
    struct in_addr wanted;
    bool found = false;
    if (inet_pton(AF_INET, address, &wanted) != 1 || getifaddrs(&all) != 0)
        return false;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || !i->ifa_netmask || i->ifa_addr->sa_family != AF_INET ||
            number_of(i->ifa_addr).s_addr != wanted.s_addr)
            continue;
        struct in_addr mask = number_of(i->ifa_netmask), base = {wanted.s_addr & mask.s_addr};
        char text[NET_ADDRESS_SIZE];
        found = inet_ntop(AF_INET, &base, text, sizeof text);
        snprintf(network, NET_NETWORK_SIZE, "%s/%d", text, __builtin_popcount(mask.s_addr));
    }
    freeifaddrs(all);
    return found;
}
