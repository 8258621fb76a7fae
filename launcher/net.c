/* net -- see net.h. */
#include "launcher/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <math.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct in_addr number_of(const struct sockaddr *address)
{
    return ((const struct sockaddr_in *)address)->sin_addr;
}

/* ---- an interface ---- */

static bool find_interface(const char *name, char address[NET_ADDRESS_SIZE])
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
    return found;
}

static bool of_interface(const char *name, char address[NET_ADDRESS_SIZE])
{
    bool found = find_interface(name, address);
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

bool net_same(const char *iface, const char *other)
{
    char address[NET_ADDRESS_SIZE], mine[NET_NETWORK_SIZE], theirs[NET_NETWORK_SIZE];
    return find_interface(iface, address) && net_network(address, mine) &&
           find_interface(other, address) && net_network(address, theirs) && !strcmp(mine, theirs);
}

/* ---- an interface's speed ---- */

/* What /sys/class/net/IFACE/speed says, asked the way that also works in a container: its /sys is
 * often that of the host outside. 0: a loopback or wireless one, or a driver that does not tell. */
static int speed_of(const char *iface)
{
    struct ethtool_cmd settings = {.cmd = ETHTOOL_GSET};
    struct ifreq request = {.ifr_data = (char *)&settings};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", iface);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 && ioctl(fd, SIOCETHTOOL, &request) == 0;
    if (fd >= 0)
        close(fd);
    int64_t speed = known ? ethtool_cmd_speed(&settings) : 0;
    return speed > 0 && speed < INT32_MAX ? (int)speed : 0;
}

void net_link(const char *address, char *link, size_t size)
{
    struct ifaddrs *all = NULL;
    struct in_addr wanted;
    *link = 0;
    if (inet_pton(AF_INET, address, &wanted) != 1 || getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i && !*link; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
            number_of(i->ifa_addr).s_addr != wanted.s_addr)
            continue;
        int speed = speed_of(i->ifa_name);
        snprintf(link, size, speed ? "%s %d" : "%s", i->ifa_name, speed);
    }
    freeifaddrs(all);
}

/* ---- who is there ---- */

/* Any port would do; this one is rarely behind a wall that swallows the question. -1: no address,
 * or no way there. */
static int knock(const char *name, bool *there)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *to = NULL;
    *there = false;
    if (getaddrinfo(name, "22", &hints, &to) != 0)
        return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) {
        *there = errno == ECONNREFUSED;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(to);
    return fd;
}

static bool answered(int fd)
{
    int error = 0;
    socklen_t length = sizeof error;
    bool known = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0;
    return known && (error == 0 || error == ECONNREFUSED);
}

void net_answers(const char *const *names, int n, double seconds, bool *there)
{
    struct pollfd *on = base_alloc((size_t)n + 1, sizeof *on);
    double until = torc_seconds() + seconds;
    int waiting = 0;
    for (int i = 0; i < n; i++) {
        on[i] = (struct pollfd){.fd = knock(names[i], &there[i]), .events = POLLOUT};
        waiting += on[i].fd >= 0;
    }
    while (waiting > 0 && torc_seconds() < until) {
        if (poll(on, (nfds_t)n, (int)ceil(1e3 * fmax(0, until - torc_seconds()))) <= 0)
            break;
        for (int i = 0; i < n; i++) {
            if (on[i].fd < 0 || !on[i].revents)
                continue;
            there[i] = answered(on[i].fd);
            close(on[i].fd);
            on[i].fd = -1;
            waiting--;
        }
    }
    for (int i = 0; i < n; i++)
        if (on[i].fd >= 0)
            close(on[i].fd);
    free(on);
}
