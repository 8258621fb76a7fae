/*
 * powersgd -- trains a network on MNIST-format images with gradients compressed to rank r, and
 * tells its accuracy and what travelled.
 *
 *     torcrun -n 4 powersgd --rank 4 --data DIR        torcrun -n 4 powersgd --rank 0 --data DIR
 *
 * With --rank 0 nothing is compressed. DIR is that of the program mnist.
 */
#include "examples/common/meter.h"
#include "examples/common/mnist.h"
#include "examples/common/options.h"
#include "examples/common/powersgd.h"
#include "torc.h"

#include <stdio.h>

static void report(torc_module *net, long rank, double right)
{
    torc_ddp_stats s = torc_ddp_statistics(net);
    double whole = (double)torc_parameter_elements(net) * sizeof(float);
    double bytes = s.steps ? s.bytes / (double)s.steps : 0;
    bool equal = torc_replicas_agree(net);
    if (torc_rank() == 0)
        printf("rank %ld on %d ranks: test accuracy %.2f %%, %.0f bytes a step, %.1f %% of the "
               "gradients' %.0f, replicas %s\n",
               rank, torc_world_size(), 100 * right, bytes, 100 * bytes / whole, whole,
               equal ? "equal to the bit" : "differ");
}

int main(int argc, char **argv)
{
    common_options o = {.epochs = 5, .batch = 64, .lr = 1e-3, .seed = 1, .warmup = 20};
    const char *data = "data";
    long rank = 4;
    const option table[] = {COMMON_OPTIONS(o),
                            {"rank", OPTION_INT, &rank, "of the compressed gradients (0: exact)"},
                            {"data", OPTION_TEXT, &data, "directory of the IDX files"}};
    options_parse(argc, argv, "trains on MNIST images with PowerSGD", table,
                  sizeof table / sizeof *table);
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);
    powersgd *compressor = powersgd_new((int)rank);
    if (rank != 0 && !compressor) {
        fprintf(stderr, "powersgd: --rank is 0 or more, not %ld\n", rank);
        torc_finalize();
        return 64;
    }

    torc_module *net =
        torc_sequential(torc_flatten_layer(), torc_linear(784, 256), torc_relu_layer(),
                        torc_linear(256, 128), torc_relu_layer(), torc_linear(128, 10));
    net = torc_ddp(net, .virtual_ranks = (int)o.virtual_ranks,
                   .compressor = compressor ? powersgd_compress : NULL,
                   .compressor_context = compressor);
    if (o.load)
        torc_load(net, o.load);

    torc_dataset *train, *test;
    mnist_load(data, &train, &test);
    torc_optimizer *opt = torc_adamw(net, .lr = (float)o.lr);
    torc_loader *loader = torc_loader_new(train, .batch_size = o.batch, .shuffle = true,
                                          .seed = (uint64_t)o.seed, .endless = true);
    long steps = o.steps ? o.steps : o.epochs * torc_loader_batches(loader);

    meter m = meter_new(steps, o.warmup, o.batch, "samples");
    for (torc_batch batch; m.steps < steps && torc_loader_next(loader, &batch);) {
        meter_start_step(&m);
        torc_tensor *loss = torc_cross_entropy(torc_forward(net, batch.x), batch.y);
        torc_backward(loss);
        torc_step(opt);
        meter_end_step(&m, loss, (long)torc_steps(opt));
    }

    double right = mnist_accuracy(net, test);
    report(net, rank, right);
    if (o.save)
        torc_save(net, o.save);
    meter_write_json(&m, o.json, (result){"powersgd", "accuracy", right, o.batch, 0, 0, 0});
    meter_free(&m);
    torc_finalize();
    powersgd_free(compressor);
    return 0;
}
