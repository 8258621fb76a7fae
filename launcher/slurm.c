/* slurm -- see slurm.h. */
#include "launcher/slurm.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_MOST = 1000000, NUMBER_LENGTH = 9 };

/* ---- names ---- */

static bool malformed(const char *list)
{
    fail(TORC_ERR_IO, "not a list of hosts as Slurm writes them: \"%s\"", list);
    return false;
}

/* Reads digits; returns where they end, or NULL where there are none or too many. */
static const char *read_number(const char *at, long *n)
{
    size_t length = strspn(at, "0123456789");
    if (length == 0 || length > NUMBER_LENGTH)
        return NULL;
    *n = strtol(at, NULL, 10);
    return at + length;
}

static bool expand(hosts *all, const char *head, const char *rest, size_t length);

/* One range of a bracket, "01-12" or "7", with `head` before it and `rest` behind the bracket.
 * The zeros in front of the first number say how wide all are. */
static bool expand_range(hosts *all, const char *head, const char *range, const char *end,
                         const char *rest, size_t length)
{
    long first, last;
    const char *at = read_number(range, &first);
    int width = at ? (int)(at - range) : 0;
    last = first;
    if (at && *at == '-')
        at = read_number(at + 1, &last);
    if (at != end || last < first || last - first >= HOSTS_MOST)
        return false;
    bool fine = true;
    for (long i = first; fine && i <= last; i++) {
        char *longer = base_format("%s%0*ld", head, width, i);
        fine = expand(all, longer, rest, length);
        free(longer);
    }
    return fine;
}

/* `head` is what is settled of the name, rest[0..length) what still may hold brackets. */
static bool expand(hosts *all, const char *head, const char *rest, size_t length)
{
    const char *open = memchr(rest, '[', length);
    size_t plain = open ? (size_t)(open - rest) : length;
    char *name = base_format("%s%.*s", head, (int)plain, rest);
    const char *close = open ? memchr(open, ']', length - plain) : NULL;
    bool fine = !open || close;
    if (!open)
        fine = all->n < HOSTS_MOST && hosts_add(all, name, strlen(name), 0);
    for (const char *at = open ? open + 1 : NULL; fine && at && at <= close;) {
        const char *end = at + strcspn(at, ",]");
        fine = expand_range(all, name, at, end, close + 1, (size_t)(rest + length - close - 1));
        at = end + 1;
    }
    free(name);
    return fine;
}

bool slurm_expand_names(hosts *all, const char *list)
{
    for (const char *at = list;; at++) {
        size_t n = 0;
        for (int depth = 0; at[n] && (depth > 0 || at[n] != ','); n++) /* commas in brackets stay */
            depth += (at[n] == '[') - (at[n] == ']');
        if (n == 0 || !expand(all, "", at, n))
            return malformed(list);
        at += n;
        if (!*at)
            return true;
    }
}

/* ---- tasks ---- */

bool slurm_expand_tasks(hosts *all, const char *list)
{
    int host = 0;
    bool fine = true;
    for (const char *at = list; fine && *at;) {
        long tasks, times = 1;
        at = read_number(at, &tasks);
        if (at && !strncmp(at, "(x", 2)) {
            at = read_number(at + 2, &times);
            at = at && *at == ')' ? at + 1 : NULL;
        }
        fine = at && tasks > 0 && times <= all->n - host && (!*at || *at == ',');
        while (fine && times-- > 0)
            all->of[host++].slots = (int)tasks;
        at += fine && *at == ',';
    }
    if (fine && host == all->n)
        return true;
    fail(TORC_ERR_IO, "SLURM_TASKS_PER_NODE is \"%s\", which does not fit the %d hosts of the job",
         list, all->n);
    return false;
}

/* ---- the job ---- */

bool slurm_is_here(void)
{
    return getenv("SLURM_JOB_ID") && getenv("SLURM_JOB_NODELIST");
}

bool slurm_hosts(hosts *all)
{
    const char *tasks = getenv("SLURM_TASKS_PER_NODE");
    return slurm_expand_names(all, getenv("SLURM_JOB_NODELIST")) &&
           (!tasks || slurm_expand_tasks(all, tasks));
}
