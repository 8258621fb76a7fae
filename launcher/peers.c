/* peers -- see peers.h. */
#define _GNU_SOURCE /* accept4 */
#include "launcher/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- telling ---- */

void peers_tell(peer *p, const report *r)
{
    text line = {0};
    report_write(&line, r);
    if (p->fd >= 0 && p->rank >= 0)
        report_send(p->fd, &line); /* one that is gone shows by the end of its connection */
    text_free(&line);
}

void peers_tell_all(peers *all, const report *r)
{
    for (int i = 0; i < all->n; i++)
        peers_tell(&all->of[i], r);
}

bool peers_any(const peers *all)
{
    bool any = false;
    for (int i = 0; i < all->n; i++)
        any = any || all->of[i].rank >= 0;
    return any;
}

/* ---- hearing ---- */

static bool take(void *context, const char *line, size_t length)
{
    peer *p = context;
    report r;
    bool fine = report_read(line, length, &r) && p->home->message(p->home->owner, p, &r);
    if (!fine)
        shutdown(p->fd, SHUT_RDWR); /* its end is then read as any other */
    return fine;
}

static void drop(peer *p)
{
    close(p->fd);
    p->fd = -1;
    text_free(&p->rest);
    if (p->rank >= 0)
        p->home->gone(p->home->owner, p->rank);
}

static void hear(peer *p)
{
    char piece[65536];
    ssize_t n = recv(p->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n > 0)
        text_lines(&p->rest, piece, (size_t)n, REPORT_LIMIT, take, p);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        drop(p);
}

static void accept_one(peers *all)
{
    int fd = accept4(all->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (all->n >= all->most) {
        close(fd);
        return;
    }
    all->of = base_grow(all->of, (size_t)all->n + 1, sizeof *all->of);
    report_set_patience(fd, 1); /* who takes no bytes is gone, and nobody waits for that here */
    all->of[all->n++] = (peer){.home = all, .fd = fd, .rank = -1};
}

static void forget(peers *all)
{
    int kept = 0;
    for (int i = 0; i < all->n; i++)
        if (all->of[i].fd >= 0)
            all->of[kept++] = all->of[i];
    all->n = kept;
}

/* The listener is the first of the descriptors, then the peers in their order. */
int peers_poll_size(const peers *all)
{
    return 1 + all->n;
}

void peers_watch(const peers *all, struct pollfd *on)
{
    on[0] = (struct pollfd){.fd = all->listener, .events = POLLIN};
    for (int i = 0; i < all->n; i++)
        on[1 + i] = (struct pollfd){.fd = all->of[i].fd, .events = POLLIN};
}

void peers_hear(peers *all, const struct pollfd *on, int watched)
{
    for (int i = 0; i + 1 < watched; i++)
        if (on[1 + i].revents && all->of[i].fd >= 0)
            hear(&all->of[i]);
    if (on[0].revents && all->listener >= 0)
        accept_one(all);
    forget(all);
}

/* ---- the end ---- */

void peers_stop_listening(peers *all)
{
    if (all->listener >= 0)
        close(all->listener);
    all->listener = -1;
}

void peers_drop_rank(peers *all, int rank)
{
    for (int i = 0; i < all->n; i++)
        if (all->of[i].fd >= 0 && all->of[i].rank == rank)
            drop(&all->of[i]);
    forget(all);
}

void peers_drop_all(peers *all)
{
    for (int i = 0; i < all->n; i++)
        if (all->of[i].fd >= 0)
            drop(&all->of[i]);
    forget(all);
}

void peers_free(peers *all)
{
    peers_stop_listening(all);
    for (int i = 0; i < all->n; i++) {
        close(all->of[i].fd);
        text_free(&all->of[i].rest);
    }
    free(all->of);
    all->of = NULL;
    all->n = 0;
}
