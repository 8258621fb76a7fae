/*
 * victim -- a job in which one rank goes wrong: what skip.sh and stop.sh start, many times over.
 *
 *     victim collectives|training skip|stop|none SEED
 *
 *     collectives   barriers, sums, broadcasts and gathers of random kind, size and name
 *     training      a small network with torc_ddp(); a sum over ranks every third step
 *     skip          one rank leaves out one of them (of training: a backward, or a sum)
 *     stop          one rank is stopped, as by kill -STOP, at a random moment
 *
 * Every rank draws the same random numbers from the seed, so all agree on what is done, and on who
 * goes wrong. Rank 0 prints "victim: rank R" first. A rank that is about to stop creates the file
 * named by VICTIM_STOPPED: its time is the moment.
 */
#include "comm/comm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

typedef enum event { NOTHING, SKIP, STOP } event;

typedef struct plan {
    event event;
    uint64_t random; /* the state of draw() */
    int rank;        /* that goes wrong */
    int steps;       /* of the whole run */
    int step;        /* the one to skip */
    bool sum;        /* of training: the sum is skipped, not the backward */
} plan;

/* splitmix64 */
static uint64_t draw(plan *p, uint64_t below)
{
    uint64_t x = p->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

/* ---- going wrong ---- */

static void stop(int signal_number)
{
    (void)signal_number;
    const char *path = getenv("VICTIM_STOPPED");
    if (path)
        close(open(path, O_CREAT | O_WRONLY, 0600));
    raise(SIGSTOP);
}

/* Some time within the first 1.5 seconds of this rank's work. */
static void stop_later(plan *p, int rank)
{
    struct itimerval t = {.it_value.tv_usec = 1 + (suseconds_t)draw(p, 999998),
                          .it_value.tv_sec = (time_t)draw(p, 2)};
    if (p->event != STOP || rank != p->rank)
        return;
    signal(SIGALRM, stop);
    setitimer(ITIMER_REAL, &t, NULL);
}

static bool skips(const plan *p, int rank, int step)
{
    return p->event == SKIP && rank == p->rank && step == p->step;
}

static plan make_plan(const char *event, const char *seed)
{
    plan p = {.random = strtoull(seed, NULL, 10)};
    p.event = !strcmp(event, "skip") ? SKIP : !strcmp(event, "stop") ? STOP : NOTHING;
    p.rank = (int)draw(&p, 3);
    p.steps = p.event == STOP ? 1000000 : 30;
    p.step = 1 + (int)draw(&p, 28);
    p.sum = draw(&p, 2);
    if (p.sum)
        p.step = p.step / 3 * 3;
    return p;
}

static void print_victim(const plan *p, int rank)
{
    if (rank == 0)
        printf("victim: rank %d\n", p->rank);
    fflush(stdout);
}

/* ---- collectives ---- */

static torc_status one_collective(comm *c, plan *p, bool skip)
{
    static double numbers[1 << 17], all[3 << 17];
    static const char *const names[] = {"loss", "epoch", "weights", "accuracy"};
    const char *name = names[draw(p, 4)];
    size_t count = (size_t)1 << draw(p, 18);
    int kind = (int)draw(p, 4), root = (int)draw(p, 3);
    if (skip)
        return TORC_OK;
    if (kind == 0)
        return comm_barrier(c, name);
    if (kind == 1)
        return comm_allreduce(c, numbers, count, TORC_F64, COMM_MAX, name);
    if (kind == 2)
        return comm_broadcast(c, numbers, count * sizeof *numbers, root, name);
    return comm_allgather(c, numbers, all, count * sizeof *numbers, name);
}

static void collectives(plan *p)
{
    comm *c;
    torc_status s = comm_open(&c);
    if (s != TORC_OK)
        exit(1);
    print_victim(p, comm_rank(c));
    stop_later(p, comm_rank(c));
    for (int step = 0; s == TORC_OK && step < p->steps; step++) {
        usleep((useconds_t)draw(p, 2000));
        s = one_collective(c, p, skips(p, comm_rank(c), step));
    }
    if (s == TORC_OK) /* the end is a collective too */
        s = comm_barrier(c, "end");
    if (s != TORC_OK) {
        fprintf(stderr, "%s\n", torc_last_error());
        comm_abort(c, 3);
    }
    comm_close(c);
}

/* ---- training ---- */

static torc_dataset *make_data(void)
{
    static float x[96 * 8], y[96];
    for (int i = 0; i < 96 * 8; i++)
        x[i] = (float)(i % 17) / 17;
    for (int i = 0; i < 96; i++)
        y[i] = x[8 * i] - x[8 * i + 3];
    torc_tensor_options from_x = {.data = x}, from_y = {.data = y};
    return torc_arrays(TORC_HERE, torc_tensor_new(TORC_HERE, TORC_SHAPE(96, 8), from_x),
                       torc_tensor_new(TORC_HERE, TORC_SHAPE(96, 1), from_y));
}

static torc_module *make_net(void)
{
    torc_module *layers[] = {torc_linear(TORC_HERE, 8, 32, (torc_linear_options){0}),
                             torc_relu_layer(TORC_HERE),
                             torc_linear(TORC_HERE, 32, 1, (torc_linear_options){0})};
    torc_module *net = torc_sequential(TORC_HERE, ARRAY_LENGTH(layers), layers);
    return torc_ddp(TORC_HERE, net, (torc_ddp_options){.bucket_bytes = 512});
}

static void training_step(const plan *p, int step, torc_module *net, torc_optimizer *o,
                          const torc_batch *batch)
{
    bool skip = skips(p, torc_rank(), step);
    torc_tensor *loss = torc_mse_loss(TORC_HERE, torc_forward(TORC_HERE, net, batch->x), batch->y);
    if (!(skip && !p->sum))
        torc_backward(TORC_HERE, loss);
    torc_step(TORC_HERE, o);
    if (step % 3 == 0 && !(skip && p->sum))
        torc_sum_over_ranks(TORC_HERE, 1);
}

static void training(plan *p, int argc, char **argv)
{
    torc_init(TORC_HERE, &argc, &argv);
    print_victim(p, torc_rank());
    torc_dataset *data = make_data();
    torc_module *net = make_net();
    torc_optimizer *o = torc_sgd(TORC_HERE, net, (torc_sgd_options){.lr = 0.01f});
    torc_loader *l = torc_loader_new(
        TORC_HERE, data, (torc_loader_options){.batch_size = 12, .shuffle = true, .endless = true});
    stop_later(p, torc_rank());
    torc_batch batch;
    for (int step = 0; step < p->steps && torc_loader_next(TORC_HERE, l, &batch); step++)
        training_step(p, step, net, o, &batch);
    torc_finalize(TORC_HERE);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "victim collectives|training skip|stop|none SEED\n");
        return 64;
    }
    plan p = make_plan(argv[2], argv[3]);
    if (!strcmp(argv[1], "training"))
        training(&p, argc, argv);
    else
        collectives(&p);
    return 0;
}
