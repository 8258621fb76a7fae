/*
 * net -- which address of this host the other hosts of a job can reach.
 *
 *     --iface eth1                  -> the first address of eth1
 *     a remote host  n1 = 10.0.0.7  -> the address that packets to 10.0.0.7 would bear
 *     neither                       -> 127.0.0.1
 *
 * Addresses are numbers throughout: a name may mean something else on another host.
 */
#ifndef LAUNCHER_NET_H
#define LAUNCHER_NET_H

#include "core/base.h"

enum { NET_ADDRESS_SIZE = 16, NET_NETWORK_SIZE = 24 };

/* `iface` and `remote` may be NULL. False with a sentence in torc_last_error(): there is no such
 * interface, or nobody knows the host. */
bool net_address(const char *iface, const char *remote, char address[NET_ADDRESS_SIZE]);

/* The network that an address of this host belongs to, "10.0.0.0/24"; false where there is none. */
bool net_network(const char *address, char network[NET_NETWORK_SIZE]);

/* Whether two interfaces of this host are in one network, with different addresses or the same. */
bool net_same(const char *iface, const char *other);

/* The interface of an address of this host and, where its driver tells, how fast it is in Mbit/s:
 * "eth0 10000", "lo". "": none has this address. */
void net_link(const char *address, char *link, size_t size);

/* Which of these hosts are there: there[n]. All are asked at once, for at most so many seconds; one
 * that refuses a connection is as much there as one that takes it. */
void net_answers(const char *const *names, int n, double seconds, bool *there);

#endif
