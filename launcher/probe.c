/* probe -- see probe.h. */
#define _GNU_SOURCE /* accept4 */
#include "launcher/probe.h"

#include "launcher/net.h"
#include "launcher/report.h"
#include "launcher/say.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const unsigned life_seconds = 40;
static const int patience = 5; /* seconds for a message to be taken */
static const double send_seconds = 0.3, receive_seconds = 1, warm_seconds = 0.05;
enum { PIECE = 1 << 18 };

typedef struct probe {
    int torcrun, listener;
    text rest;
    pthread_t sender;
    char to[64]; /* where the sender sends */
    bool sending, leaving;
} probe;

static void tell(const probe *p, const report *r)
{
    text out = {0};
    report_write(&out, r);
    if (!report_send(p->torcrun, &out))
        exit(EXIT_LAUNCHER);
    text_free(&out);
}

static void tell_fact(const probe *p, const facts *f, fact which)
{
    char *line = base_format("%s=%s", fact_names[which], f->of[which]);
    tell(p, &(report){.kind = REPORT_LINE, .line = line, .length = strlen(line)});
    free(line);
}

/* ---- a stream ---- */

static void *send_stream(void *context)
{
    probe *p = context;
    char *piece = base_alloc(PIECE, 1);
    int fd = report_connect(p->to);
    double until = torc_seconds() + send_seconds;
    if (fd >= 0)
        report_set_patience(fd, 1);
    while (fd >= 0 && torc_seconds() < until && send(fd, piece, PIECE, MSG_NOSIGNAL) > 0) {
    }
    if (fd >= 0)
        close(fd);
    free(piece);
    return NULL;
}

/* Counted where the bytes come out: where they go in, megabytes fit into the kernel's buffers and
 * would seem to have travelled in no time. TCP begins slowly, so the first moment is left out. */
static double receive_stream(int fd)
{
    char *piece = base_alloc(PIECE, 1);
    double began = torc_seconds(), warm = 0, last = began, bytes = 0;
    struct pollfd on = {.fd = fd, .events = POLLIN};
    while (last < began + receive_seconds && poll(&on, 1, 1000) > 0) {
        ssize_t n = recv(fd, piece, PIECE, MSG_DONTWAIT);
        if (n <= 0 && (n == 0 || errno != EAGAIN))
            break;
        last = torc_seconds();
        if (warm > 0)
            bytes += (double)(n > 0 ? n : 0);
        else if (last > began + warm_seconds)
            warm = last;
    }
    free(piece);
    return warm > 0 && last > warm ? bytes / (last - warm) : 0;
}

static void take_stream(probe *p)
{
    facts f;
    int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    snprintf(f.of[FACT_RATE], FACT_SIZE, "%.3g", receive_stream(fd));
    close(fd);
    tell_fact(p, &f, FACT_RATE);
}

static bool obey(void *context, const char *line, size_t length)
{
    probe *p = context;
    report r;
    if (!report_read(line, length, &r) || r.kind == REPORT_LEAVE)
        p->leaving = true;
    else if (r.kind == REPORT_LINE && !p->sending && r.length < sizeof p->to) {
        memcpy(p->to, r.line, r.length);
        p->to[r.length] = 0;
        p->sending = pthread_create(&p->sender, NULL, send_stream, p) == 0;
    }
    return !p->leaving;
}

static void hear(probe *p)
{
    char piece[512];
    ssize_t n = recv(p->torcrun, piece, sizeof piece, MSG_DONTWAIT);
    if (n > 0)
        text_lines(&p->rest, piece, (size_t)n, REPORT_LIMIT, obey, p);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        p->leaving = true;
}

/* ---- the whole ---- */

/* On the address that torcrun sees this host at: hosts can reach each other by it as well. */
static void offer_stream(probe *p, facts *f)
{
    struct sockaddr_in me;
    socklen_t length = sizeof me;
    char address[NET_ADDRESS_SIZE];
    if (getsockname(p->torcrun, (struct sockaddr *)&me, &length) != 0 ||
        !inet_ntop(AF_INET, &me.sin_addr, address, sizeof address))
        return;
    net_link(address, f->of[FACT_LINK], FACT_SIZE);
    p->listener = report_listen(address, f->of[FACT_STREAM], FACT_SIZE);
}

_Noreturn void probe_main(int rank, const char *address, const char *token)
{
    probe p = {.listener = -1};
    facts f;
    report hello = {.kind = REPORT_HELLO, .rank = rank};
    alarm(life_seconds);
    p.torcrun = report_connect(address);
    if (p.torcrun < 0)
        quit(EXIT_LAUNCHER, "%s", torc_last_error());
    report_set_patience(p.torcrun, patience);
    strncpy(hello.token, token, sizeof hello.token - 1);
    if (gethostname(hello.host, sizeof hello.host - 1) != 0 || !hello.host[0])
        strcpy(hello.host, "?");
    tell(&p, &hello);
    facts_here(&f);
    offer_stream(&p, &f);
    for (int i = 0; i <= FACT_STREAM; i++)
        tell_fact(&p, &f, (fact)i);
    while (!p.leaving) {
        struct pollfd on[] = {{.fd = p.torcrun, .events = POLLIN},
                              {.fd = p.listener, .events = POLLIN}};
        if (poll(on, ARRAY_LENGTH(on), -1) < 0)
            continue;
        if (on[0].revents)
            hear(&p);
        if (on[1].revents)
            take_stream(&p);
    }
    exit(0);
}
