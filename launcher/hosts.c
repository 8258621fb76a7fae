/* hosts -- see hosts.h. */
#define _GNU_SOURCE /* getline */
#include "launcher/hosts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS_MOST = 1000000 };

static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789.-_";

/* ---- one host ---- */

bool hosts_add(hosts *all, const char *name, size_t length, int slots)
{
    char *copy = base_format("%.*s", (int)length, name);
    bool fine = *copy && *copy != '-' && strspn(copy, name_bytes) == strlen(copy);
    if (!fine)
        fail(TORC_ERR_IO, "\"%s\" is no name of a host", copy);
    for (int i = 0; fine && i < all->n; i++)
        if (!strcmp(all->of[i].name, copy)) {
            all->of[i].slots += slots;
            free(copy);
            return true;
        }
    if (!fine) {
        free(copy);
        return false;
    }
    all->of = base_grow(all->of, (size_t)all->n + 1, sizeof *all->of);
    all->of[all->n++] = (host){.name = copy, .slots = slots};
    return true;
}

/* The number in `text`, all of it; 0 with a sentence where there is none from 1 up. */
static int slots_in(const char *text, size_t length)
{
    char digits[16] = "", *end;
    if (length < sizeof digits)
        memcpy(digits, text, length);
    digits[min_i64((int64_t)length, sizeof digits - 1)] = 0;
    long n = strtol(digits, &end, 10);
    if (!isdigit((unsigned char)*digits) || *end || n < 1 || n > SLOTS_MOST) {
        fail(TORC_ERR_IO, "\"%.*s\" is no number of ranks for a host", (int)length, text);
        return 0;
    }
    return (int)n;
}

/* name or name:slots */
static bool add_word(hosts *all, const char *word, size_t length)
{
    const char *colon = memchr(word, ':', length);
    if (colon && (*word == '[' || memchr(colon + 1, ':', length - (size_t)(colon + 1 - word)))) {
        fail(TORC_ERR_IO,
             "\"%.*s\" looks like an IPv6 address, which a host cannot be named by: "
             "give its name, or an IPv4 address",
             (int)length, word);
        return false;
    }
    size_t name = colon ? (size_t)(colon - word) : length;
    int slots = colon ? slots_in(colon + 1, length - name - 1) : 0;
    return (!colon || slots > 0) && hosts_add(all, word, name, slots);
}

bool hosts_add_list(hosts *all, const char *list)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        if (!add_word(all, at, n))
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

/* ---- the file ---- */

/* What Open MPI also allows behind a host's name (max_slots, user names of ssh) is not ours. */
static bool read_line(hosts *all, char *line)
{
    static const char blanks[] = " \t\r\n";
    line[strcspn(line, "#")] = 0;
    char *name = line + strspn(line, blanks);
    size_t length = strcspn(name, blanks);
    if (length == 0)
        return true;
    int before = all->n;
    if (!add_word(all, name, length))
        return false;
    host *added = all->n > before ? &all->of[all->n - 1] : NULL;
    const char *slots = strstr(name + length, "slots=");
    if (slots && slots[-1] != '_') { /* not max_slots= */
        int n = slots_in(slots + 6, strcspn(slots + 6, blanks));
        for (int i = 0; i < all->n && !added; i++)
            if (strlen(all->of[i].name) == length && !memcmp(all->of[i].name, name, length))
                added = &all->of[i];
        if (n > 0 && added)
            added->slots += n;
        return n > 0;
    }
    return true;
}

bool hosts_read_file(hosts *all, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    bool fine = true;
    if (!f) {
        fail(TORC_ERR_IO, "cannot read the hosts in %s: %s", path, strerror(errno));
        return false;
    }
    for (int number = 1; fine && getline(&line, &room, f) >= 0; number++) {
        fine = read_line(all, line);
        if (!fine) {
            char *why = base_strdup(torc_last_error());
            fail(TORC_ERR_IO, "%s:%d: %s", path, number, why);
            free(why);
        }
    }
    if (fine && ferror(f)) {
        fail(TORC_ERR_IO, "cannot read the hosts in %s: %s", path, strerror(errno));
        fine = false;
    }
    if (fine && all->n == 0) {
        fail(TORC_ERR_IO, "%s names no host", path);
        fine = false;
    }
    free(line);
    fclose(f);
    return fine;
}

int hosts_different(const hosts *all)
{
    int count = 0;
    for (int i = 0; i < all->n; i++) {
        int before = 0;
        while (before < i && strcmp(all->of[before].name, all->of[i].name))
            before++;
        count += before == i;
    }
    return count;
}

hosts hosts_copy(const hosts *all)
{
    hosts copy = {base_alloc((size_t)all->n, sizeof *copy.of), all->n};
    for (int i = 0; i < all->n; i++) {
        copy.of[i] = all->of[i];
        copy.of[i].name = base_strdup(all->of[i].name);
    }
    return copy;
}

void hosts_free(hosts *all)
{
    for (int i = 0; i < all->n; i++)
        free(all->of[i].name);
    free(all->of);
    *all = (hosts){0};
}

/* ---- this host ---- */

/* "n1" and "n1.cluster" are one host; "n1.a" and "n1.b" are two. */
static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "."), m = strcspn(b, ".");
    if (a[n] && b[m])
        return !strcmp(a, b);
    return n == m && !memcmp(a, b, n);
}

static bool is_my_address(const char *name)
{
    struct in_addr wanted;
    struct ifaddrs *mine = NULL;
    bool found = false;
    if (inet_pton(AF_INET, name, &wanted) != 1 || getifaddrs(&mine) != 0)
        return false;
    for (struct ifaddrs *i = mine; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
            found = found || ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr == wanted.s_addr;
    freeifaddrs(mine);
    return found;
}

bool host_is_here(const char *name)
{
    char me[256] = "";
    gethostname(me, sizeof me - 1);
    return !strcmp(name, "localhost") || (isdigit((unsigned char)*name) && is_my_address(name)) ||
           same_name(name, me);
}

bool hosts_elsewhere(const hosts *all)
{
    for (int i = 0; i < all->n; i++)
        if (!host_is_here(all->of[i].name))
            return true;
    return false;
}
