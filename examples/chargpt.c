/*
 * chargpt -- a GPT on the characters of a text: trains, tells its validation loss, writes a sample.
 *
 *     chargpt --data FILE                torcrun -n 4 chargpt --data FILE --layers 6 --width 384
 *
 * The network is GPT-2's (examples/common/gpt.h). The last tenth of the text is for validation.
 */
#include "examples/common/gpt.h"
#include "examples/common/meter.h"
#include "examples/common/options.h"
#include "torc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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
    gpt_sizes s = {.context = 64, .layers = 4, .heads = 4, .width = 128};
    long sample = 300, valid = 1;
    int recompute = 0, lean = 0;
    double seconds = 0;
    const char *data = "data/input.txt", *name = "chargpt";
    const option table[] = {COMMON_OPTIONS(o),
                            CHECKPOINT_OPTIONS(o),
                            {"data", OPTION_TEXT, &data, "the text (UTF-8)"},
                            {"layers", OPTION_INT, &s.layers, "transformer blocks"},
                            {"heads", OPTION_INT, &s.heads, "attention heads"},
                            {"width", OPTION_INT, &s.width, "of the embedding"},
                            {"context", OPTION_INT, &s.context, "characters seen at once"},
                            {"lean", OPTION_FLAG, &lean, "less memory, some more time (torc_lean)"},
                            {"recompute", OPTION_FLAG, &recompute, "the least memory, more time"},
                            {"seconds", OPTION_NUMBER, &seconds, "train for about so long"},
                            {"sample", OPTION_INT, &sample, "characters to write at the end"},
                            {"valid", OPTION_INT, &valid, "0: no validation at the end"},
                            {"name", OPTION_TEXT, &name, "workload in the JSON line"}};
    options_parse(argc, argv, "trains a GPT on the characters of a text", table,
                  sizeof table / sizeof *table);
    torc_dtype dtype = options_dtype(&o, "chargpt");
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);

    torc_dataset *text = torc_text(data, .context = s.context, .to = 0.9);
    torc_dataset *rest = torc_text(data, .context = s.context, .stride = s.context, .from = 0.9);
    s.vocabulary = torc_text_vocabulary(text);
    torc_module *net = gpt_new(s);
    if (recompute)
        gpt_recompute(net);
    net = torc_ddp(net, .virtual_ranks = (int)o.virtual_ranks, .graph = o.graph,
                   .shard_optimizer = o.shard); /* the single line */
    if (o.load)
        torc_load(net, o.load);
    bool early = lean && dtype != TORC_F16; /* a loss scale may have to skip the step */
    torc_optimizer *opt = torc_adamw(net, .lr = (float)o.lr, .beta2 = 0.95f, .weight_decay = 0.1f,
                                     .in_backward = early);
    torc_loader *loader = torc_loader_new(text, .batch_size = o.batch, .shuffle = true,
                                          .seed = (uint64_t)o.seed, .endless = true);
    long steps = o.steps ? o.steps : o.epochs * torc_loader_batches(loader);
    if (o.checkpoint)
        torc_checkpoint_load(net, o.checkpoint, .optimizer = opt, .loader = loader);
    long done = (long)torc_steps(opt); /* in the run that is gone on with */

    meter m = meter_new(steps - done, o.warmup, o.batch * s.context, "tokens");
    for (torc_batch batch; m.steps < m.total && torc_loader_next(loader, &batch);) {
        meter_start_step(&m);
        torc_tensor *loss = NULL;
        torc_autocast(dtype) torc_lean(lean)
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

    double loss = valid ? validation_loss(net, rest, o.batch) : 0;
    if (torc_rank() == 0 && sample > 0)
        write_sample(net, text, s.context, sample);
    if (torc_rank() == 0)
        printf("\n  validation loss             %.4f\n", loss);
    meter_print(&m, net);
    if (o.save)
        torc_save(net, o.save);
    meter_write_json(
        &m, o.json, (result){name, "val_loss", loss, o.batch, o.batch * s.context, dtype, o.graph});
    meter_free(&m);
    torc_finalize();
    return 0;
}
