/* report -- see report.h. */
#define _GNU_SOURCE /* accept4 and SOCK_CLOEXEC */
#include "launcher/report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the environment ---- */

static void set_number(const char *name, int n)
{
    char *number = base_format("%d", n);
    setenv(name, number, 1);
    free(number);
}

void report_tell_shims(int ranks, int attempt, const char *address, const char *token)
{
    set_number(REPORT_WORLD_SIZE, ranks);
    set_number(REPORT_ATTEMPT, attempt);
    setenv(REPORT_ADDRESS, address, 1);
    setenv(REPORT_TOKEN, token, 1);
}

/* ---- messages ---- */

/* Those that carry a text: a word in front of it. */
static const struct {
    report_kind kind;
    const char *word;
} texts[] = {{REPORT_LINE, "line "}, {REPORT_OUT, "out "}, {REPORT_PART, "part "}};

static void write_text(text *out, const report *r)
{
    for (int i = 0; i < ARRAY_LENGTH(texts); i++)
        if (texts[i].kind == r->kind)
            text_add(out, texts[i].word, strlen(texts[i].word));
    text_add(out, r->line, r->length);
    text_add(out, "\n", 1);
}

static void write_beat(text *out, const report *r)
{
    const figures *f = &r->figures;
    text_format(out, "beat %lld %d %lld ", (long long)r->age, r->waits, (long long)r->step);
    text_format(out, "%.6g %.6g %lld %lld %s ", f->rate, f->waiting, (long long)f->tensors,
                (long long)f->resident, f->loss[0] ? f->loss : "-");
    text_add(out, r->line, r->length);
    text_add(out, "\n", 1);
}

void report_write(text *out, const report *r)
{
    switch (r->kind) {
    case REPORT_HELLO:
        text_format(out, "hello %s %d %s\n", r->token, r->rank, r->host);
        break;
    case REPORT_START:
        text_format(out, "start %d\n", r->pid);
        break;
    case REPORT_LINE:
    case REPORT_OUT:
    case REPORT_PART:
        write_text(out, r);
        break;
    case REPORT_BEAT:
        write_beat(out, r);
        break;
    case REPORT_WELCOME:
        text_format(out, "welcome %d\n", r->milliseconds);
        break;
    case REPORT_SIGNAL:
        text_format(out, "signal %d %d\n", r->signal, r->milliseconds);
        break;
    case REPORT_EXIT:
        text_format(out, "exit %d %d %d %d\n", r->end.code, r->end.signal, r->end.core,
                    r->end.asked);
        break;
    case REPORT_END:
        text_format(out, "end %d\n", r->milliseconds);
        break;
    case REPORT_LEAVE:
        text_format(out, "leave\n");
        break;
    }
}

static bool of_kind(report *r, report_kind kind, bool well_formed)
{
    r->kind = kind;
    return well_formed;
}

/* r->line is then the rest of `word`. */
static bool read_beat(const char *word, report *r)
{
    int waits, rest = 0;
    long long age, step, tensors, resident;
    figures f;
    int found = sscanf(word, "beat %lld %d %lld %lf %lf %lld %lld %15s %n", &age, &waits, &step,
                       &f.rate, &f.waiting, &tensors, &resident, f.loss, &rest);
    if (found != 8 || rest == 0)
        return false;
    f.tensors = tensors;
    f.resident = resident;
    *r = (report){.age = age, .waits = waits, .step = step, .figures = f, .line = word + rest};
    return true;
}

bool report_read(const char *line, size_t length, report *r)
{
    *r = (report){0};
    for (int i = 0; i < ARRAY_LENGTH(texts); i++) {
        size_t n = strlen(texts[i].word);
        if (length >= n && !memcmp(line, texts[i].word, n)) {
            r->line = line + n;
            r->length = length - n;
            return of_kind(r, texts[i].kind, true);
        }
    }
    char word[1024]; /* sscanf wants a 0 at the end; no other message is long */
    if (length >= sizeof word)
        return false;
    memcpy(word, line, length);
    word[length] = 0;
    int core, asked;
    if (sscanf(word, "hello %32s %d %64s", r->token, &r->rank, r->host) == 3)
        return of_kind(r, REPORT_HELLO, true);
    if (sscanf(word, "start %d", &r->pid) == 1)
        return of_kind(r, REPORT_START, true);
    if (sscanf(word, "exit %d %d %d %d", &r->end.code, &r->end.signal, &core, &asked) == 4) {
        r->end.core = core;
        r->end.asked = asked;
        return of_kind(r, REPORT_EXIT, true);
    }
    if (read_beat(word, r)) {
        size_t before = (size_t)(r->line - word);
        r->line = line + before;
        r->length = length - before;
        return of_kind(r, REPORT_BEAT, true);
    }
    if (sscanf(word, "welcome %d", &r->milliseconds) == 1)
        return of_kind(r, REPORT_WELCOME, true);
    if (sscanf(word, "signal %d %d", &r->signal, &r->milliseconds) == 2)
        return of_kind(r, REPORT_SIGNAL, true);
    if (sscanf(word, "end %d", &r->milliseconds) == 1)
        return of_kind(r, REPORT_END, true);
    return of_kind(r, REPORT_LEAVE, !strcmp(word, "leave"));
}

/* ---- the connection ---- */

void report_new_token(char token[REPORT_TOKEN_SIZE])
{
    unsigned char random[(REPORT_TOKEN_SIZE - 1) / 2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        bug("getrandom: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(token + 2 * i, 3, "%02x", random[i]);
}

int report_listen(const char *host, char *address, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &length) != 0) {
        fail(TORC_ERR_PEER, "cannot listen on %s: %s", host, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    snprintf(address, size, "%s:%d", host, ntohs(at.sin_port));
    return fd;
}

int report_connect(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN];
    unsigned short port;
    if (sscanf(address, "%15[0-9.]:%hu", host, &port) != 2 ||
        inet_pton(AF_INET, host, &to.sin_addr) != 1) {
        fail(TORC_ERR_PEER, REPORT_ADDRESS " is not an address: \"%s\"", address);
        return -1;
    }
    to.sin_port = htons(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        fail(TORC_ERR_PEER, "cannot reach torcrun at %s: %s", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    /* Messages are small and each one matters at once: none waits to be joined by another. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

/* A host that was cut off takes bytes until the kernel's buffer is full, and then none. */
void report_set_patience(int fd, int seconds)
{
    struct timeval patience = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

bool report_send(int fd, text *out)
{
    const char *bytes = out->bytes;
    size_t left = out->used;
    out->used = 0;
    while (left > 0) {
        ssize_t sent = send(fd, bytes, left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        bytes += sent;
        left -= (size_t)sent;
    }
    return true;
}
