/*
 * linear -- the smallest program: learns y = 2 x from four points, on any number of ranks.
 *
 *     linear            torcrun -n 4 linear
 */
#include "examples/common/options.h"
#include "torc.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    common_options o = {.epochs = 100, .batch = 4, .lr = 0.01, .seed = 1};
    const option table[] = {COMMON_OPTIONS(o)};
    options_parse(argc, argv, "learns y = 2 x from four points", table,
                  sizeof table / sizeof *table);
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);

    torc_tensor *x = torc_tensor_new(TORC_SHAPE(4, 1), .data = (float[]){1, 2, 3, 4});
    torc_tensor *y = torc_tensor_new(TORC_SHAPE(4, 1), .data = (float[]){2, 4, 6, 8});
    torc_dataset *points = torc_arrays(x, y);

    torc_module *net = torc_linear(1, 1);
    net = torc_ddp(net); /* the single line */
    if (o.load)
        torc_load(net, o.load);
    torc_optimizer *opt = torc_sgd(net, .lr = (float)o.lr);
    torc_loader *loader = torc_loader_new(points, .batch_size = o.batch, .shuffle = true);

    double loss_now = 0;
    for (long epoch = 0; epoch < o.epochs; epoch++)
        for (torc_batch batch; torc_loader_next(loader, &batch);) {
            torc_tensor *loss = torc_mse_loss(torc_forward(net, batch.x), batch.y);
            torc_backward(loss);
            torc_step(opt);
            loss_now = torc_mean_over_ranks(loss);
        }

    torc_tensor *five = torc_tensor_new(TORC_SHAPE(1, 1), .data = (float[]){5});
    double answer = torc_item(torc_forward(net, five));
    if (torc_rank() == 0)
        printf("loss %.6f, prediction for 5: %.3f\n", loss_now, answer);
    if (o.save)
        torc_save(net, o.save);
    torc_finalize();
    return 0;
}
