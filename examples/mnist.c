/*
 * mnist -- trains a network on MNIST-format images and tells its accuracy.
 *
 *     mnist --model mlp --data DIR            torcrun -n 4 mnist --model cnn --data DIR
 *
 * DIR holds the IDX files, plain or .gz. Where it has the test files only, their first 8,000 images
 * are trained on and the last 2,000 tested on. `scripts/get_data.sh` fetches the whole set.
 */
#include "examples/common/meter.h"
#include "examples/common/mnist.h"
#include "examples/common/options.h"
#include "torc.h"

#include <stdio.h>
#include <string.h>

static torc_module *build(const char *model)
{
    if (!strcmp(model, "cnn"))
        return torc_sequential(torc_conv2d(1, 32, 3), torc_relu_layer(), torc_conv2d(32, 64, 3),
                               torc_relu_layer(), torc_max_pool2d(2), torc_flatten_layer(),
                               torc_linear(9216, 128), torc_relu_layer(), torc_linear(128, 10));
    if (!strcmp(model, "mlp"))
        return torc_sequential(torc_flatten_layer(), torc_linear(784, 256), torc_relu_layer(),
                               torc_linear(256, 128), torc_relu_layer(), torc_linear(128, 10));
    return NULL;
}

int main(int argc, char **argv)
{
    common_options o = {
        .epochs = 5, .batch = 64, .lr = 1e-3, .seed = 1, .warmup = 20, .checkpoint_every = 100};
    const char *model = "mlp", *data = "data";
    const option table[] = {COMMON_OPTIONS(o),
                            CHECKPOINT_OPTIONS(o),
                            {"model", OPTION_TEXT, &model, "mlp or cnn"},
                            {"data", OPTION_TEXT, &data, "directory of the IDX files"}};
    options_parse(argc, argv, "trains on MNIST images", table, sizeof table / sizeof *table);
    torc_dtype dtype = options_dtype(&o, "mnist");
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);

    torc_module *net = build(model);
    if (!net) {
        fprintf(stderr, "mnist: --model is mlp or cnn, not %s\n", model);
        torc_finalize();
        return 64;
    }
    net = torc_ddp(net, .virtual_ranks = (int)o.virtual_ranks, .graph = o.graph,
                   .shard_optimizer = o.shard); /* the single line */
    if (o.load)
        torc_load(net, o.load);

    torc_dataset *train, *test;
    mnist_load(data, &train, &test);
    torc_optimizer *opt = torc_adamw(net, .lr = (float)o.lr);
    torc_loader *loader = torc_loader_new(train, .batch_size = o.batch, .shuffle = true,
                                          .seed = (uint64_t)o.seed, .endless = true);
    long steps = o.steps ? o.steps : o.epochs * torc_loader_batches(loader);
    if (o.checkpoint)
        torc_checkpoint_load(net, o.checkpoint, .optimizer = opt, .loader = loader);
    long done = (long)torc_steps(opt); /* in the run that is gone on with */

    meter m = meter_new(steps - done, o.warmup, o.batch, "samples");
    for (torc_batch batch; m.steps < m.total && torc_loader_next(loader, &batch);) {
        meter_start_step(&m);
        torc_tensor *loss = NULL;
        torc_autocast(dtype)
        {
            loss = torc_cross_entropy(torc_forward(net, batch.x), batch.y);
        }
        torc_backward(loss);
        torc_step(opt);
        if (o.checkpoint && o.checkpoint_every > 0 && torc_steps(opt) % o.checkpoint_every == 0)
            torc_checkpoint_save(net, o.checkpoint, .optimizer = opt, .loader = loader);
        meter_end_step(&m, loss, (long)torc_steps(opt) - done);
        if (o.checkpoint && torc_should_stop()) { /* the rest of it later, from here */
            torc_checkpoint_save(net, o.checkpoint, .optimizer = opt, .loader = loader,
                                 .wait = true);
            meter_free(&m);
            torc_finalize();
            return TORC_EXIT_AGAIN;
        }
    }

    double right = mnist_accuracy(net, test);
    bool equal = torc_replicas_agree(net);
    if (torc_rank() == 0)
        printf("%s on %d ranks: test accuracy %.2f %%, replicas %s\n", model, torc_world_size(),
               100 * right, equal ? "equal to the bit" : "differ");
    if (o.save)
        torc_save(net, o.save);
    meter_write_json(&m, o.json, (result){model, "accuracy", right, o.batch, 0, dtype, o.graph});
    meter_free(&m);
    torc_finalize();
    return 0;
}
