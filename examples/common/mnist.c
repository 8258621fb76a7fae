/* mnist -- see mnist.h. */
#include "examples/common/mnist.h"

#define SPLIT 8000

void mnist_load(const char *dir, torc_dataset **train, torc_dataset **test)
{
    torc_dataset *all = torc_mnist(dir, TORC_TEST);
    if (torc_try_mnist(dir, TORC_TRAIN, train) == TORC_OK) {
        *test = all;
        return;
    }
    int64_t n = torc_dataset_size(all), split = n > SPLIT ? SPLIT : n / 2;
    *train = torc_subset(all, 0, split);
    *test = torc_subset(all, split, n - split);
}

double mnist_accuracy(torc_module *net, torc_dataset *test)
{
    torc_loader *loader = torc_loader_new(test, .batch_size = 500);
    double right = 0;
    torc_eval(net);
    TORC_NO_GRAD
    {
        for (torc_batch batch; torc_loader_next(loader, &batch);) {
            torc_tensor *guess = torc_argmax(torc_forward(net, batch.x), .dims = TORC_DIMS(1));
            right += torc_item(torc_sum(torc_to(torc_eq(guess, batch.y), TORC_F32)));
        }
    }
    torc_train(net);
    torc_loader_free(loader);
    return torc_sum_over_ranks(right) / (double)torc_dataset_size(test);
}
