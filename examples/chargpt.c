/*
 * chargpt -- a GPT on the characters of a text: trains, tells its validation loss, writes a sample.
 *
 *     chargpt --data FILE            torcrun -n 4 chargpt --data FILE --layers 6 --width 384
 * --context 256
 *
 * The network is GPT-2's (Radford et al. 2019): token and position embeddings, pre-norm blocks, and
 * an output layer that shares the token embedding's weights. The last tenth of the text is for
 * validation.
 */
#include "examples/common/meter.h"
#include "examples/common/options.h"
#include "torc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the network: a module of our own ---- */

typedef struct gpt {
    torc_module *wte, *wpe, *blocks[64], *ln_f;
    long layers;
} gpt;

/* ids [B, T] -> logits [B, T, vocabulary] */
static torc_tensor *gpt_forward(torc_module *self, torc_tensor *ids)
{
    gpt *g = torc_module_state(self);
    torc_tensor *places = torc_arange(torc_size(ids, 1), .dtype = TORC_I64);
    torc_tensor *x = torc_add(torc_forward(g->wte, ids), torc_forward(g->wpe, places));
    for (long i = 0; i < g->layers; i++)
        x = torc_forward(g->blocks[i], x);
    return torc_linear_op(torc_forward(g->ln_f, x), torc_parameter_named(g->wte, "weight"), NULL);
}

/* Normal 0.02, residual projections divided by sqrt(2 layers), biases 0. */
static void init_weights(torc_module *net, long layers)
{
    for (int64_t i = 0; i < torc_parameter_count(net); i++) {
        const char *name;
        torc_tensor *p = torc_parameter_at(net, i, &name);
        double residual = strstr(name, "c_proj") ? sqrt(2.0 * (double)layers) : 1;
        if (strstr(name, "bias"))
            torc_init_constant(p, 0);
        else if (torc_ndim(p) > 1)
            torc_init_normal(p, 0, 0.02 / residual);
    }
}

static torc_module *gpt_new(int64_t vocabulary, long layers, long heads, long width, long context)
{
    torc_module *net = torc_module_new("GPT", gpt_forward, sizeof(gpt));
    gpt *g = torc_module_state(net);
    g->layers = layers;
    g->wte = torc_child(net, "wte", torc_embedding(vocabulary, width));
    g->wpe = torc_child(net, "wpe", torc_embedding(context, width));
    for (long i = 0; i < layers; i++) {
        char name[16];
        snprintf(name, sizeof name, "h%ld", i);
        g->blocks[i] = torc_child(net, name, torc_transformer_block(width, (int)heads));
    }
    g->ln_f = torc_child(net, "ln_f", torc_layer_norm(width));
    init_weights(net, layers);
    return net;
}

/* Backward computes the tensors within a block again; between blocks they are kept. */
static void recompute_blocks(torc_module *net)
{
    gpt *g = torc_module_state(net);
    for (long i = 0; i < g->layers; i++)
        torc_recompute_layer(g->blocks[i]);
}

/* ---- after training ---- */

static double validation_loss(torc_module *net, torc_dataset *text, long batch)
{
    torc_loader *loader = torc_loader_new(text, .batch_size = batch);
    double sum = 0, count = 0;
    torc_eval(net);
    TORC_NO_GRAD
    {
        for (torc_batch b; torc_loader_next(loader, &b);) {
            torc_tensor *loss = torc_cross_entropy(torc_forward(net, b.x), b.y);
            sum += torc_item(loss) * torc_weight(loss);
            count += torc_weight(loss);
        }
    }
    torc_train(net);
    torc_loader_free(loader);
    return torc_sum_over_ranks(sum) / fmax(torc_sum_over_ranks(count), 1);
}

/* Draws the next character from softmax(logits / temperature). */
static int64_t draw(torc_tensor *logits, int64_t vocabulary, double temperature)
{
    float p[vocabulary];
    torc_read(torc_softmax(torc_mul_scalar(logits, 1 / temperature), -1), TORC_F32, p, vocabulary);
    double r = torc_item(torc_rand(TORC_SCALAR));
    int64_t id = 0;
    while (id < vocabulary - 1 && (r -= p[id]) > 0)
        id++;
    return id;
}

static void write_sample(torc_module *net, torc_dataset *text, long context, long length)
{
    int64_t vocabulary = torc_text_vocabulary(text), window[context];
    long known = torc_text_encode(text, "\n", window, 1);
    if (known == 0)
        window[known++] = 0;
    torc_eval(net);
    TORC_NO_GRAD
    {
        for (long i = 0; i < length; i++) {
            torc_tensor *ids = torc_zeros(TORC_SHAPE(1, known), .dtype = TORC_I64);
            torc_write(ids, TORC_I64, window, known);
            torc_tensor *last = torc_slice(torc_forward(net, ids), 1, known - 1, known, 1);
            int64_t id = draw(torc_reshape(last, TORC_SHAPE(vocabulary)), vocabulary, 0.8);
            fputs(torc_text_decode(text, id), stdout);
            if (known == context)
                memmove(window, window + 1, (size_t)(--known) * sizeof *window);
            window[known++] = id;
            torc_tape_clear();
        }
    }
    torc_train(net);
    printf("\n");
}

