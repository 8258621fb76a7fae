/*
 * torc_lean(): the same bits as without, whatever it is around; how many bytes are kept, and how
 * many there are at most; the same blocks of memory in every step.
 *
 * The reference of a case is the same network without the scope.
 */
#include "core/torc.h"

#include "tests/harness.h"
#include "tests/values.h"

/* ---- the same bits ---- */

typedef torc_module *(*builder)(void);

enum { WIDTH = 8, TEXT = 6, BLOCKS = 3 };

static torc_module *transformer(float dropout)
{
    torc_module *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        block[i] = torc_transformer_block(WIDTH, 2, .dropout = dropout);
    return torc_sequential(block[0], block[1], torc_layer_norm(WIDTH), block[2]);
}

static torc_module *plain_blocks(void)
{
    return transformer(0);
}

static torc_module *blocks_with_dropout(void)
{
    return transformer(0.2f);
}

static torc_module *recomputed_blocks(void)
{
    return torc_sequential(torc_linear(WIDTH, WIDTH), torc_recompute_layer(transformer(0.2f)),
                           torc_linear(WIDTH, WIDTH));
}

/* Every layer that something is made again from, in every order of neighbours. */
static torc_module *mixed_layers(void)
{
    return torc_sequential(torc_linear(WIDTH, 2 * WIDTH), torc_gelu_layer(), torc_dropout(0.3),
                           torc_linear(2 * WIDTH, WIDTH), torc_layer_norm(WIDTH),
                           torc_linear(WIDTH, WIDTH), torc_relu_layer(),
                           torc_linear(WIDTH, WIDTH, .no_bias = true), torc_dropout(0.3),
                           torc_layer_norm(WIDTH), torc_dropout(0.1), torc_linear(WIDTH, WIDTH));
}

static torc_tensor *look(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

/* With a layer of the user's own, who may hold any value: nothing goes. */
static torc_module *watched_blocks(void)
{
    torc_module *block = torc_transformer_block(WIDTH, 2);
    torc_child(block, "eye", torc_module_new("Eye", look, 0));
    return torc_sequential(block, torc_transformer_block(WIDTH, 2));
}

static torc_tensor *texts(int64_t batch, int64_t length, int64_t width)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(batch, length, width), .requires_grad = true);
    torc_seed(11);
    torc_init_uniform(x, -1, 1);
    return x;
}

static torc_tensor *loss_of(torc_module *net, torc_tensor *x, bool lean, torc_dtype dtype)
{
    torc_tensor *loss = NULL;
    torc_autocast(dtype) torc_lean(lean)
    {
        torc_tensor *y = torc_forward(net, x);
        loss = torc_mean(torc_mul(y, y));
    }
    return loss;
}

static void compare(torc_module *const *net)
{
    for (int64_t i = 0; i < torc_parameter_count(net[0]); i++) {
        const char *name;
        torc_tensor *p = torc_parameter_at(net[0], i, &name);
        torc_tensor *q = torc_parameter_at(net[1], i, NULL);
        test_check(same_bits(p, q), __FILE__, __LINE__, "%s differs", name);
        test_check(same_bits(torc_grad(p), torc_grad(q)), __FILE__, __LINE__,
                   "the gradient of %s differs", name);
    }
}

/* Three steps each; the gradients of the last are looked at before they are used. */
static void check_same(builder build, int64_t batch, torc_dtype dtype)
{
    torc_module *net[2];
    torc_optimizer *opt[2];
    torc_tensor *x[2];
    for (int lean = 0; lean < 2; lean++) {
        torc_seed(3);
        net[lean] = build();
        opt[lean] = torc_adamw(net[lean], .lr = 0.1f);
        x[lean] = texts(batch, TEXT, WIDTH);
    }
    for (int step = 0; step < 3; step++) {
        torc_tensor *loss[2];
        for (int lean = 0; lean < 2; lean++) {
            torc_seed((uint64_t)step + 7);
            torc_zero_grad_of(x[lean]);
            loss[lean] = torc_keep(loss_of(net[lean], x[lean], lean, dtype));
            torc_backward(loss[lean]);
        }
        CHECK(same_bits(loss[0], loss[1]));
        CHECK(same_bits(torc_grad(x[0]), torc_grad(x[1])));
        compare(net);
        for (int lean = 0; lean < 2; lean++)
            torc_step(opt[lean]);
        torc_tape_clear();
    }
    compare(net);
}

