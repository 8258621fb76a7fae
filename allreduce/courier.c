/* courier -- see courier.h. */
#include "allreduce/courier.h"

#include "core/base.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

struct courier {
    void (*move)(void *context);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;   /* held while it moves */
    pthread_cond_t changed; /* on the way, or leaving */
    bool going, leaving;
};

/* It has a core, but perhaps others do not: it yields after some pauses, like all who wait. */
static void *run(void *of)
{
    courier *c = of;
    omp_set_num_threads(1); /* of this thread: the rank's team is busy */
    pthread_mutex_lock(&c->lock);
    wait w = wait_start(1e9);
    while (!c->leaving) {
        if (!c->going) {
            pthread_cond_wait(&c->changed, &c->lock);
            w = wait_start(1e9);
            continue;
        }
        c->move(c->context);
        pthread_mutex_unlock(&c->lock);
        wait_once(&w);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

courier *courier_new(void (*move)(void *context), void *context)
{
    courier *c = base_alloc(1, sizeof *c);
    c->move = move;
    c->context = context;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (pthread_create(&c->thread, NULL, run, c) == 0)
        return c;
    free(c);
    return NULL;
}

static void set(courier *c, bool *what, bool value)
{
    pthread_mutex_lock(&c->lock);
    *what = value;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void courier_go(courier *c)
{
    set(c, &c->going, true);
}

void courier_stop(courier *c)
{
    set(c, &c->going, false);
}

void courier_free(courier *c)
{
    if (!c)
        return;
    set(c, &c->leaving, true);
    pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
}
