/*
 * comm -- see comm.h. Joining and leaving, who is who, and the exchange, where this rank waits for
 * others (watch.h tells who is missing).
 *
 * A rank can be late in two ways, and the sentence says which: its arrival has not come (it is
 * still in an earlier collective, in a long computation, or gone), or it has arrived and sends
 * no data (it was stopped, or the network was).
 */
#include "comm/collective.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LETTERS_EVERY 64 /* collectives */

/* ---- sentences ---- */

comm_words comm_arrival_in_words(const comm_arrival *a)
{
#define KIND_NAME(id, text) text,
    static const char *const kinds[] = {COMM_KINDS(KIND_NAME)};
#define DTYPE_NAME(id, type, text) [id] = text,
    static const char *const dtypes[] = {COMM_REDUCIBLE(DTYPE_NAME)};
    static const char *const ops[] = {"sum", "max", "min"};
    comm_words w;
    unsigned long long number = a->number, count = a->count;
    int n = snprintf(w.text, sizeof w.text, "collective %llu, %s \"%s\"", number, kinds[a->kind],
                     a->name);
    char *end = w.text + n;
    size_t left = sizeof w.text - (size_t)n;
    if (a->kind == COMM_ALLREDUCE || a->kind == COMM_REDUCE_SCATTER)
        snprintf(end, left, " (%s of %llu x %s)", ops[a->op], count, dtypes[a->dtype]);
    else if (a->kind == COMM_BROADCAST)
        snprintf(end, left, " (%llu bytes from rank %d)", count, a->root);
    else if (a->kind == COMM_ALLGATHER)
        snprintf(end, left, " (%llu bytes a rank)", count);
    return w;
}

/* The arrival of this rank, with the line of the user's program that it came from. */
static void describe(const void *of, char *text, size_t size)
{
    const comm *c = of;
    snprintf(text, size, "%s%s", comm_arrival_in_words(&c->mine).text,
             comm_site_of(c, c->rank).text);
}

static void note_missing(const void *of, bool *missing)
{
    const comm *c = of;
    for (int r = 0; r < c->size; r++)
        missing[r] = c->pending[r] || c->pending[c->size + r];
}

static torc_status disagreement(const comm *c, int other)
{
    return fail(TORC_ERR_PEER,
                "the ranks are not in the same collective: %s is in %s%s, %s in %s%s",
                comm_rank_in_words(c, c->rank).text, comm_arrival_in_words(&c->mine).text,
                comm_site_of(c, c->rank).text, comm_rank_in_words(c, other).text,
                comm_arrival_in_words(&c->heard[other]).text, comm_site_of(c, other).text);
}

/* ---- the exchange ---- */

/* Receives first: what arrives then goes straight to its place. Every rank starts with its right
 * neighbour, so that not all of them send to rank 0 at once. */
static torc_status start_transfers(comm *c)
{
    for (int i = 1; i < c->size; i++) {
        int from = (c->rank - i + c->size) % c->size;
        if (c->in[from].bytes)
            PASS(c->backend->receive(c->state, COMM_COLLECTIVES, c->in[from].at, c->in[from].bytes,
                                     from, 0, &c->pending[from]));
    }
    for (int i = 1; i < c->size; i++) {
        int to = (c->rank + i) % c->size;
        if (c->out[to].bytes)
            PASS(c->backend->send(c->state, COMM_COLLECTIVES, c->out[to].at, c->out[to].bytes, to,
                                  0, &c->pending[c->size + to]));
    }
    return TORC_OK;
}

static torc_status test_transfers(comm *c, bool *done)
{
    *done = true;
    for (int i = 0; i < 2 * c->size; i++) {
        if (c->pending[i])
            PASS(c->backend->test(c->state, &c->pending[i]));
        *done = *done && !c->pending[i];
    }
    return TORC_OK;
}

/* The first second belongs to slow ranks, which may still tell more; then a mistake of two ranks is
 * told although a third has not come. */
static torc_status compare_arrivals(const comm *c, bool all)
{
    for (int r = 0; r < c->size; r++)
        if ((all || !c->pending[r]) && r != c->rank &&
            memcmp(&c->heard[r], &c->mine, sizeof c->mine) != 0)
            return disagreement(c, r);
    return TORC_OK;
}

static torc_status finish_transfers(comm *c)
{
    const comm_awaited arrivals = {COMM_IN_COLLECTIVE, c->mine.number, describe, note_missing, c};
    comm_watch w = comm_watch_start(c);
    bool done;
    torc_status s = test_transfers(c, &done);
    while (s == TORC_OK && !done) {
        s = comm_watch_turn(&w, &arrivals);
        if (s == TORC_OK && c->arriving && w.announced)
            s = compare_arrivals(c, false);
        if (s == TORC_OK)
            s = test_transfers(c, &done);
    }
    comm_watch_end(&w);
    return s;
}

