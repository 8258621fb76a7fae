/*
 * threads -- see threads.h. The backend: a list of messages that were sent and not yet received,
 * under one lock. A send is done when the message has been copied, as a small one of MPI's is.
 */
#include "tests/threads.h"

#include "comm/collective.h"
#include "tests/harness.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct message {
    int from, to, tag;
    comm_channel channel;
    size_t bytes;
    char *data;
    struct message *next;
} message;

typedef struct receipt { /* a receive under way */
    void *buffer;
    size_t bytes;
    int from, to, tag;
    comm_channel channel;
    struct receipt *before; /* of the same rank, in the order of their start */
} receipt;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static message *sent; /* oldest first */
static int world_size;
static _Thread_local int my_rank;
static _Thread_local receipt *newest;

static bool always(void)
{
    return true;
}

static torc_status open_thread(void **state, int *rank, int *size, double seconds)
{
    (void)seconds;
    *state = NULL;
    *rank = my_rank;
    *size = world_size;
    return TORC_OK;
}

static void close_thread(void *state, bool orderly)
{
    (void)state, (void)orderly;
}

static void abort_thread(void *state, int code)
{
    (void)state;
    _Exit(code);
}

static torc_status send_message(void *state, comm_channel channel, const void *buffer, size_t bytes,
                                int to, int tag, void **handle)
{
    (void)state;
    message *m = base_alloc(1, sizeof *m);
    *m = (message){my_rank, to, tag, channel, bytes, base_alloc(bytes + 1, 1), NULL};
    memcpy(m->data, buffer, bytes);
    pthread_mutex_lock(&lock);
    message **end = &sent;
    while (*end)
        end = &(*end)->next;
    *end = m;
    pthread_mutex_unlock(&lock);
    *handle = NULL;
    return TORC_OK;
}

static torc_status start_receipt(void *state, comm_channel channel, void *buffer, size_t bytes,
                                 int from, int tag, void **handle)
{
    (void)state;
    receipt *r = base_alloc(1, sizeof *r);
    *r = (receipt){buffer, bytes, from, my_rank, tag, channel, newest};
    newest = r;
    *handle = r;
    return TORC_OK;
}

static bool fits(const message *m, const receipt *r)
{
    return m->from == r->from && m->to == r->to && m->tag == r->tag && m->channel == r->channel;
}

/* MPI's order: of two receives that a message fits, the one started first gets it. */
static bool is_first(const receipt *r, const message *m)
{
    for (const receipt *other = r->before; other; other = other->before)
        if (fits(m, other))
            return false;
    return true;
}

static message *take(const receipt *r)
{
    pthread_mutex_lock(&lock);
    message **at = &sent;
    while (*at && !fits(*at, r))
        at = &(*at)->next;
    message *m = *at;
    if (m && is_first(r, m))
        *at = m->next;
    else
        m = NULL;
    pthread_mutex_unlock(&lock);
    return m;
}

static void forget(receipt *r)
{
    receipt **at = &newest;
    while (*at != r)
        at = &(*at)->before;
    *at = r->before;
    free(r);
}

static torc_status test_receipt(void *state, void **handle)
{
    (void)state;
    receipt *r = *handle;
    message *m = take(r);
    if (!m)
        return TORC_OK;
    torc_status s = m->bytes <= r->bytes ? TORC_OK : fail(TORC_ERR_PEER, "a message is too long");
    if (s == TORC_OK)
        memcpy(r->buffer, m->data, m->bytes);
    free(m->data);
    free(m);
    forget(r);
    *handle = NULL;
    return s;
}

static const comm_backend backend = {
    .name = "threads",
    .wanted = always,
    .open = open_thread,
    .close = close_thread,
    .abort = abort_thread,
    .send = send_message,
    .receive = start_receipt,
    .test = test_receipt,
};

/* ---- running ---- */

typedef struct rank {
    int number;
    pthread_t thread;
    void (*body)(comm *c, void *context);
    void *context;
} rank;

static void *live(void *of)
{
    const rank *r = of;
    comm *c;
    my_rank = r->number;
    newest = NULL;
    omp_set_num_threads(1); /* of this rank; a team's threads are also beyond ThreadSanitizer */
    torc_status s = comm_open_over(&backend, &c);
    test_check(s == TORC_OK, __FILE__, __LINE__, "%s", torc_last_error());
    if (s == TORC_OK) {
        r->body(c, r->context);
        comm_close(c);
    }
    return NULL;
}

void threads_run(int ranks, void (*body)(comm *c, void *context), void *context)
{
    rank *all = base_alloc((size_t)ranks, sizeof *all);
    world_size = ranks;
    for (int i = 0; i < ranks; i++) {
        all[i] = (rank){.number = i, .body = body, .context = context};
        if (pthread_create(&all[i].thread, NULL, live, &all[i]) != 0)
            bug("the system gives no thread");
    }
    for (int i = 0; i < ranks; i++)
        pthread_join(all[i].thread, NULL);
    free(all);
}
