/* relay -- see relay.h. */
#define _GNU_SOURCE /* pipe2 */
#include "launcher/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { RELAY_SIZE = 65536 };

int relay_open(relay *r)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    fcntl(ends[1], F_SETFL, O_NONBLOCK); /* a program that does not read must not stop torcrun */
    r->to = ends[1];
    if (!r->bytes)
        r->bytes = base_alloc(RELAY_SIZE, 1);
    if (r->over && r->from == r->used)
        relay_close(r);
    return ends[0];
}

/* A job in the background of a shell would be stopped for reading the terminal. Who has no
 * terminal of his own may read from another's. */
static bool may_read(void)
{
    pid_t owner = tcgetpgrp(STDIN_FILENO);
    return owner < 0 || owner == getpgrp();
}

void relay_watch(const relay *r, struct pollfd on[2])
{
    bool empty = r->from == r->used;
    bool reads = r->to >= 0 && !r->over && empty && may_read();
    on[0] = (struct pollfd){.fd = reads ? STDIN_FILENO : -1, .events = POLLIN};
    on[1] = (struct pollfd){.fd = r->to, .events = empty ? 0 : POLLOUT}; /* 0: only its end */
}

void relay_move(relay *r, const struct pollfd on[2])
{
    if (on[0].fd >= 0 && on[0].revents) {
        ssize_t n = read(STDIN_FILENO, r->bytes, RELAY_SIZE);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            r->over = true;
            relay_close(r);
            return;
        }
        r->from = 0;
        r->used = n > 0 ? (size_t)n : 0;
    }
    if (r->from < r->used) {
        ssize_t n = write(r->to, r->bytes + r->from, r->used - r->from);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            relay_close(r);
        r->from += n > 0 ? (size_t)n : 0;
    } else if (on[1].revents & (POLLERR | POLLHUP)) {
        relay_close(r); /* mpirun reads no more */
    }
}

void relay_close(relay *r)
{
    if (r->to >= 0)
        close(r->to);
    r->to = -1;
}

void relay_free(relay *r)
{
    relay_close(r);
    free(r->bytes);
    *r = (relay){.to = -1};
}