torc_status comm_exchange(comm *c)
{
    torc_status s = start_transfers(c);
    if (s == TORC_OK)
        s = finish_transfers(c);
    c->broken = s != TORC_OK;
    memset(c->out, 0, (size_t)c->size * sizeof *c->out);
    memset(c->in, 0, (size_t)c->size * sizeof *c->in);
    return s;
}

torc_status comm_arrive(comm *c, comm_arrival a, const char *name)
{
    a.number = c->mine.number + 1;
    snprintf(a.name, sizeof a.name, "%s", name ? name : "");
    if (c->broken)
        return fail(TORC_ERR_PEER, "%s: %s is out of step since %s failed",
                    comm_arrival_in_words(&a).text, comm_rank_in_words(c, c->rank).text,
                    comm_arrival_in_words(&c->mine).text);
    c->mine = a;
    for (int r = 0; r < c->size; r++) {
        c->out[r] = (comm_span){&c->mine, sizeof c->mine};
        c->in[r] = (comm_span){&c->heard[r], sizeof c->heard[r]};
    }
    c->arriving = true;
    torc_status s = comm_exchange(c);
    c->arriving = false;
    if (s == TORC_OK)
        s = compare_arrivals(c, true);
    c->broken = s != TORC_OK;
    if (s == TORC_OK && a.number % LETTERS_EVERY == 0)
        s = watches_look(c);
    return s;
}

/* ---- point to point ---- */

static void check_peer(const comm *c, int other, size_t bytes, int tag)
{
    if (other < 0 || other >= c->size || other == c->rank)
        bug("rank %d of %d: no transfer with rank %d", c->rank, c->size, other);
    if (bytes > COMM_TRANSFER_LIMIT || tag < 0 || tag > 32767)
        bug("a transfer of %zu bytes with tag %d", bytes, tag);
}

torc_status comm_send(comm *c, const void *buffer, size_t bytes, int to, int tag, comm_request *r)
{
    check_peer(c, to, bytes, tag);
    return c->backend->send(c->state, COMM_POINT_TO_POINT, buffer, bytes, to, tag, &r->handle);
}

torc_status comm_receive(comm *c, void *buffer, size_t bytes, int from, int tag, comm_request *r)
{
    check_peer(c, from, bytes, tag);
    return c->backend->receive(c->state, COMM_POINT_TO_POINT, buffer, bytes, from, tag, &r->handle);
}

torc_status comm_test(comm *c, comm_request *r, bool *done)
{
    torc_status s = r->handle ? c->backend->test(c->state, &r->handle) : TORC_OK;
    *done = !r->handle;
    return s;
}

/* ---- joining and leaving ---- */

/* Host names alone do not tell whether two ranks can share memory: containers on several machines
 * may all be called "localhost", and two of them on one machine have a /dev/shm each. */
static bool same_host(const comm_peer *a, const comm_peer *b)
{
    return !strcmp(a->host, b->host) && !strcmp(a->kernel, b->kernel) &&
           a->shared_memory == b->shared_memory;
}

static void describe_myself(comm_peer *p)
{
    struct stat s;
    gethostname(p->host, sizeof p->host - 1);
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (f && !fgets(p->kernel, sizeof p->kernel, f))
        p->kernel[0] = 0;
    if (f)
        fclose(f);
    p->shared_memory = stat("/dev/shm", &s) == 0 ? s.st_dev : 0;
    p->pid = getpid();
    p->status_fd = status_open();
    p->cores = comm_cores_allowed();
}

/* The ranks of a host are taken to live in one control group, and to share its quota evenly. */
static int my_cores(const comm_cores_set *sets, int n, int me)
{
    double quota = floor(comm_cores_my_quota() / n + 1e-6);
    int share = comm_cores_share(sets, n, me);
    return quota < share ? (int)fmax(1, quota) : share;
}

/* Two ranks that share a host have the same number; a new host gets the next one. */
static void number_hosts(comm *c)
{
    int fake = (int)base_setting_number("TORC_FAKE_HOSTS", 0, 0, c->size);
    c->hosts = fake;
    for (int r = 0; r < c->size; r++) {
        int known = 0;
        while (known < r && !same_host(&c->peers[known], &c->peers[r]))
            known++;
        if (fake)
            c->host_of[r] = (int)((int64_t)r * fake / c->size);
        else
            c->host_of[r] = known < r ? c->host_of[known] : c->hosts++;
    }
}

