/* Virtual ranks: the same bits on any number of ranks, hosts and threads. */
#include "tests/ddp_helpers.h"

enum { VIRTUAL = 5 };

TEST_RANKS_DIE(too_few_virtual_ranks, 3, 1, "at least as many virtual ranks as ranks, 3, found 2")
{
    start();
    torc_ddp(network(1), .virtual_ranks = 2);
}

TEST_DIES(virtual_ranks_need_the_loader, 1, "expected micro-shard 0")
{
    start();
    backward(torc_ddp(network(1), .virtual_ranks = 2), 0, 3);
}

/* Dropout and running statistics must belong to the shard too; the last batch of an epoch has one
 * sample for five shards. */
TEST(virtual_ranks_train)
{
    start();
    torc_seed(3);
    torc_module *net = torc_ddp(
        torc_sequential(torc_conv2d(2, 6, 3, .padding = 1), torc_batch_norm2d(6), torc_relu_layer(),
                        torc_flatten_layer(), torc_dropout(0.3), torc_linear(96, OUT)),
        .virtual_ranks = VIRTUAL);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    torc_loader *loader = torc_loader_new(samples(), .batch_size = 9, .shuffle = true);
    for (int epoch = 0; epoch < 3; epoch++)
        for (torc_batch b; torc_loader_next(loader, &b);) {
            torc_backward(torc_cross_entropy(torc_forward(net, b.x), b.y));
            torc_clip_grad_norm(net, 0.5);
            torc_step(opt);
        }
    CHECK_INT(torc_steps(opt), 3 * 5);
    CHECK(torc_replicas_agree(net));
    if (getenv("TORC_TEST_SAVE"))
        torc_save(net, getenv("TORC_TEST_SAVE"));
    torc_finalize();
}

static const char *trained_by(int ranks, const char *environment)
{
    static int number;
    char output[2000], name[32];
    snprintf(name, sizeof name, "weights%d", number++);
    const char *path = strdup(test_path(name));
    int code = test_command(60, output, sizeof output,
                            "%s TORC_TEST_SAVE=%s OMPI_ALLOW_RUN_AS_ROOT=1 "
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n %d "
                            "/proc/%d/exe --here virtual_ranks_train",
                            environment, path, ranks, (int)getpid());
    test_check(code == 0, __FILE__, __LINE__, "%d ranks, %s: %s", ranks, environment, output);
    return path;
}

TEST(virtual_ranks_give_the_same_bits)
{
    static const struct {
        int ranks;
        const char *environment;
    } worlds[] = {{1, "OMP_NUM_THREADS=2"},
                  {2, "OMP_NUM_THREADS=1"},
                  {3, "TORC_FAKE_HOSTS=2"},
                  {4, "TORC_SHM=private"},
                  {5, "OMP_NUM_THREADS=1"}};
    char output[500];
    const char *alone = trained_by(1, "OMP_NUM_THREADS=1");
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        const char *path = trained_by(worlds[i].ranks, worlds[i].environment);
        CHECK_INT(test_command(10, output, sizeof output, "cmp %s %s", alone, path), 0);
    }
}
