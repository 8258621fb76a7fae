/*
 * lasting -- a training that must come to the same end however often it is killed: restart.sh.
 *
 *     lasting DIR FILE      goes on from the checkpoints in DIR, writes the weights to FILE
 *
 * 60 steps of some 10 ms, a checkpoint every fifth. The first attempt's rank R writes its pid into
 * the file pid.R, so that it can be found.
 */
#include "core/torc.h"

#include "core/torc_sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLES = 96, WIDTH = 8, STEPS = 60, EVERY = 5 };

static torc_dataset *make_data(void)
{
    static float x[SAMPLES * WIDTH], y[SAMPLES];
    for (int i = 0; i < SAMPLES * WIDTH; i++)
        x[i] = (float)(i % 17) / 17;
    for (int i = 0; i < SAMPLES; i++)
        y[i] = x[WIDTH * i] - x[WIDTH * i + 3];
    return torc_arrays(torc_tensor_new(TORC_SHAPE(SAMPLES, WIDTH), .data = x),
                       torc_tensor_new(TORC_SHAPE(SAMPLES, 1), .data = y));
}

static void write_pid(void)
{
    char name[32];
    const char *attempt = getenv("TORC_ATTEMPT");
    if (!attempt || strcmp(attempt, "0"))
        return;
    snprintf(name, sizeof name, "pid.%d", torc_rank());
    FILE *f = fopen(name, "w");
    if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f) != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "lasting DIR FILE\n");
        return 64;
    }
    torc_init(&argc, &argv);
    torc_module *net = torc_sequential(torc_linear(WIDTH, 32), torc_relu_layer(), torc_dropout(0.1),
                                       torc_linear(32, 1));
    net = torc_ddp(net);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    torc_loader *loader =
        torc_loader_new(make_data(), .batch_size = 12, .shuffle = true, .endless = true);
    torc_checkpoint_load(net, argv[1], .optimizer = opt, .loader = loader);
    write_pid();
    for (torc_batch batch; torc_steps(opt) < STEPS && torc_loader_next(loader, &batch);) {
        torc_backward(torc_mse_loss(torc_forward(net, batch.x), batch.y));
        torc_step(opt);
        if (torc_steps(opt) % EVERY == 0)
            torc_checkpoint_save(net, argv[1], .optimizer = opt, .loader = loader);
        usleep(10000);
    }
    torc_save(net, argv[2]);
    torc_finalize();
    return 0;
}