TEST(the_same_bits)
{
    static const builder all[] = {plain_blocks, blocks_with_dropout, recomputed_blocks,
                                  mixed_layers, watched_blocks};
    for (int i = 0; i < (int)(sizeof all / sizeof *all); i++)
        check_same(all[i], 2, TORC_F32);
}

TEST(the_same_bits_in_bf16)
{
    setenv("TORC_BF16", "emulate", 1);
    check_same(blocks_with_dropout, 2, TORC_BF16);
    check_same(recomputed_blocks, 2, TORC_BF16);
    check_same(mixed_layers, 2, TORC_BF16);
}

/* Products keep bf16 copies of f32 values, and are made again from those. */
TEST(the_same_bits_of_products_in_bf16)
{
    setenv("TORC_BF16", "emulate", 1);
    torc_set_matmul_precision(TORC_BF16);
    check_same(blocks_with_dropout, 2, TORC_F32);
    check_same(mixed_layers, 2, TORC_F32);
}

TEST(an_empty_batch)
{
    check_same(blocks_with_dropout, 0, TORC_F32);
    check_same(mixed_layers, 0, TORC_F32);
}

static torc_module *recomputed_in_lean(bool lean, torc_tensor *x)
{
    torc_seed(3);
    torc_module *net = torc_recompute_layer(transformer(0.2f));
    torc_seed(4);
    torc_lean(lean)
    {
        torc_lean(false) /* within another it is none */
        {
            torc_forward(torc_linear(WIDTH, WIDTH), x);
        }
        torc_backward(torc_mean(torc_forward(net, x))); /* backward inside is as well */
    }
    return net;
}

TEST(backward_may_stand_inside)
{
    torc_tensor *x = texts(2, TEXT, WIDTH);
    torc_module *net[2];
    for (int lean = 0; lean < 2; lean++)
        net[lean] = recomputed_in_lean(lean, x);
    compare(net);
}

/* ---- bytes ---- */

enum { BATCH = 4, LONG = 64, WIDE = 64, HEADS = 2, DEEP = 6 };
static const double one = (double)BATCH * LONG * WIDE * sizeof(float); /* an activation */

static torc_module *deep(void)
{
    torc_module *block[DEEP];
    for (int i = 0; i < DEEP; i++)
        block[i] = torc_transformer_block(WIDE, HEADS);
    return torc_sequential(block[0], block[1], block[2], block[3], block[4], block[5]);
}

/* In activations: what a forward pass leaves, and how far above its start the step went. Peaks only
 * grow. */
static void measure(torc_module *net, torc_tensor *x, bool lean, double *kept, double *peak)
{
    size_t before = torc_memory().live_bytes;
    torc_tensor *loss = loss_of(net, x, lean, TORC_F32);
    *kept = (double)(torc_memory().live_bytes - before) / one;
    torc_backward(loss);
    torc_tape_clear();
    *peak = (double)(torc_memory().peak_bytes - before) / one;
}

/* A block keeps q, k and v (3), attention's result, the sum in the middle, what the activation was
 * made from (4) and its own result; lean, the second and the last of these. A tenth of one is for
 * statistics of rows. */