static void write_table(const meter *m, torc_module *net, double loss, double peak)
{
    double step = meter_step_seconds(m), rate = (double)m->per_step / step;
    torc_ddp_stats s = torc_ddp_statistics(net);
    double means = s.steps ? (double)s.steps : 1;
    double wait = torc_max_over_ranks(s.wait_seconds / means);
    double hidden = torc_max_over_ranks(s.overlapped_seconds / means);
    if (torc_rank() != 0)
        return;
    printf("\n  ranks x threads             %d x %d\n", torc_world_size(), torc_threads());
    printf("  parameters                  %lld\n", (long long)torc_parameter_elements(net));
    printf("  validation loss             %.4f\n", loss);
    printf("  tokens/s                    %.0f\n", rate);
    printf("  step                        %.1f ms\n", 1e3 * step);
    printf("  gradients summed            %.2f MB a step\n", 1e-6 * s.bytes / means);
    printf("  adding them in backward     %.1f %% of the step\n", 100 * hidden / step);
    printf("  waiting for communication   %.1f %% of the step\n", 100 * wait / step);
    printf("  peak memory of a rank       %.0f MB\n", peak);
}

/* How many steps fit into `seconds`, judged by the first ones; every rank gets the same answer. */
static long steps_in(double seconds, const meter *m)
{
    double a_step = (torc_seconds() - m->started) / (double)m->steps;
    return (long)torc_max_over_ranks(fmax(floor(seconds / a_step), (double)m->steps + 1));
}

int main(int argc, char **argv)
{
    common_options o = {.steps = 2000,
                        .batch = 48,
                        .lr = 1e-3,
                        .seed = 1,
                        .warmup = 20,
                        .epochs = 1,
                        .checkpoint_every = 100};
    long layers = 4, heads = 4, width = 128, context = 64, sample = 300, valid = 1;
    int recompute = 0;
    double seconds = 0;
    const char *data = "data/input.txt", *name = "chargpt";
    const option table[] = {COMMON_OPTIONS(o),
                            CHECKPOINT_OPTIONS(o),
                            {"data", OPTION_TEXT, &data, "the text (UTF-8)"},
                            {"layers", OPTION_INT, &layers, "transformer blocks"},
                            {"heads", OPTION_INT, &heads, "attention heads"},
                            {"width", OPTION_INT, &width, "of the embedding"},
                            {"context", OPTION_INT, &context, "characters seen at once"},
                            {"recompute", OPTION_FLAG, &recompute, "less memory, more time"},
                            {"seconds", OPTION_NUMBER, &seconds, "train for about so long"},
                            {"sample", OPTION_INT, &sample, "characters to write at the end"},
                            {"valid", OPTION_INT, &valid, "0: no validation at the end"},
                            {"name", OPTION_TEXT, &name, "workload in the JSON line"}};
    options_parse(argc, argv, "trains a GPT on the characters of a text", table,
                  sizeof table / sizeof *table);
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);

    torc_dataset *text = torc_text(data, .context = context, .to = 0.9);
    torc_dataset *rest = torc_text(data, .context = context, .stride = context, .from = 0.9);
    torc_module *net = gpt_new(torc_text_vocabulary(text), layers, heads, width, context);
    if (recompute)
        recompute_blocks(net);
    net = torc_ddp(net, .virtual_ranks = (int)o.virtual_ranks); /* the single line */
    if (o.load)
        torc_load(net, o.load);
    torc_optimizer *opt = torc_adamw(net, .lr = (float)o.lr, .beta2 = 0.95f, .weight_decay = 0.1f);
    torc_loader *loader = torc_loader_new(text, .batch_size = o.batch, .shuffle = true,
                                          .seed = (uint64_t)o.seed, .endless = true);
    long steps = o.steps ? o.steps : o.epochs * torc_loader_batches(loader);
    if (o.checkpoint)
        torc_checkpoint_load(net, o.checkpoint, .optimizer = opt, .loader = loader);
    long done = (long)torc_steps(opt); /* in the run that is gone on with */

    meter m = meter_new(steps - done, o.warmup, o.batch * context, "tokens");
    for (torc_batch batch; m.steps < m.total && torc_loader_next(loader, &batch);) {
        meter_start_step(&m);
        torc_tensor *loss = NULL;
        torc_autocast(o.bf16 ? TORC_BF16 : TORC_F32)
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
        if (seconds > 0 && m.steps == 20)
            m.total = steps_in(seconds, &m);
    }

    double loss = valid ? validation_loss(net, rest, o.batch) : 0, peak = meter_peak_megabytes();
    if (torc_rank() == 0 && sample > 0)
        write_sample(net, text, context, sample);
    write_table(&m, net, loss, peak);
    if (o.save)
        torc_save(net, o.save);
    meter_write_json(&m, o.json,
                     (result){name, "val_loss", loss, o.batch, o.batch * context, o.bf16});
    meter_free(&m);
    torc_finalize();
    return 0;
}