static void find_neighbours(comm *c)
{
    number_hosts(c);
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank)
            c->local_rank = c->local_size;
        c->local_size += c->host_of[r] == c->host_of[c->rank];
    }
}

/* Cores are those of the machine, whatever TORC_FAKE_HOSTS says. */
static void count_cores(comm *c)
{
    comm_cores_set *sets = base_alloc((size_t)c->size, sizeof *sets);
    int n = 0, me = 0;
    for (int r = 0; r < c->size; r++) {
        if (!same_host(&c->peers[r], &c->peers[c->rank]))
            continue;
        if (r == c->rank)
            me = n;
        sets[n++] = c->peers[r].cores;
    }
    c->cores = my_cores(sets, n, me);
    free(sets);
}

static void forget(comm *c)
{
    free(c->peers);
    free(c->host_of);
    free(c->heard);
    free(c->out);
    free(c->in);
    free(c->pending);
    free(c->scratch);
    watches_free(c->watches);
    free(c);
}

static torc_status meet(comm *c)
{
    size_t n = (size_t)c->size;
    c->peers = base_alloc(n, sizeof *c->peers);
    c->host_of = base_alloc(n, sizeof *c->host_of);
    c->heard = base_alloc(n, sizeof *c->heard);
    c->out = base_alloc(n, sizeof *c->out);
    c->in = base_alloc(n, sizeof *c->in);
    c->pending = base_alloc(2 * n, sizeof *c->pending);
    c->quiet = COMM_QUIET;
    c->piece = COMM_PIECE_BYTES;
    c->small = COMM_SMALL_BYTES;
    watches_open(c);
    c->scratch = base_alloc(c->piece + n * sizeof(double), 1);
    comm_peer *me = base_alloc(1, sizeof *me);
    describe_myself(me);
    torc_status s = comm_allgather(c, me, c->peers, sizeof *me, "join");
    free(me);
    if (s != TORC_OK)
        return s;
    find_neighbours(c);
    count_cores(c);
    return TORC_OK;
}

torc_status comm_open(comm **out)
{
    return comm_open_over(comm_mpi.wanted() ? &comm_mpi : &comm_self, out);
}

torc_status comm_open_over(const comm_backend *backend, comm **out)
{
    comm *c = base_alloc(1, sizeof *c);
    *out = NULL;
    c->timeout = base_setting_number("TORC_TIMEOUT", 120, 0.001, 1e9);
    c->long_timeout = base_setting_number("TORC_LONG_TIMEOUT", 1800, 0.001, 1e9);
    c->backend = backend;
    torc_status s = c->backend->open(&c->state, &c->rank, &c->size, c->timeout);
    if (s != TORC_OK) {
        free(c);
        return s;
    }
    s = meet(c);
    if (s == TORC_OK)
        *out = c; /* else transfers may be under way into it, and it stays where it is */
    return s;
}

void comm_close(comm *c)
{
    if (!c)
        return;
    status_on_scope(NULL, NULL); /* nobody is left to be told */
    bool orderly = comm_barrier(c, "leave") == TORC_OK && watches_leave(c) == TORC_OK;
    if (!orderly)
        log_line(LOG_WARN, "leaving without the others: %s", torc_last_error());
    c->backend->close(c->state, orderly);
    if (orderly)
        forget(c);
}

void comm_abort(comm *c, int code)
{
    c->backend->abort(c->state, code);
}

/* ---- who is who ---- */

int comm_rank(const comm *c)
{
    return c->rank;
}

int comm_size(const comm *c)
{
    return c->size;
}

int comm_local_rank(const comm *c)
{
    return c->local_rank;
}

int comm_local_size(const comm *c)
{
    return c->local_size;
}

int comm_hosts(const comm *c)
{
    return c->hosts;
}

int comm_host_of(const comm *c, int rank)
{
    return c->host_of[rank];
}

int comm_place(const comm *c, int rank)
{
    int place = 0;
    for (int r = 0; r < c->size; r++)
        place +=
            c->host_of[r] < c->host_of[rank] || (c->host_of[r] == c->host_of[rank] && r < rank);
    return place;
}

const char *comm_host(const comm *c, int rank)
{
    return c->peers[rank].host;
}

int comm_pid(const comm *c, int rank)
{
    return c->peers[rank].pid;
}

const char *comm_backend_name(const comm *c)
{
    return c->backend->name;
}

int comm_cores(const comm *c)
{
    return c->cores;
}
