/*
 * doctor_reach -- whether the other hosts of a job can be reached and started on.
 *
 *     names      all at once, 3 s            n3: no such name
 *     port 22    all at once, 3 s            n3: does not answer (switched off, or unplugged)
 *     agent      one by one, 5 s each        n3: asks for a password
 *
 * Port 22 is ssh's. A host that refuses it is up all the same: in a job of Slurm's that is enough,
 * and a user's own agent may go another way: then only the agent is asked.
 */
#define _GNU_SOURCE /* getaddrinfo_a */
#include "launcher/ask.h"
#include "launcher/doctor.h"
#include "launcher/words.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double patience = 3, agent_patience = 5; /* seconds */

typedef struct way {
    const char *name;
    struct gaicb lookup;
    int lookup_error;  /* of getaddrinfo() */
    int fd;            /* connecting; -1: not */
    int connect_error; /* an errno; 0: something listens */
    bool bad;          /* the judgement */
} way;

static int milliseconds_until(double deadline)
{
    return (int)ceil(1e3 * fmax(0, deadline - torc_seconds()));
}

/* ---- names ---- */

static int wait_for(const struct gaicb *lookup, double deadline)
{
    int error, left;
    while ((error = gai_error((struct gaicb *)lookup)) == EAI_INPROGRESS &&
           (left = milliseconds_until(deadline)) > 0)
        gai_suspend(&lookup, 1, &(struct timespec){left / 1000, left % 1000 * 1000000L});
    return error;
}

/* The C library looks them up in threads of its own: the plain call may take a minute where the
 * name server is gone. */
static void look_up(way *ways, int n)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    double deadline = torc_seconds() + patience;
    struct gaicb **list = base_alloc((size_t)n, sizeof *list);
    for (int i = 0; i < n; i++) {
        list[i] = &ways[i].lookup;
        *list[i] =
            (struct gaicb){.ar_name = ways[i].name, .ar_service = "22", .ar_request = &hints};
    }
    int error = getaddrinfo_a(GAI_NOWAIT, list, n, NULL); /* EAI_AGAIN: no memory for all */
    for (int i = 0; i < n; i++)
        ways[i].lookup_error = error ? error : wait_for(list[i], deadline);
    free(list);
}

/* ---- port 22 ---- */

static void start_connecting(way *w)
{
    const struct addrinfo *a = w->lookup.ar_result;
    w->connect_error = ETIMEDOUT;
    w->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd >= 0 && connect(w->fd, a->ai_addr, a->ai_addrlen) == 0)
        w->connect_error = 0;
    else if (w->fd < 0 || errno != EINPROGRESS)
        w->connect_error = errno;
    if (w->fd >= 0 && w->connect_error != ETIMEDOUT) { /* decided at once */
        close(w->fd);
        w->fd = -1;
    }
}

static void finish_connecting(way *w)
{
    socklen_t size = sizeof w->connect_error;
    getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &w->connect_error, &size);
    close(w->fd);
    w->fd = -1;
}

static void connect_all(way *ways, int n)
{
    double deadline = torc_seconds() + patience;
    struct pollfd *on = base_alloc((size_t)n, sizeof *on);
    for (int i = 0; i < n; i++)
        if (!ways[i].lookup_error)
            start_connecting(&ways[i]);
    for (int open = n; open > 0;) {
        open = 0;
        for (int i = 0; i < n; i++) {
            on[i] = (struct pollfd){.fd = ways[i].fd, .events = POLLOUT};
            open += ways[i].fd >= 0;
        }
        if (open == 0 || poll(on, (nfds_t)n, milliseconds_until(deadline)) == 0)
            break;
        for (int i = 0; i < n; i++)
            if (on[i].fd >= 0 && on[i].revents)
                finish_connecting(&ways[i]);
    }
    for (int i = 0; i < n; i++)
        if (ways[i].fd >= 0)
            close(ways[i].fd);
    free(on);
}

/* ---- the agent ---- */

/* "ssh" is told not to ask a human; what a user's own agent is told is his affair. */
static finding ask_agent(const char *host, const char *agent)
{
    char *line =
        base_format("%s%s %s true", agent,
                    strcmp(agent, "ssh") ? "" : " -o BatchMode=yes -o ConnectTimeout=3", host);
    char **words = words_split(line), *said;
    text answer = {0};
    int code = words ? ask(words, agent_patience, &answer) : 127;
    said = base_format("%.*s", (int)strcspn(answer.used ? answer.bytes : "", "\r\n"),
                       answer.used ? answer.bytes : "");
    finding f = code == 0 ? finding_make(host, DOCTOR_OK, "%s starts programs there", agent)
                : code == 124
                    ? finding_make(host, DOCTOR_BAD, "%s does not answer within %.0f s", agent,
                                   agent_patience)
                    : finding_make(host, DOCTOR_BAD, "%s cannot start a program there (%d)%s%s",
                                   agent, code, *said ? ": " : "", said);
    free(said);
    free(line);
    words_free(words);
    text_free(&answer);
    return f;
}

/* ---- judging ---- */

static finding judge(const way *w, const char *agent, bool slurm)
{
    bool refused = w->connect_error == ECONNREFUSED;
    if (w->lookup_error)
        return finding_make(w->name, DOCTOR_BAD, "no address: %s",
                            w->lookup_error == EAI_INPROGRESS ? "the name server does not answer"
                                                              : gai_strerror(w->lookup_error));
    if (w->connect_error && !refused) /* some clusters let nothing through to port 22 */
        return finding_make(w->name, slurm ? DOCTOR_WARN : DOCTOR_BAD,
                            "does not answer at port 22: %s", strerror(w->connect_error));
    if (slurm)
        return finding_make(w->name, DOCTOR_OK, "answers; Slurm starts programs there");
    if (refused)
        return finding_make(w->name, DOCTOR_BAD, "is up, but no ssh server listens at port 22");
    return ask_agent(w->name, agent);
}

void doctor_reach(findings *all, const hosts *list, const char *agent, bool slurm, hosts *reached)
{
    int n = 0;
    way *ways = base_alloc((size_t)list->n, sizeof *ways);
    for (int i = 0; i < list->n; i++)
        if (!host_is_here(list->of[i].name))
            ways[n++] = (way){.name = list->of[i].name, .fd = -1};
    bool late = false;
    if (n > 0)
        look_up(ways, n);
    if (slurm || !strcmp(agent, "ssh"))
        connect_all(ways, n);
    for (int i = 0; i < n; i++) {
        findings_add(all, judge(&ways[i], agent, slurm));
        ways[i].bad = all->of[all->n - 1].state == DOCTOR_BAD;
        late |= ways[i].lookup_error == EAI_INPROGRESS;
        if (!ways[i].lookup_error)
            freeaddrinfo(ways[i].lookup.ar_result);
    }
    for (int i = 0, k = 0; i < list->n; i++) { /* in the order of the list: ranks follow it */
        bool mine = k == n || list->of[i].name != ways[k].name, bad = !mine && ways[k++].bad;
        if (!bad)
            hosts_add(reached, list->of[i].name, strlen(list->of[i].name), 0);
    }
    if (!late) /* else a thread of the C library may still write there: left to it */
        free(ways);
}