TEST(a_block_keeps_two_of_ten)
{
    torc_module *net = deep();
    torc_tensor *x = texts(BATCH, LONG, WIDE);
    double kept, peak, all, most, gradients = 1 + torc_parameter_elements(net) * 4 / one;
    measure(net, x, true, &kept, &peak); /* with the gradients, which stay */
    measure(net, x, false, &all, &most);
    test_check(kept > 2 * DEEP && kept < 2.2 * DEEP + 1.1, __FILE__, __LINE__, "kept %g", kept);
    test_check(all > 10 * DEEP, __FILE__, __LINE__, "without: kept %g", all);
    /* of the block that backward is in all that it kept without, what the activation made (4), a
     * norm's result (1), and the gradients of both ends */
    double bound = 2.2 * DEEP + 8 + 4 + 1 + 2 + gradients;
    test_check(peak < bound, __FILE__, __LINE__, "peak %g, expected less than %g", peak, bound);
    test_check(most > 10 * DEEP, __FILE__, __LINE__, "without: peak %g", most);
}

/* Were all made again from each other, they would be there at once when backward begins. */
TEST(every_other_layer_s_result_is_kept)
{
    enum { LAYERS = 8 };
    torc_module *layer[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        layer[i] = torc_linear(WIDE, WIDE);
    torc_module *net = torc_sequential(layer[0], layer[1], layer[2], layer[3], layer[4], layer[5],
                                       layer[6], layer[7]);
    torc_tensor *x = texts(BATCH, LONG, WIDE);
    double kept, peak;
    measure(net, x, true, &kept, &peak);
    /* of the first seven three, the last, and its square */
    test_check(kept > 4.9 && kept < 5.1, __FILE__, __LINE__, "kept %g", kept);
    /* and a gradient at either end of a layer, the one made again, and those of x and of weights */
    double bound = 5.1 + 3 + 1 + torc_parameter_elements(net) * 4 / one;
    test_check(peak < bound, __FILE__, __LINE__, "peak %g, expected less than %g", peak, bound);
}

TEST(equal_steps_allocate_nothing)
{
    torc_module *net = blocks_with_dropout();
    torc_optimizer *opt = torc_adamw(net, .lr = 0.01f);
    torc_tensor *x = texts(8, TEXT, WIDTH);
    int64_t first = 0;
    for (int step = 0; step < 8; step++) {
        torc_backward(loss_of(net, x, true, TORC_F32));
        torc_step(opt);
        torc_tape_clear();
        if (step == 1)
            first = torc_memory().allocations;
    }
    CHECK_INT(torc_memory().allocations, first);
}

/* ---- in a job ---- */

static torc_module *replica(bool lean, torc_ddp_options o)
{
    torc_seed(3);
    torc_module *net = (torc_ddp)(TORC_HERE, transformer(0.1f), o);
    torc_optimizer *opt = torc_adamw(net, .lr = 0.1f);
    torc_tensor *x = texts(8, TEXT, WIDTH);
    torc_loader *loader = torc_loader_new(torc_arrays(x, x), .batch_size = 4, .endless = true);
    for (torc_batch b; torc_steps(opt) < 4 && torc_loader_next(loader, &b);) {
        torc_backward(loss_of(net, b.x, lean, TORC_F32));
        torc_step(opt);
    }
    return net;
}

static void check_replicas(torc_ddp_options o)
{
    torc_init(NULL, NULL);
    torc_module *net[2] = {replica(false, o), replica(true, o)};
    for (int64_t i = 0; i < torc_parameter_count(net[0]); i++)
        CHECK(same_bits(torc_parameter_at(net[0], i, NULL), torc_parameter_at(net[1], i, NULL)));
    CHECK(torc_replicas_agree(net[1]));
    torc_finalize();
}

TEST_RANKS(the_same_weights_on_ranks, 2)
{
    check_replicas((torc_ddp_options){0});
}

TEST_RANKS(the_same_weights_where_the_optimizer_is_sharded, 2)
{
    check_replicas((torc_ddp_options){.shard_optimizer = true});
}

TEST_RANKS(the_same_weights_on_virtual_ranks, 2)
{
    check_replicas((torc_ddp_options){.virtual_ranks = 4});
}
